"""The user's own code, named `package.module:function`."""

import ast
import contextlib
import functools
import hashlib
import importlib
import importlib.util
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

from gradnorm_optax.lab.support import private_import
from gradnorm_optax.lab.support.errors import LabError, nearest

_places: tuple[str, ...] = ()  # where the user's modules are looked for first


def search(folders: Iterable[str]) -> None:
  """Names the folders in which the user's modules are looked for, in order.

  Those of the configuration that is read last; then comes what Python itself
  finds. Nothing is added to `sys.path`: see `private_import`.
  """
  global _places
  _places = tuple(dict.fromkeys(folders))


def searched() -> tuple[str, ...]:
  """Those folders."""
  return _places


def beside(name: str) -> pathlib.Path:
  """A file of the user's: where modules are looked for, else from here.

  Where modules are looked for, the configuration's folder comes first.
  """
  path = pathlib.Path(name).expanduser()
  place = origin(name)
  if path.is_absolute() or place is None:
    return path
  # From here, where that is here: messages say what was written.
  here = pathlib.Path(place) == pathlib.Path.cwd()
  return path if here else pathlib.Path(place) / path


def origin(name: str) -> str | None:
  """The folder in which `beside` finds a file; None if in none of its own."""
  path = pathlib.Path(name).expanduser()
  return next((place for place in _places if not path.is_absolute()
               and _exists(pathlib.Path(place) / path)), None)


def _exists(path: pathlib.Path) -> bool:
  try:
    return path.exists()
  except OSError:  # a name that no disk takes
    return False


def resolve(name: str) -> Callable[..., Any]:
  """Imports the function.

  Raises:
    LabError: No such module or function, or a module that cannot be imported,
      whatever it raises.
  """
  if not re.fullmatch(r'\w+(\.\w+)*(?<!\.py):\w+', name):
    raise LabError(f'{name!r} names no function; write "package.module:'
                   'function", such as "my_data:load" for load in my_data.py')
  module, _, function = name.partition(':')
  try:
    found = _imported(module)
  except (ImportError, SyntaxError) as error:
    raise LabError(f'{name!r}: cannot import {module!r} ({error})') from error
  except SystemExit as error:
    raise LabError(f'{name!r}: importing {module!r} ends the program; put what '
                   'it runs under `if __name__ == "__main__":`') from error
  except Exception as error:
    raise LabError(f'{name!r}: cannot import {module!r}: {told(error)}'
                   ) from error
  if not hasattr(found, function):
    known = [key for key, value in vars(found).items()
             if not key.startswith('_') and callable(value)]
    raise LabError(f'{name!r}: {getattr(found, "__file__", module)} has no '
                   f'{function!r}{nearest(function, known)}')
  return getattr(found, function)


def _imported(module: str) -> ModuleType:
  """Imports a module of the user's folders, else what Python finds."""
  home = private_import.home(module, _places)
  if home is None:
    return importlib.import_module(module)
  try:
    return importlib.import_module(f'{home}.{module}')
  except ImportError as error:
    error.msg = error.msg.replace(f'{home}.', '')
    raise


def _module(name: str) -> ModuleType | None:
  """The module of a function, if it is imported."""
  module = name.partition(':')[0]
  home = private_import.home(module, _places)
  return sys.modules.get(f'{home}.{module}' if home else module)


def places(names: Iterable[str]) -> list[str]:
  """The folders in which these functions' modules were found."""
  found = set()
  for name in names:
    module = _module(name)
    file = getattr(module, '__file__', None)
    if module is None or file is None:
      continue
    found.add(root(module))
  return sorted(found)


def root(module: ModuleType) -> str:
  """The folder that a module of the user's was found in."""
  path = pathlib.Path(module.__file__ or '').resolve()
  depth = module.__name__.count('.') + (path.stem == '__init__')
  return private_import.folder(module.__name__) or str(path.parents[depth])


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
  """Says in one line what the user's own code raised, and where.

  Args:
    what: Whose code it is, and how it was called.
  """
  try:
    yield
  except LabError:
    raise
  except Exception as error:
    raise LabError(f'{what} raised {told(error)}') from error


def told(error: BaseException) -> str:
  """What was raised, in its first line, and where in the user's code."""
  first = (str(error).strip().splitlines() or [''])[0]
  return f'{type(error).__name__}: {first}{place(error)}'


def digests(names: Iterable[str]) -> list[str]:
  """Digests of the code behind these functions."""
  return [digest(name) for name in names]


def digest(name: str) -> str:
  """A digest of the file that it stands in and of the user's that this imports.

  Files count as they were when first asked for; packages that are installed do
  not count.
  """
  return '-'.join(sorted(found for _, found in files(name).values()))


def files(name: str) -> dict[str, tuple[ModuleType, str]]:
  """{file: (module, digest)}: what a digest is made of."""
  found: dict[str, tuple[ModuleType, str]] = {}
  first = _module(name)
  waiting = [first] if first is not None else []
  while waiting:
    module = waiting.pop()
    path = getattr(module, '__file__', None) or ''
    if path in found or not path.endswith('.py') or installed(path):
      continue
    digest, imported = _read(path, module.__package__ or '')
    found[path] = module, digest
    # What it imports from its own folder has a private name, as it has itself.
    own = module.__name__.partition('.')[0]
    beside = [f'{own}.{other}' for other in imported] if (
        private_import.folder(own)) else []
    waiting += [sys.modules[other] for other in (*imported, *beside)
                if other in sys.modules]
  return found


@functools.cache
def _read(path: str, package: str) -> tuple[str, list[str]]:
  """The digest of a file and what it imports, as it was when first read."""
  content = pathlib.Path(path).read_bytes()
  return hashlib.sha256(content).hexdigest()[:16], _imports(content, package)


def _imports(content: bytes, package: str) -> list[str]:
  """The modules that a file may import, and the packages that they lie in."""
  try:
    tree = ast.parse(content)
  except SyntaxError:  # it is being edited; what was imported was whole
    return []
  found = []
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      found += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ''
      if node.level:
        base = importlib.util.resolve_name('.' * node.level + base, package)
      found += [base, *(f'{base}.{alias.name}' for alias in node.names)]
  return [name.rsplit('.', up)[0] for name in found
          for up in range(name.count('.') + 1)]


def installed(path: str) -> bool:
  """Whether a file is of this package, of another one or of Python itself."""
  return any(part in path for part in (
      str(pathlib.Path(__file__).parents[2]),
      str(pathlib.Path(os.__file__).parent), 'site-packages', '<frozen'))


def place(error: BaseException) -> str:
  """Where in the user's code something was raised: ' (file, line n)', or ''."""
  frames = [frame for frame in traceback.extract_tb(error.__traceback__)
            if not installed(frame.filename)]
  if not frames:
    return ''
  last = frames[-1]
  return f' ({pathlib.Path(last.filename).name}, line {last.lineno})'
