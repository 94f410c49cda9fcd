"""New arrays, sequences and texts: of files, or of the user's function."""

import pathlib
from typing import Any

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import array_files, arrays, table_files, user_data
from gradnorm_optax.lab.data.stored import Stored
from gradnorm_optax.lab.serving import new_tables
from gradnorm_optax.lab.serving.given import Given
from gradnorm_optax.lab.support.errors import LabError, nearest


def read(path: pathlib.Path, data: Stored, config: schema.Data) -> Given:
  """Reads an `.npz` with inputs (and `lengths`), or an `.npy` of inputs."""
  lengths = None
  with array_files.opened(path) as found:
    if path.suffix.lower() == '.npz':
      if config.inputs not in found:
        raise LabError(f'{path}: no array {config.inputs!r}'
                       f'{nearest(config.inputs, found.files)}')
      x = found[config.inputs]
      lengths = found['lengths'] if 'lengths' in found else None
    else:
      x = found
  return _made(str(path), x, lengths, data, config)


def texts(path: pathlib.Path, data: Stored, config: schema.Data) -> Given:
  """Reads a file of texts, one on a line; blank lines are none."""
  known = data.preprocessing and data.preprocessing.symbols
  if not known or any(len(symbol) > 1 for symbol in known):
    raise LabError(f'{path}: the model was not trained on texts of single '
                   'characters; give .npz or .npy')
  try:
    lines = path.read_text(encoding='utf-8-sig').splitlines()
  except UnicodeDecodeError as error:
    raise LabError(f'{path}: no UTF-8 text ({error}); save it in that encoding'
                   ) from error
  numbers = [i for i, line in enumerate(lines, 1) if line.strip()]
  if not numbers:
    raise LabError(f'{path}: no text in this file')
  given = _made(str(path), [lines[i - 1] for i in numbers], None, data, config)
  return given._replace(
      raw=given.raw._replace(
          where=lambda row, entry: f'{path}: row {numbers[row]}'),
      title='row', names=numbers)


def called(name: str, data: Stored, config: schema.Data) -> Given:
  """Calls a function that gives inputs, or what one for training gives.

  That is `(inputs, labels)` or `(inputs, labels, lengths)`; labels are not
  looked at, and may be None.
  """
  found = user_data.call(
      name, config.options if name == config.target else {})
  x, lengths = found, None
  if isinstance(found, tuple):
    if len(found) not in (2, 3):
      raise LabError(f'{name!r} must return inputs, {user_data.MEND}, not '
                     f'{len(found)} values')
    x, lengths = found[0], found[2] if len(found) > 2 else None
  if hasattr(x, 'iloc') and hasattr(x, 'columns') and data.preprocessing and (
      data.preprocessing.columns):
    frame = table_files.emptied(config, x.rename(columns=str))
    given = new_tables.framed(name, table_files.TableFile(
        frame, lambda row: f'{name}: row {row}', []), data, config)
    return given._replace(names=range(len(frame)))
  return _made(name, x, lengths, data, config)


def _made(name: str, x: Any, lengths: Any, data: Stored,
          config: schema.Data) -> Given:
  fitted = data.preprocessing
  if fitted is not None and fitted.names:
    raise LabError(f'{name}: the model was trained on a table with names in '
                   f'{", ".join(map(repr, fitted.names))}; give a .csv or '
                   '.parquet with its columns')
  if not np.ndim(x) and not hasattr(x, '__len__'):
    raise LabError(f'{name}: {arrays.kind(x)}, and no examples')
  reading = config.model_copy(update={
      'missing': 'median', 'symbols': data.symbols is not None})
  raw = arrays.checked(
      reading, name, x, np.zeros(len(x), np.int64), lengths)
  return Given(raw, 'example', range(len(raw.x)))
