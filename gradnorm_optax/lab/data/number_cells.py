"""Numbers that are written as text, in English or in German."""

from typing import Any

import numpy as np

# Digits in groups of three begin with no zero: 0,234 is a decimal comma.
_GROUPED = r'[1-9]\d{{0,2}}(?:[{group}]\d{{3}})+'
_NUMBER = (r'\A\s*(?:[+-]?(?:(?:\d+|' + _GROUPED + r')(?:[{decimal}]\d*)?'
           r'|[{decimal}]\d+)(?:[eE][+-]?\d+)?'
           r'|[+-]?(?:inf|Inf|INF|infinity|Infinity))\s*\z')
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
  return matches(text(column), pattern)


def matches(cells: Any, pattern: str) -> np.ndarray:
  """Marks the texts that hold what the pattern (of RE2) describes."""
  from pyarrow import compute
  return compute.fill_null(compute.match_substring_regex(
      cells, pattern), False).to_numpy(zero_copy_only=False)


def text(column: Any) -> Any:
  """The cells of a column as Arrow's texts, whatever it held."""
  import pyarrow
  if column.dtype == object:
    column = column.where(column.isna(), column.map(str, na_action='ignore'))
  cells = pyarrow.array(column.astype('string[pyarrow]'))
  return cells.combine_chunks() if isinstance(
      cells, pyarrow.ChunkedArray) else cells


def values(column: Any, decimal: str) -> tuple[np.ndarray, np.ndarray]:
  """A column of texts as numbers, float64, and which cells are none.

  Columns of true and false alone are 1 and 0.

  Returns:
    The numbers, NaN where the cell is missing or no number, and a mask of the
    cells that are known and no number.
  """
  import pyarrow
  from pyarrow import compute
  cells = text(column)
  known = compute.is_valid(cells).to_numpy(zero_copy_only=False)
  good = are_numbers(column, decimal)
  found = np.full(len(cells), np.nan)
  if not good.any():
    words = [cell.strip().lower() for cell in cells.to_pylist()
             if cell is not None] if known.any() else []
    if words and TRUTH.keys() >= set(words):
      found[known] = [TRUTH[word] for word in words]
      return found, np.zeros(len(cells), bool)
    return found, known
  plain = compute.utf8_trim_whitespace(cells.filter(pyarrow.array(good)))
  for sign in GROUPS[decimal]:
    plain = compute.replace_substring(plain, sign, '')
  plain = compute.replace_substring(plain, decimal, '.')
  plain = compute.utf8_ltrim(plain, '+')  # Arrow knows no sign but -
  found[good] = compute.cast(plain, pyarrow.float64()).to_numpy(
      zero_copy_only=False)
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
    comma, point = are_numbers(column, ','), are_numbers(column, '.')
    if 2 * (comma | point).sum() <= column.notna().sum():
      continue  # texts, some of which look like numbers
    german |= bool((comma & ~point).any())
    english |= bool((point & ~comma).any())
    doubtful = comma & point & matches(
        text(column), '[,.]' if semicolons else ',')
    if doubtful.any():
      either[str(column.name)] = str(column.iloc[int(doubtful.argmax())])
  if german or english or not either:
    return ',' if german and not english else '.', None
  return '.', either
