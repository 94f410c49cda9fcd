"""Tables in files, read by pandas and pyarrow: with clear errors."""

import collections
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import csv_format
from gradnorm_optax.lab.data.raw import counted, few
from gradnorm_optax.lab.data.table_faults import Fault, refuse, toml
from gradnorm_optax.lab.support.errors import LabError


class TableFile(NamedTuple):
  """A table as it was read.

  Attributes:
    frame: A pandas table; of a CSV file every cell is a text.
    place: What messages call a row, by its number.
    notes: What was found out about the file, in words.
    semicolons: Whether they separate its cells.
    numbers: What messages number the rows by; from 1 on if None.
  """

  frame: Any
  place: Callable[[int], str]
  notes: list[str]
  semicolons: bool = False
  numbers: Callable[[], list[int]] | None = None


def read(config: schema.Data, path: pathlib.Path) -> TableFile:
  """Reads a CSV or Parquet file.

  Raises:
    LabError: No such table, no rows, columns that cannot be told apart.
  """
  from pyarrow import ArrowException
  form = None
  try:
    if path.suffix.lower() == '.csv':
      form = csv_format.find(config, path)
      found = _csv(config, path, form)
    else:
      found = _parquet(config, path)
  except (OSError, ValueError, ArrowException) as error:
    raise _unreadable(config, path, form, error) from error
  if not len(found.frame):
    raise LabError(f'{path}: the table has no rows')
  return found


def joined(names: list[str], files: list[TableFile]) -> TableFile:
  """One table of several: rows in their order, named by their own files.

  Raises:
    LabError: They have other columns than the first.
  """
  import pandas
  if len(files) == 1:
    return files[0]
  first = set(files[0].frame.columns)
  faults = []
  for name, one in zip(names[1:], files[1:], strict=True):
    here = set(one.frame.columns)
    for some, called in ((first - here, 'lacks'), (here - first, 'also has')):
      if some:
        faults.append(Fault(
            f'{name} {called} {few(sorted(map(repr, some)))}: parts of one '
            'set have the same columns'))
  refuse(names[0], faults)
  starts = np.cumsum([0, *(len(one.frame) for one in files)])

  def place(row: int) -> str:
    which = int(np.searchsorted(starts, row, side='right')) - 1
    return files[which].place(row - int(starts[which]))

  return TableFile(
      pandas.concat([one.frame for one in files], ignore_index=True), place,
      list(dict.fromkeys(note for one in files for note in one.notes)),
      any(one.semicolons for one in files))


def _csv(config: schema.Data, path: pathlib.Path,
         form: csv_format.Format) -> TableFile:
  import pandas
  given = config.na_values
  empty: Any = ['', *given] if isinstance(given, tuple) else {
      column: ['', *values] for column, values in given.items()}
  frame = pandas.read_csv(
      path, sep=form.separator, encoding=form.encoding, skiprows=form.skip,
      dtype='string[pyarrow]', keep_default_na=config.keep_default_na,
      na_values=empty)
  if not config.keep_default_na and isinstance(empty, dict):
    # pandas would leave the other columns' empty cells as they are.
    frame = frame.mask(frame == '')
  _check_index(path, frame)
  bare = [name for name in frame.columns if frame[name].isna().all()]
  nothing = check_header(config, path, form, bare)
  if nothing:  # lines that end with a separator
    frame = frame.drop(columns=nothing)
    form.notes.append(f'{counted(len(nothing), "column")} without a name and '
                      'without cells left out')

  def place(row: int) -> str:
    return f'{path}: row {csv_format.lines(path, form, row + 1)[row]}'

  return TableFile(frame, place, form.notes, form.separator == ';',
                   lambda: csv_format.lines(path, form, len(frame)))


def _parquet(config: schema.Data, path: pathlib.Path) -> TableFile:
  from pyarrow import parquet
  _check_parquet(path)
  frame = parquet.read_table(path).to_pandas(ignore_metadata=True)
  return TableFile(emptied(config, frame),
                   lambda row: f'{path}: row {row + 1}', [])


def emptied(config: schema.Data, frame: Any) -> Any:
  """A table that was no CSV file, without the texts that stand for nothing."""
  given = config.na_values
  for column in frame.columns if given else ():
    texts = given.get(str(column), ()) if isinstance(given, dict) else given
    if texts and frame[column].dtype.kind not in 'fiubcmM':
      frame = frame.assign(**{str(column): frame[column].mask(
          frame[column].isin(list(texts)))})
  return frame


def _unreadable(config: schema.Data, path: pathlib.Path,
                form: csv_format.Format | None, error: BaseException
                ) -> LabError:
  """Says in one line why a table cannot be read, and a mend if it is known."""
  told = (str(error).strip().splitlines() or [type(error).__name__])[0]
  if isinstance(error, UnicodeError):
    return LabError(f'{path}: this is no {config.encoding or "UTF-8"} text '
                    f'({told}); name its encoding in data.encoding, or leave '
                    'that out')
  if 'Error tokenizing data' in told:
    told = told.rpartition('C error: ')[2]
    sign = csv_format.SEPARATORS.get(
        form.separator, form.separator) if form else 'commas'
    return LabError(f'{path}: the rows differ in length ({told}; cells '
                    f'separated by {sign}); a {sign.removesuffix("s")} inside '
                    'a cell needs quotes around the cell; data.separator names '
                    'another sign')
  return LabError(f'{path}: cannot read this table: {told}')


def check_csv(config: schema.Data, path: pathlib.Path) -> None:
  """Refuses what `check_header` refuses, of a file that others read."""
  check_header(config, path, csv_format.find(
      config.model_copy(update={'separator': ','}), path), [])


def check_header(config: schema.Data, path: pathlib.Path,
                 form: csv_format.Format, bare: list[str]) -> list[str]:
  """Refuses columns without a name and columns of one name, all at once.

  pandas renames the second of two columns `x` to `x.1`: a copy of the label
  would become an input. What the file itself says decides, for a column may
  be called `x.1` there. A column without a name is most often the row's
  number, which tells the label where rows are sorted by it.

  Args:
    config: The columns that are left out.
    path: The file.
    form: How it is written.
    bare: What pandas calls the columns without cells.

  Returns:
    Those of them that have no name either.
  """
  import pandas
  how: dict[str, Any] = {'sep': form.separator, 'encoding': form.encoding,
                         'encoding_errors': 'replace', 'skiprows': form.skip}
  header = pandas.read_csv(
      path, header=None, nrows=1, dtype=str, na_filter=False, **how)
  renamed = pandas.read_csv(path, nrows=0, **how)
  names = [str(name) for name in header.iloc[0]]
  called = [str(name) for name in renamed.columns]
  faults = [
      Fault(f'column {i + 1} has no name (are they row numbers, saved with '
            'the table?); name it in the file, or leave it out with '
            f'data.ignore = {toml((called[i],))}', {'ignore': (called[i],)})
      for i, name in enumerate(names)
      if not name and called[i] not in (*config.ignore, *bare)]
  for name, number in collections.Counter(names).items():
    places = [i for i, one in enumerate(names) if one == name]
    left = tuple(called[i] for i in places if called[i] not in config.ignore)
    if number > 1 and name and len(left) > 1:
      numbers = ' and '.join(
          filter(None, (', '.join(str(i + 1) for i in places[:-1]),
                        str(places[-1] + 1))))
      faults.append(Fault(
          f'columns {numbers} have the same name {name!r}'
          + (', that of the label' if name == config.label else '')
          + '; rename them in the file, or keep the first alone with '
          f'data.ignore = {toml(left[1:])}', {'ignore': left[1:]}))
  refuse(str(path), faults)
  return [called[i] for i, name in enumerate(names)
          if not name and called[i] in bare and called[i] not in config.ignore]


def _check_index(path: pathlib.Path, found: Any) -> None:
  """Refuses rows longer than the header: names would go to other cells."""
  import pandas
  if not isinstance(found.index, pandas.RangeIndex):
    count = len(found.columns)
    raise LabError(
        f'{path}: the rows have {count + found.index.nlevels} cells, the header'
        f' names {count} columns; name every column, and end no row with a '
        'separator')


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
