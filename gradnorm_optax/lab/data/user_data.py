"""The user's own examples: found, whatever they are, and read."""

import inspect
import pathlib
from collections.abc import Callable
from typing import Any

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import arrays, pictures, tables
from gradnorm_optax.lab.data.raw import Raw
from gradnorm_optax.lab.support import user_code
from gradnorm_optax.lab.support.errors import LabError, nearest

MEND = '(inputs, labels) or (inputs, labels, lengths)'


def read(config: schema.Data) -> Raw:
  """Reads what `[data]` names: a table, arrays or the user's function."""
  if config.target is not None:
    return _called(config, config.target)
  path = pathlib.Path(config.path or '').expanduser()
  try:
    path.stat()
  except OSError as error:
    here = '' if path.is_absolute() else f' in {pathlib.Path.cwd()}'
    raise LabError(
        f'[data] path: {path} does not exist{here}' if isinstance(
            error, FileNotFoundError)
        else f'[data] path: {path}: {error.strerror}') from error
  if path.is_dir():
    return pictures.folder(config, path)
  readers: dict[str, Callable[[schema.Data, pathlib.Path], Raw]] = {
      '.npz': arrays.npz, '.npy': arrays.npy, '.csv': tables.file,
      '.parquet': tables.file}
  kind = path.suffix.lower()
  if kind not in readers:
    raise LabError(f'[data] path: {path}: unknown kind of file'
                   f'{nearest(kind, readers)}')
  return readers[kind](config, path)


def _called(config: schema.Data, name: str) -> Raw:
  """Calls the user's function; what it raises stays as it is."""
  function = user_code.resolve(name)
  if not callable(function):
    raise LabError(f'[data] target: {name!r} is {arrays.kind(function)}, not a '
                   f'function that returns {MEND}')
  try:
    inspect.signature(function).bind()
  except TypeError as error:
    raise LabError(f'[data] target: {name!r} is called without arguments: '
                   f'{error}; give them defaults') from error
  except ValueError:  # a signature that cannot be looked at
    pass
  with user_code.importing(f'[data] target: {name!r}'):
    given = function()
  if not isinstance(given, tuple) or len(given) not in (2, 3):
    raise LabError(f'[data] target: {name!r} must return {MEND}, not '
                   + (f'{len(given)} values' if isinstance(given, tuple)
                      else arrays.kind(given)))
  if hasattr(given[0], 'iloc') and hasattr(given[0], 'columns'):
    return _framed(config, name, *given)
  for key in ('ignore', 'categorical'):
    if getattr(config, key):
      raise LabError(f'[data] {key} names columns, and {name!r} returned '
                     f'inputs without names, {arrays.kind(given[0])}; return a '
                     f'pandas table, or leave {key} out')
  return arrays.checked(config, name, *given)


def _framed(config: schema.Data, name: str, frame: Any, y: Any,
            lengths: Any = None) -> Raw:
  """Reads inputs that are a pandas table, whose columns have names."""
  if lengths is not None:
    raise LabError(f'{name}: a table has no lengths; give sequences as a list '
                   'of arrays')
  frame = frame.rename(columns=str)
  called = str(getattr(y, 'name', None) or config.label)
  if called in frame and called not in config.ignore:
    raise LabError(f'{name}: the inputs hold the label\'s column {called!r} '
                   'too; drop it, or name it in data.ignore')
  index = getattr(y, 'index', frame.index)
  if callable(index):  # of a list
    index = frame.index
  if (not index.equals(frame.index) and len(index) == len(frame.index)
      and index.is_unique and index.isin(frame.index).all()):
    raise LabError(f'{name}: the labels have the index of the inputs in another'
                   ' order; give labels.loc[inputs.index]')
  y = arrays.array(name, 'labels', arrays.listed(name, 'labels', y))
  if len(frame) != len(y):
    raise LabError(f'{name}: {len(frame)} inputs, but {len(y)} labels')
  return tables.table(config, name, frame, lambda row: f'{name}: row {row}', y)
