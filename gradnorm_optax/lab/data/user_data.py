"""The user's own examples: found, whatever they are, and read."""

import inspect
import pathlib
from typing import Any

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import (
  array_files,
  array_parts,
  arrays,
  picture_folders,
  table_files,
  tables,
)
from gradnorm_optax.lab.data.raw import FREE, TEST, VALIDATION, Raw
from gradnorm_optax.lab.support import user_code
from gradnorm_optax.lab.support.errors import LabError, nearest

MEND = '(inputs, labels) or (inputs, labels, lengths)'


def read(config: schema.Data) -> Raw:
  """Reads what `[data]` names: a table, arrays or the user's function.

  A part that has a file or a function of its own comes last.
  """
  own = [(config.path or config.target or '', FREE)]
  own += [(held, code) for held, code in (
      (config.validation, VALIDATION), (config.test, TEST))
          if isinstance(held, str)]
  names = [name for name, _ in own]
  if config.target is not None:
    raw, sizes = _called(config, names)
  else:
    paths = _existing(names)
    if paths[0].is_dir():
      return picture_folders.read(config, [
          (path, code) for path, (_, code) in zip(paths, own, strict=True)])
    raw, sizes = _files(config, paths)
  if len(own) > 1:
    raw = raw._replace(part=np.repeat([code for _, code in own], sizes))
  return raw


def _existing(names: list[str]) -> list[pathlib.Path]:
  """The paths, if they exist."""
  paths = [user_code.beside(name) for name in names]
  for key, path in zip(('path', 'validation or test', 'test'), paths,
                       strict=False):
    try:
      path.stat()
    except OSError as error:
      here = '' if path.is_absolute() else (
          f' in {pathlib.Path.cwd()}, nor beside the configuration')
      raise LabError(
          f'[data] {key}: {path} does not exist{here}' if isinstance(
              error, FileNotFoundError)
          else f'[data] {key}: {path}: {error.strerror}') from error
  return paths


def _files(config: schema.Data, paths: list[pathlib.Path]
           ) -> tuple[Raw, list[int]]:
  """Reads files of one kind, and how many examples each holds."""
  kind = paths[0].suffix.lower()
  if kind in ('.csv', '.parquet'):
    return _tables(config, paths)
  if kind == '.npz':
    return array_files.archives(config, paths)
  if kind != '.npy':
    raise LabError(f'[data] path: {paths[0]}: unknown kind of file'
                   f'{nearest(kind, (".npz", ".npy", ".csv", ".parquet"))}')
  raw = array_files.npy(config, paths[0])
  return raw, [len(raw.y)]


def _tables(config: schema.Data, paths: list[pathlib.Path]
            ) -> tuple[Raw, list[int]]:
  """Reads tables of the same columns."""
  found = []
  for path in paths:
    if path.suffix.lower() not in ('.csv', '.parquet'):
      raise LabError(f'[data] {path}: no table, as {paths[0]} is')
    found.append(table_files.read(config, path))
  sizes = [len(one.frame) for one in found]
  return tables.table(config, str(paths[0]), table_files.joined(
      [str(path) for path in paths], found)), sizes


def _called(config: schema.Data, names: list[str]) -> tuple[Raw, list[int]]:
  """Calls the user's functions."""
  found = [_given(name, config.options) for name in names]
  sizes = [len(one[1]) if hasattr(one[1], '__len__') else 0 for one in found]
  if hasattr(found[0][0], 'iloc') and hasattr(found[0][0], 'columns'):
    framed = [_framed(config, name, *given)
              for name, given in zip(names, found, strict=True)]
    y = np.concatenate([y for _, y in framed])
    return tables.table(config, names[0], table_files.joined(
        names, [frame for frame, _ in framed]), y), sizes
  for key in ('ignore', 'categorical', 'group', 'time', 'na_values'):
    if getattr(config, key):
      raise LabError(f'[data] {key} names columns, and {names[0]!r} returned '
                     'inputs without names, '
                     f'{arrays.kind(found[0][0])}; return a pandas table, or '
                     f'leave {key} out')
  return array_parts.checked(config, names, found), sizes


def call(name: str, options: dict[str, Any]) -> Any:
  """Calls a function of the user's that gives examples.

  Raises:
    LabError: It is none, takes other options, or raises something: then with
      the file and the line.
  """
  here = f'[data] target: {name!r}'
  function = user_code.resolve(name)
  if not callable(function):
    raise LabError(f'{here} is {arrays.kind(function)}, not a function that '
                   f'returns {MEND}')
  try:
    inspect.signature(function).bind(**options)
  except TypeError as error:
    given = f'with data.options {options}' if options else 'without arguments'
    mend = '' if options else '; give them defaults, or data.options'
    raise LabError(f'{here} is called {given}: {error}{mend}') from error
  except ValueError:  # a signature that cannot be looked at
    pass
  with user_code.telling(here):
    return function(**options)


def _given(name: str, options: dict[str, Any]) -> tuple[Any, ...]:
  """What a function for training returns."""
  given = call(name, options)
  if not isinstance(given, tuple) or len(given) not in (2, 3):
    raise LabError(f'[data] target: {name!r} must return {MEND}, not '
                   + (f'{len(given)} values' if isinstance(given, tuple)
                      else arrays.kind(given)))
  return given


def _framed(config: schema.Data, name: str, frame: Any, y: Any,
            lengths: Any = None) -> tuple[table_files.TableFile, np.ndarray]:
  """Reads inputs that are a pandas table, whose columns have names."""
  if not hasattr(frame, 'columns'):
    raise LabError(f'{name}: inputs that are no pandas table, as those of the '
                   'training part are')
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
  return table_files.TableFile(
      table_files.emptied(config, frame), lambda row: f'{name}: row {row}',
      []), y
