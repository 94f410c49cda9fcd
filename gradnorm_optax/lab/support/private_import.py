"""Imports the user's modules under private names, one set for each folder.

Two folders may each hold a `my_model.py`, and `sys.path` stays as it is: the
file is imported as `_gradnorm_user_DIGEST.my_model`. What it imports from its
own folder comes from there too, for its modules carry an `__import__` of their
own, which looks there first.
"""

import builtins
import functools
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

PREFIX = '_gradnorm_user_'
_FOLDERS: dict[str, str] = {}  # {private package: folder}


def home(module: str, folders: Iterable[str]) -> str | None:
  """The private package of the first folder that holds a module, or None."""
  top = module.partition('.')[0]
  importlib.invalidate_caches()
  return next((_package(folder) for folder in folders if _holds(folder, top)),
              None)


def folder(module: str) -> str | None:
  """The folder that a private module was found in; None if it is none."""
  return _FOLDERS.get(module.partition('.')[0])


def adopt(package: str, place: str) -> None:
  """Lets a private package of another process stand for a folder here.

  What that process pickled names its modules so. Those that came from another
  folder under this name are forgotten.
  """
  if _FOLDERS.get(package) != place:
    for name in list(sys.modules):
      if name.partition('.')[0] == package:
        del sys.modules[name]
  _stand(package, place)


def _package(place: str) -> str:
  """The name of the private package that stands for a folder."""
  name = next((name for name, known in _FOLDERS.items() if known == place),
              PREFIX + hashlib.sha256(place.encode()).hexdigest()[:12])
  return _stand(name, place)


def _stand(name: str, place: str) -> str:
  _FOLDERS[name] = place
  if not any(isinstance(one, _Finder) for one in sys.meta_path):
    sys.meta_path.insert(0, _Finder())
  return name


def _holds(place: str, top: str) -> bool:
  """Whether modules of a name come from this folder, under a private name.

  Not where Python has the very file under its own name already (a notebook
  imported it, or it is this package): there would be two of each class. A
  folder without `__init__.py` yields to what is installed.
  """
  spec = importlib.machinery.PathFinder.find_spec(top, [place])
  if spec is None or top == '__main__':
    return False
  known = sys.modules.get(top)
  if spec.origin is None:
    return known is None and (
        importlib.machinery.PathFinder.find_spec(top) is None)
  file = getattr(known, '__file__', None)
  return file is None or os.path.realpath(file) != os.path.realpath(spec.origin)


class _Finder(importlib.abc.MetaPathFinder):
  """Finds modules of private packages; all others are left alone."""

  def find_spec(self, fullname: str, path: Any = None,
                target: ModuleType | None = None) -> Any:
    """Finds a folder's package, or a module in it."""
    del target
    place = folder(fullname)
    if place is None:
      return None
    if fullname in _FOLDERS:
      spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
      spec.submodule_search_locations = [place]
      return spec
    found = importlib.machinery.PathFinder.find_spec(fullname, path)
    if found and isinstance(
        found.loader, importlib.machinery.SourceFileLoader):
      found.loader = _Loader(fullname, found.loader.path)
    return found


class _Loader(importlib.machinery.SourceFileLoader):
  """Runs a module whose imports look into its own folder first."""

  def exec_module(self, module: ModuleType) -> None:
    """Runs the module's code."""
    package = module.__name__.partition('.')[0]
    vars(module)['__builtins__'] = {
        **vars(builtins), '__import__': functools.partial(_import, package)}
    super().exec_module(module)


def _import(package: str, name: str, globals: Any = None, locals: Any = None,
            fromlist: Any = (), level: int = 0) -> ModuleType:
  """What `import` statements of a private module call."""
  top = name.partition('.')[0]
  if level or not _holds(_FOLDERS[package], top):
    return builtins.__import__(name, globals, locals, fromlist, level)
  found = builtins.__import__(
      f'{package}.{name}', globals, locals, fromlist, 0)
  return found if fromlist else sys.modules[f'{package}.{top}']
