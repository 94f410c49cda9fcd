"""The user's own code, named `package.module:function`."""

import functools
import hashlib
import importlib
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from gradnorm_optax.lab.errors import LabError, nearest


def load(name: str) -> Callable[..., Any]:
  """Imports the function."""
  module, _, function = name.partition(':')
  try:
    found = importlib.import_module(module)
  except ImportError as error:
    raise LabError(f'{name!r}: cannot import {module!r} ({error})') from error
  if not hasattr(found, function):
    known = [key for key in vars(found) if not key.startswith('_')]
    raise LabError(f'{name!r}: {module!r} has no {function!r}'
                   f'{nearest(function, known)}')
  return getattr(found, function)


@functools.cache
def digest(name: str) -> str:
  """A digest of the file that it stands in."""
  module = sys.modules.get(name.partition(':')[0])
  path = getattr(module, '__file__', None)
  if path is None or not pathlib.Path(path).exists():
    return ''
  return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:16]
