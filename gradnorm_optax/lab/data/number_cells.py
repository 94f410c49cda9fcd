"""Numbers that are written as text, in English or in German."""

from typing import Any

import numpy as np

# Digits in groups of three begin with no zero: 0,234 is a decimal comma.
_GROUPED = r'[1-9]\d{{0,2}}(?:[{group}]\d{{3}})+'
_NUMBER = (r'(?:\s*[+-]?(?:(?:\d+|' + _GROUPED + r')(?:[{decimal}]\d*)?'
           r'|[{decimal}]\d+)(?:[eE][+-]?\d+)?\s*'
           r'|\s*[+-]?(?:inf|Inf|INF|infinity|Infinity)\s*)')
_SPACES = "'\u00a0\u202f "
GROUPS = {'.': ',' + _SPACES, ',': '.' + _SPACES}
TRUTH = {'true': 1.0, 'false': 0.0}


def are_numbers(column: Any, decimal: str) -> np.ndarray:
  """Marks the cells that are numbers in this notation; missing ones are not.

  >>> import pandas
  >>> cells = pandas.Series(['1,5', '1.234', '1.5', '12', '-', None])
  >>> are_numbers(cells, ',').tolist()
  [True, True, False, True, False, False]
  >>> are_numbers(cells, '.').tolist()
  [False, True, True, True, False, False]
  """
  pattern = _NUMBER.format(decimal=decimal, group=GROUPS[decimal])
  return text(column).str.fullmatch(pattern).fillna(False).to_numpy(bool)


def text(column: Any) -> Any:
  """The column as pandas' texts, whatever it held; missing cells stay so."""
  if column.dtype == object:
    column = column.where(column.isna(), column.map(str, na_action='ignore'))
  return column.astype('string[pyarrow]')


def values(column: Any, decimal: str) -> tuple[np.ndarray, np.ndarray]:
  """A column of texts as numbers, float64, and which cells are none.

  Columns of true and false alone are 1 and 0.

  Returns:
    The numbers, NaN where the cell is missing or no number, and a mask of the
    cells that are known and no number.
  """
  column = text(column)
  known = column.notna().to_numpy(bool)
  good = are_numbers(column, decimal)
  found = np.full(len(column), np.nan)
  if not good.any():
    words = column[known].str.strip().str.lower()
    if known.any() and words.isin(TRUTH).all():
      found[known] = words.map(TRUTH).to_numpy(float)
      return found, np.zeros(len(column), bool)
  plain = column[good].str.strip()
  for sign in GROUPS[decimal]:
    plain = plain.str.replace(sign, '', regex=False)
  if decimal == ',':
    plain = plain.str.replace(',', '.', regex=False)
  if good.any():
    found[good] = np.asarray(plain.to_numpy(object), 'U').astype(np.float64)
  return found, known & ~good


def notation(columns: list[Any], semicolons: bool
             ) -> tuple[str, dict[str, str] | None]:
  """Which decimal sign columns of texts are written with.

  Some cells decide: 1,5 and 1.234,5 are German, 1.5 and 1,234.5 English; 1,234
  and 1.234 may be either. Where nothing decides, 1.234 has a decimal point,
  but for a table of semicolons, which may well be German.

  Args:
    columns: Those that may hold numbers.
    semicolons: Whether the cells of the table are separated by them.

  Returns:
    The sign, and {column: an example} where both may be meant, else None.
  """
  german = english = False
  either: dict[str, str] = {}
  for column in columns:
    cells = text(column)
    comma, point = are_numbers(cells, ','), are_numbers(cells, '.')
    if 2 * (comma | point).sum() <= cells.notna().sum():
      continue  # texts, some of which look like numbers
    german |= bool((comma & ~point).any())
    english |= bool((point & ~comma).any())
    both = cells[comma & point]
    signs = ',.' if semicolons else ','
    doubtful = both[both.str.contains(f'[{signs}]')]
    if len(doubtful):
      either[str(column.name)] = str(doubtful.iloc[0])
  if german or english or not either:
    return ',' if german and not english else '.', None
  return '.', either
