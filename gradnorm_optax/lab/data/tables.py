"""Tables: one labelled example in each row."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import arrays, table_files
from gradnorm_optax.lab.data.raw import Raw
from gradnorm_optax.lab.support.errors import LabError, nearest

MOST_KINDS = 1000  # of a categorical column: each becomes an input


def file(config: schema.Data, path: pathlib.Path) -> Raw:
  """Reads a CSV or Parquet file; a CSV's first row holds the names."""
  def line(row: int) -> str:
    return f'{path}: row {table_files.line(path, row)}'

  frame = table_files.frame(config, path)
  if path.suffix.lower() == '.csv':
    return table(config, str(path), frame, line)
  return table(config, str(path), frame, lambda row: f'{path}: row {row + 1}')


def table(config: schema.Data, name: str, frame: Any,
          place: Callable[[int], str], y: Any = None) -> Raw:
  """Makes one labelled example of each row.

  Args:
    config: Which columns are what.
    name: The file's, for messages.
    frame: A pandas table.
    place: What messages call a row.
    y: The labels where they are no column of the table.
  """
  own = () if y is not None else (config.label,)
  for column in (*own, *config.ignore, *config.categorical):
    if column not in frame:
      raise LabError(f'{name}: no column {column!r}'
                     f'{nearest(column, map(str, frame.columns))}')

  def where(row: int, column: int | None) -> str:
    shown = config.label if column is None else names[column]
    return f'{place(row)}, column {shown!r}'

  inputs = frame.columns.drop([*own, *config.ignore])
  if not len(inputs):
    raise LabError(f'{name}: no column is left besides {config.label!r}')
  if not inputs.is_unique:
    twice = inputs[inputs.duplicated()][0]
    raise LabError(f'{name}: several columns are called {twice!r}; rename them')
  if y is None:
    labels = frame[config.label]
    y = labels.to_numpy()
    if y.dtype.kind not in 'fiub':
      y = labels.astype(object).where(~labels.isna(), None).to_numpy()
  listed = [column for column in inputs if _lists(frame[column])]
  if listed:
    return _listed(config, name, frame, list(inputs), listed, y, place)
  if config.symbols:
    raise LabError(f'{name}: data.symbols is for sequences, and '
                   f'{inputs[0]!r} holds single values; name such columns in '
                   'data.categorical')
  names, kinds = list(inputs), {}
  x = np.empty((len(frame), len(names)))
  for i, column in enumerate(names):
    if column in config.categorical:
      x[:, i], found = _numbered(name, frame[column])
      if found:
        kinds[i] = found
    else:
      x[:, i] = _numbers(name, frame[column], place)
  return Raw(name, x, y, [], where, columns=names, kinds=kinds)


def _lists(column: Any) -> bool:
  """Whether the cells of a column are sequences."""
  known = column.dropna()
  return len(known) > 0 and isinstance(known.iloc[0], np.ndarray | list)


def _listed(config: schema.Data, name: str, frame: Any, inputs: list[str],
            listed: list[str], y: np.ndarray,
            place: Callable[[int], str]) -> Raw:
  """A table whose cells hold sequences: every column is a channel."""
  plain = [column for column in inputs if column not in listed]
  if plain:
    raise LabError(f'{name}: column {listed[0]!r} holds sequences and '
                   f'{plain[0]!r} single values; name the ones to leave out '
                   'in data.ignore')

  def where(row: int, entry: int | None) -> str:
    shown = config.label if entry is None else listed[entry % len(listed)]
    return f'{place(row)}, column {shown!r}'

  rows: list[Any] = []
  for i, cells in enumerate(zip(*(frame[c] for c in listed), strict=True)):
    empty = [c for c, cell in zip(listed, cells, strict=True)
             if cell is None or not np.ndim(cell)]
    if empty:
      raise LabError(f'{place(i)}, column {empty[0]!r}: no sequence; leave '
                     'the row out of the table')
    if len({len(cell) for cell in cells}) > 1:
      raise LabError(f'{place(i)}: the columns '
                     f'{", ".join(map(repr, listed))} differ in length')
    one = [np.stack([np.asarray(v) for v in cell]) if np.ndim(cell[0]) else (
        np.asarray(cell)) for cell in cells if len(cell)]
    rows.append(one[0] if len(one) == 1 else np.stack(one, -1) if one else [])
  return arrays.padded(config, name, rows, y, where, place)


def _numbered(name: str, column: Any) -> tuple[np.ndarray, list[str]]:
  """A column of names as their numbers, missing ones NaN, and the names."""
  known = column.notna().to_numpy()
  kinds, codes = np.unique(
      column[known].astype(str).to_numpy(object), return_inverse=True)
  if len(kinds) > MOST_KINDS:
    raise LabError(f'{name}: column {column.name!r} holds {len(kinds)} '
                   f'different names, more than {MOST_KINDS}; leave it out '
                   'with data.ignore')
  numbers = np.full(len(column), np.nan)
  numbers[known] = codes
  return numbers, kinds.tolist()


def _numbers(name: str, column: Any,
             place: Callable[[int], str]) -> np.ndarray:
  """A column of numbers, missing ones NaN."""
  if column.dtype.kind in 'mM':  # NumPy would count its ticks, holes included
    raise LabError(f'{name}: column {column.name!r} holds times '
                   f'({column.dtype}), which are no numbers; write them as '
                   'such (days since a day), or leave the column out with '
                   'data.ignore')
  try:
    return column.to_numpy(np.float64, na_value=np.nan)
  except (TypeError, ValueError):
    number = _number_failures(column)
    raise LabError(
        f'{place(number)}, column {column.name!r}: '
        f'{column.iloc[number]!r} is no number; name the column in '
        'data.categorical or in data.ignore') from None


def _number_failures(column: Any) -> int:
  """The position of the first entry that is no number."""
  for i, value in enumerate(column):
    try:
      float(value if value is not None else 'nan')
    except (TypeError, ValueError):
      return i
  return 0
