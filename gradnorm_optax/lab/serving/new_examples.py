"""New examples, without labels, prepared as those of the training part were."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import (
  array_files,
  arrays,
  preprocessing,
  table_files,
  tables,
)
from gradnorm_optax.lab.data.preprocessing import Preprocessing
from gradnorm_optax.lab.data.raw import Raw, counted, few
from gradnorm_optax.lab.data.stored import Stored
from gradnorm_optax.lab.objective import padding
from gradnorm_optax.lab.support.errors import LabError, nearest


class Examples(NamedTuple):
  """Examples that a model can be asked about.

  Attributes:
    x: Prepared inputs.
    lengths: Of sequences of unequal length, or None.
    known: Which examples lack nothing; the others are answered with nothing.
    place: What a row is called, from 1 on as in the file.
    notes: What was filled or is unknown, in words, with counts.
  """

  x: np.ndarray
  lengths: np.ndarray | None
  known: np.ndarray
  place: Callable[[int], str]
  notes: list[str]


def read(path: pathlib.Path, data: Stored, config: schema.Data) -> Examples:
  """Reads a table or arrays as the training part was read.

  Args:
    path: A `.csv` or `.parquet` table with the columns of the training part
      (those that were left out, and the label, may be there or not), an `.npz`
      with its inputs (and `lengths`), or an `.npy` of inputs.
    data: What the model knows of its data.
    config: How they were read.

  Raises:
    LabError: Another kind of file, other columns, or a missing cell where the
      training part had none.
  """
  if data.preprocessing is None:
    raise LabError('the model was trained on generated examples; there is no '
                   'file to predict from')
  if not path.exists():
    raise LabError(f'{path}: does not exist')
  kind = path.suffix.lower()
  if kind in ('.csv', '.parquet'):
    raw = _table(path, data.preprocessing, config)
  elif kind in ('.npz', '.npy'):
    raw = _arrays(path, kind, config)
  else:
    raise LabError(f'{path}: unknown kind of file'
                   f'{nearest(kind, (".csv", ".parquet", ".npz", ".npy"))}')
  return _prepared(raw, data, data.preprocessing, config)


def _table(path: pathlib.Path, fitted: Preprocessing,
           config: schema.Data) -> Raw:
  """A table's inputs, in the order of the training part's columns."""
  if fitted.columns is None:
    raise LabError(f'{path}: the model was not trained on a table')
  # Header faults of columns that are left out anyway are no faults.
  read = table_files.read(config, path)
  frame = read.frame
  beside = {*config.ignore, config.label, config.group, config.time}
  missing = [name for name in fitted.columns if name not in frame]
  more = [name for name in map(str, frame.columns)
          if name not in (*fitted.columns, *beside)]
  if missing or more:
    told = [f'lacks {few(list(map(repr, missing)))}'] * bool(missing) + [
        f'also has {few(list(map(repr, more)))}, which the training part had '
        'not'] * bool(more)
    raise LabError(f'{path}: the table {" and ".join(told)}; the model was '
                   f'trained on {few(list(map(repr, fitted.columns)))} '
                   f'({counted(len(fitted.columns), "column")})')
  inputs = config.model_copy(update={
      'ignore': (), 'group': None, 'time': None, 'label': '',
      # What is missing is looked at below.
      'missing': 'median', 'unlabeled': 'drop', 'categorical': tuple(
          name for name in config.categorical if name in fitted.columns),
      'na_values': {name: values for name, values in config.na_values.items()
                    if name in fitted.columns} if isinstance(
                        config.na_values, dict) else config.na_values})
  return tables.table(
      inputs, str(path), read._replace(frame=frame[list(fitted.columns)]),
      np.zeros(len(frame), np.int64))


def _arrays(path: pathlib.Path, kind: str, config: schema.Data) -> Raw:
  """Arrays of inputs."""
  lengths = None
  with array_files.opened(path) as found:
    if kind == '.npz':
      if config.inputs not in found:
        raise LabError(f'{path}: no array {config.inputs!r}'
                       f'{nearest(config.inputs, found.files)}')
      x = found[config.inputs]
      lengths = found['lengths'] if 'lengths' in found else None
    else:
      x = found
  return arrays.checked(
      config.model_copy(update={'missing': 'median'}), str(path), x,
      np.zeros(len(x), np.int64), lengths)


def _prepared(raw: Raw, data: Stored, fitted: Preprocessing,
              config: schema.Data) -> Examples:
  """Encodes, fills and scales by what the training part fitted."""
  notes = list(raw.notes)
  if fitted.mean is None:  # symbols
    x = raw.x.astype(np.int32)
    if data.symbols is not None and (x >= data.symbols).any():
      row = int(np.argwhere(x >= data.symbols)[0][0])
      raise LabError(f'{raw.where(row, None)}: symbol {x.max()}, and the model '
                     f'knows {data.symbols}, from 0 on')
    return Examples(x, _lengths(raw, data), np.ones(len(x), bool),
                    lambda row: raw.where(row, None), notes)
  if raw.x.dtype.kind != 'f':
    return Examples(preprocessing.pictures(fitted, raw.x), None,
                    np.ones(len(raw.x), bool),
                    lambda row: raw.where(row, None), notes)
  x = np.where(np.isfinite(raw.x), raw.x, np.nan)
  raw = raw._replace(x=x)
  holes = np.isnan(x)
  if raw.lengths is not None:
    holes &= padding.inside(raw.lengths, x.shape[1])[..., None]
  bare = np.asarray(holes.reshape(len(x), -1).any(1))
  if bare.any():
    notes.append(_missing(raw, holes, bare, config))
  if fitted.names:
    notes += _unknown(raw, fitted)
    x = preprocessing.entries(fitted, raw)[0]
  found = preprocessing.scaled(fitted, raw, x).astype(np.float32)
  filled = config.missing in ('mean', 'median')
  known = np.ones(len(x), bool) if filled else ~bare
  return Examples(np.nan_to_num(found), _lengths(raw, data), known,
                  lambda row: raw.where(row, None), notes)


def _lengths(raw: Raw, data: Stored) -> np.ndarray | None:
  if not data.padded:
    return None
  if raw.lengths is not None:
    return raw.lengths
  return np.full(len(raw.x), raw.x.shape[1], np.int32)


def _missing(raw: Raw, holes: np.ndarray, bare: np.ndarray,
             config: schema.Data) -> str:
  """Counts missing cells, or refuses them as training did."""
  count = counted(int(holes.sum()), 'missing cell')
  if config.missing == 'error':
    row, entry = (int(i) for i in np.argwhere(
        holes.reshape(len(holes), -1))[0])
    raise LabError(f'{raw.where(row, entry)}: missing or not finite ({count}); '
                   'the training part had no such cell (data.missing = '
                   '"error"), so the model cannot say what it would mean')
  if config.missing == 'drop':
    return (f'{counted(int(bare.sum()), "row")} with missing cells answered '
            'with nothing, as training left such rows out')
  return f'{count} filled with the {config.missing} of the training part'


def _unknown(raw: Raw, fitted: Preprocessing) -> list[str]:
  """Counts the names that no training example had."""
  told = []
  for i, kinds in (raw.kinds or {}).items():
    name = (raw.columns or [])[i]
    strange = [kind not in fitted.names.get(name, ()) for kind in kinds]
    cells = raw.x[:, i][np.isfinite(raw.x[:, i])].astype(int)
    count = int(np.asarray(strange, bool)[cells].sum()) if kinds else 0
    if count:
      shown = few([repr(kind) for kind, odd in zip(kinds, strange, strict=True)
                   if odd])
      told.append(f'{counted(count, "row")} whose {name} no training example '
                  f'had ({shown})')
  return told
