"""A column of a table: numbers, names, groups or times; or what is wrong."""

import collections
from collections.abc import Callable
from typing import Any

import numpy as np

from gradnorm_optax.lab.data import number_cells
from gradnorm_optax.lab.data.raw import counted, few
from gradnorm_optax.lab.data.table_faults import Fault, toml

MOST_KINDS = 1000  # of a categorical column: each becomes an input
SPELLINGS = 5  # of an empty cell: more are no dirt
DATE = r'\A\s*\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([ T].*)?\z'
CODE = r'\A\s*0\d+\s*\z'
GERMAN_DATE = r'\A\s*\d{1,2}\.\d{1,2}\.\d{4}([ T].*)?\z'


def numbers(column: Any, decimal: str, place: Callable[[int], str]
            ) -> np.ndarray | Fault:
  """A column of numbers, missing ones NaN; or why it is none."""
  if column.dtype.kind in 'mM':  # NumPy would count its ticks, holes included
    return Fault(f'column {column.name!r} holds times ({column.dtype}), which '
                 'are no numbers; write them as such (days since a day), name '
                 'it in data.time, or leave it out with data.ignore',
                 {'ignore': (str(column.name),)})
  if column.dtype.kind != 'O' and not is_text(column):
    return column.to_numpy(np.float64, na_value=np.nan)
  if not is_text(column):
    try:  # Decimal, None: faster than texts
      return column.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError):
      pass
  found, bad = number_cells.values(column, decimal)
  return _no_numbers(column, bad, decimal, place) if bad.any() else found


def is_text(column: Any) -> bool:
  """Whether pandas knows it as a column of texts."""
  import pandas
  return isinstance(column.dtype, pandas.StringDtype)


def has_codes(column: Any) -> bool:
  """Whether some whole numbers begin with 0, as postcodes do."""
  return is_text(column) and bool(number_cells.matches(
      number_cells.text(column), CODE).any())


def _no_numbers(column: Any, bad: np.ndarray, decimal: str,
                place: Callable[[int], str]) -> Fault:
  """Says how many cells are no numbers, and so what the column seems to be.

  A few odd ones among numbers are dirt; where most are, it holds names.
  """
  name, known = str(column.name), int(column.notna().sum())
  cells = [str(cell) for cell in column[bad]]
  kinds = collections.Counter(cells)
  begins = f'{place(int(bad.argmax()))}, column {name!r}: {cells[0]!r} is no '
  other = ',' if decimal == '.' else '.'
  if number_cells.are_numbers(column[bad], other).all():
    mine, signs = (decimal == ','), ('points', 'commas')
    return Fault(
        f'{begins}number ({len(cells)} of {known} cells): decimal '
        f'{signs[not mine]} among decimal {signs[mine]}? data.decimal = '
        f'"{other}" where all of the table is written so, else write it one '
        'way', {'decimal': other})
  if 2 * len(cells) < known:
    share = f'number: {len(cells)} of {known} cells'
    if len(kinds) <= SPELLINGS:
      spelled = tuple(kinds)
      return Fault(
          f'{begins}{share} ('
          + ', '.join(f'{kind!r} {n}' for kind, n in kinds.items())
          + f'): dirt? If that is an empty cell, data.na_values = '
          f'{toml(spelled)}; names: data.categorical', {'na_values': spelled})
    return Fault(f'{begins}{share}, {len(kinds)} different ones '
                 f'({few(list(map(repr, kinds)))}); write numbers alone, or '
                 'leave the column out with data.ignore', {'ignore': (name,)})
  share = f'number: {len(cells)} of {known} cells'
  if number_cells.matches(number_cells.text(column[bad]), DATE).all():
    return Fault(f'{begins}{share} are dates: data.time = {toml(name)} keeps '
                 'the last of them for the test; or leave the column out with '
                 'data.ignore', {'ignore': (name,)})
  if len(kinds) > MOST_KINDS or (len(kinds) == known > SPELLINGS):
    return Fault(f'{begins}{share}, {len(kinds)} different ones, are text; name'
                 ' the column in data.ignore', {'ignore': (name,)})
  return Fault(f'{begins}{share}, {len(kinds)} different ones, are text; name '
               'the column in data.categorical or in data.ignore; in '
               'data.group, if rows of one such name belong together',
               {'categorical': (name,)})


def names(column: Any) -> tuple[np.ndarray, list[str]] | Fault:
  """A column of names as their numbers, missing ones NaN, and the names."""
  known = column.notna().to_numpy(bool)
  kinds, codes = np.unique(
      column[known].astype(str).to_numpy(object), return_inverse=True)
  if len(kinds) > MOST_KINDS:
    return Fault(f'column {column.name!r} holds {len(kinds)} different names, '
                 f'more than {MOST_KINDS}; leave it out with data.ignore',
                 {'ignore': (str(column.name),)})
  found = np.full(len(column), np.nan)
  found[known] = codes
  return found, kinds.tolist()


def groups(column: Any, place: Callable[[int], str]) -> np.ndarray | Fault:
  """A column of whatever stands for groups, as numbers."""
  if (empty := column.isna().to_numpy(bool)).any():
    return Fault(f'{place(int(empty.argmax()))}, column {column.name!r}: no '
                 f'group ({counted(int(empty.sum()), "such row")}); fill it in,'
                 ' each with a name of its own if nothing is known')
  return np.unique(column.astype(str).to_numpy(object),
                   return_inverse=True)[1]


def times(column: Any, decimal: str, place: Callable[[int], str]
          ) -> np.ndarray | Fault:
  """A column of numbers, of pandas' times, of ISO or German dates."""
  import pandas
  if column.dtype.kind == 'M':
    found = column.dt.tz_convert(None) if getattr(
        column.dt, 'tz', None) is not None else column
    return _whole(found.to_numpy('datetime64[us]'), column, place)
  if not is_text(column) and column.dtype.kind != 'O':
    return _whole(column.to_numpy(np.float64, na_value=np.nan), column, place)
  if 2 * number_cells.are_numbers(column, decimal).sum() > len(column):
    return _whole(number_cells.values(column, decimal)[0], column, place)
  text = number_cells.text(column)
  german = number_cells.matches(text, GERMAN_DATE)
  found = pandas.Series(np.full(len(column), 'NaT', 'datetime64[us]'))
  for rows, how in ((german, {'format': 'mixed', 'dayfirst': True}),
                    (~german, {'format': 'ISO8601'})):
    if rows.any():
      cells = pandas.Series(text.filter(rows).to_pylist(), dtype=object)
      found[rows] = pandas.to_datetime(
          cells, errors='coerce', utc=True, **how
          ).dt.tz_localize(None).to_numpy('datetime64[us]')
  return _whole(found.to_numpy('datetime64[us]'), column, place)


def _whole(found: np.ndarray, column: Any, place: Callable[[int], str]
           ) -> np.ndarray | Fault:
  """The times, if none is missing."""
  bad = np.isnat(found) if found.dtype.kind == 'M' else ~np.isfinite(found)
  if not bad.any():
    return found
  row = int(bad.argmax())
  cell = column.iloc[row]
  shown = 'no time' if column.isna().iloc[row] else f'{str(cell)!r} is no time'
  return Fault(f'{place(row)}, column {column.name!r}: {shown} '
               f'({counted(int(bad.sum()), "such row")}); write numbers, '
               '2024-05-31 (and 13:45) or 31.05.2024')
