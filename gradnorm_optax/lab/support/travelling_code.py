"""The user's modules, taken to another process and imported there."""

import pathlib
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

from gradnorm_optax.lab.support import private_import, user_code
from gradnorm_optax.lab.support.errors import LabError


class Folder(NamedTuple):
  """Modules that were found in one folder.

  Attributes:
    package: The private package that they are in, if they are.
    files: {path below the folder: content}.
  """

  package: str | None
  files: dict[str, bytes]


def pack(names: Iterable[str]) -> list[Folder]:
  """The files behind these functions, folder by folder.

  Those that they import come with them, and those of the packages that they lie
  in; what is installed does not.

  Raises:
    LabError: A function of the program that is running.
  """
  found: dict[str, Folder] = {}
  for name in names:
    if name.startswith('__main__:'):
      raise LabError(f'{name!r} is of the program that is running and cannot '
                     'travel to a worker; put it into a module of its own')
    for path, (module, _) in user_code.files(name).items():
      root = user_code.root(module)
      package = module.__name__.partition('.')[0] if (
          private_import.folder(module.__name__)) else None
      files = found.setdefault(root, Folder(package, {})).files
      for file in (pathlib.Path(path), *_above(pathlib.Path(path), root)):
        files[file.resolve().relative_to(
            pathlib.Path(root).resolve()).as_posix()] = file.read_bytes()
  order = [root for root in user_code.searched() if root in found]
  return [found[root] for root in dict.fromkeys([*order, *found])]


def _above(path: pathlib.Path, root: str) -> list[pathlib.Path]:
  """The `__init__.py` of the packages that a file lies in."""
  inside = path.resolve().relative_to(pathlib.Path(root).resolve())
  return [file for up in range(len(inside.parents) - 1)
          if (file := path.parents[up] / '__init__.py').exists()]


def unpack(folders: Iterable[Folder], place: pathlib.Path) -> tuple[str, ...]:
  """Writes the files below a folder, where they are looked for from now on.

  Returns:
    The folders, as `user_code.searched` tells them.
  """
  places = []
  for index, (package, files) in enumerate(folders):
    here = place / str(index)
    for name, content in files.items():
      path = here / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(content)
    if package:
      private_import.adopt(package, str(here))
    places.append(str(here))
  user_code.search(places)
  return tuple(places)


def public(names: Iterable[str]) -> list[ModuleType]:
  """The user's modules that Python knows under their own names."""
  found = [module for name in names
           for module, _ in user_code.files(name).values()]
  return [sys.modules[module.__name__] for module in found
          if not private_import.folder(module.__name__)]


def digests(names: Iterable[str]) -> dict[str, str]:
  """{file below its folder: digest}, as it was when first read."""
  return {
      pathlib.Path(path).resolve().relative_to(
          pathlib.Path(user_code.root(module)).resolve()).as_posix(): digest
      for name in names
      for path, (module, digest) in user_code.files(name).items()}
