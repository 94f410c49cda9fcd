"""Tables in files, read by pandas and pyarrow: with clear errors."""

import collections
import contextlib
import csv
import pathlib
from typing import Any

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.support.errors import LabError

SEPARATORS = {';': 'semicolons', '\t': 'tabs', '|': 'bars'}


def frame(config: schema.Data, path: pathlib.Path) -> Any:
  """Reads a CSV or Parquet file as a pandas table.

  Raises:
    LabError: No such table, no rows, columns that cannot be told apart.
  """
  import pandas
  from pyarrow import ArrowException, parquet
  try:
    if path.suffix.lower() == '.csv':
      check_csv(config, path)
      # In one piece: a column's kind is that of all its cells.
      found = pandas.read_csv(path, low_memory=False)
      _check_index(path, found)
    else:
      _check_parquet(path)
      found = parquet.read_table(path).to_pandas(ignore_metadata=True)
  except (OSError, ValueError, ArrowException) as error:
    raise unreadable(path, error) from error
  if not len(found):
    raise LabError(f'{path}: the table has no rows')
  return found


def line(path: pathlib.Path, row: int) -> int:
  """The line of a CSV file in which a row of its table begins, from 1.

  Blank lines are no rows, and a cell in quotes may hold several lines.
  """
  with path.open(newline='', encoding='utf-8', errors='replace') as file:
    reader = csv.reader(file)
    begins, rows = 1, -1  # the header is no row
    with contextlib.suppress(csv.Error):  # a cell longer than 128 kB
      for cells in reader:
        if any(cell.strip() for cell in cells) or len(cells) > 1:
          if rows == row:
            return begins
          rows += 1
        begins = reader.line_num + 1
  return row + 2


def unreadable(path: Any, error: BaseException) -> LabError:
  """Says in one line why a table cannot be read, and a mend if it is known."""
  told = (str(error).strip().splitlines() or [type(error).__name__])[0]
  if isinstance(error, UnicodeDecodeError):
    return LabError(f'{path}: this is not UTF-8 text ({told}); save the table '
                    'with the encoding UTF-8')
  if 'Error tokenizing data' in told:
    told = told.rpartition('C error: ')[2]
    return LabError(f'{path}: the rows differ in length ({told}); a comma '
                    'inside a cell needs quotes around the cell')
  return LabError(f'{path}: cannot read this table: {told}')


def check_csv(config: schema.Data, path: pathlib.Path) -> None:
  """Refuses a header of one cell, columns without and columns of one name.

  pandas renames the second of two columns `x` to `x.1`: a copy of the label
  would become an input. What the file itself says decides, for a column may
  be called `x.1` there. A column without a name is most often the row's
  number, which tells the label where rows are sorted by it.
  """
  import pandas
  try:
    header, renamed = (pandas.read_csv(
        path, encoding_errors='replace', **how) for how in (
            {'header': None, 'nrows': 1, 'dtype': str, 'na_filter': False},
            {'nrows': 0}))
  except pandas.errors.EmptyDataError as error:
    raise LabError(f'{path}: the file is empty') from error
  names = [str(name) for name in header.iloc[0]]
  if len(names) == 1:
    for sign, called in SEPARATORS.items():
      if sign in names[0]:
        raise LabError(
            f'{path}: one column, {names[0]!r}: are the cells separated by '
            f'{called}? Save the table with commas between them, and points '
            'in decimal numbers')
  for i, name in enumerate(names):
    if not name and renamed.columns[i] not in config.ignore:
      raise LabError(
          f'{path}: column {i + 1} has no name (are they row numbers, saved '
          'with the table?); name it in the file, or leave it out with '
          f'data.ignore = ["{renamed.columns[i]}"]')
  twice = [name for name, n in collections.Counter(names).items()
           if n > 1 and name]
  for name in twice:
    places = [i for i, one in enumerate(names) if one == name]
    left = [i for i in places if renamed.columns[i] not in config.ignore]
    if len(left) > 1:
      out = ', '.join(f'"{renamed.columns[i]}"' for i in left[1:])
      numbers = ' and '.join(
          filter(None, (', '.join(str(i + 1) for i in places[:-1]),
                        str(places[-1] + 1))))
      raise LabError(
          f'{path}: columns {numbers} have the same name {name!r}'
          + (', that of the label' if name == config.label else '')
          + '; rename them in the file, or keep the first alone with '
          f'data.ignore = [{out}]')


def _check_index(path: pathlib.Path, found: Any) -> None:
  """Refuses rows longer than the header: names would go to other cells."""
  import pandas
  if not isinstance(found.index, pandas.RangeIndex):
    count = len(found.columns)
    raise LabError(
        f'{path}: the rows have {count + found.index.nlevels} cells, the header'
        f' names {count} columns; name every column, and end no row with a '
        'comma')


def _check_parquet(path: pathlib.Path) -> None:
  """Refuses columns of one name, which the loader calls something else."""
  from pyarrow import parquet
  found = parquet.read_metadata(path)
  names = found.schema.to_arrow_schema().names
  twice = [name for name, n in collections.Counter(names).items() if n > 1]
  if twice:
    raise LabError(f'{path}: {names.count(twice[0])} columns have the same '
                   f'name {twice[0]!r}; rename them')
  if not found.num_rows:
    raise LabError(f'{path}: the table has no rows')
