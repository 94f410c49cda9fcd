"""How a CSV file is written: its encoding and what separates its cells."""

import codecs
import contextlib
import csv
import itertools
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.support.errors import LabError

# In the order in which they win where a header may be cut by two of them:
# a comma stands in many a German name.
SEPARATORS = {';': 'semicolons', '\t': 'tabs', '|': 'bars', ',': 'commas'}
MARKS = {codecs.BOM_UTF8: 'utf-8-sig', codecs.BOM_UTF16_LE: 'utf-16',
         codecs.BOM_UTF16_BE: 'utf-16'}
SAID = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
LOOK = 20  # rows that must have as many cells as the header


class Format(NamedTuple):
  """How to read a CSV file, and what was found out about it, in words."""

  encoding: str
  separator: str
  notes: list[str]
  skip: int = 0  # lines before the names


def find(config: schema.Data, path: pathlib.Path) -> Format:
  """Takes what is configured; finds the rest by looking at the file.

  Encodings: what a byte order mark says, else UTF-8, else Windows' cp1252.
  """
  if not path.stat().st_size:
    raise LabError(f'{path}: the file is empty')
  encoding, notes = config.encoding, []
  if encoding is None:
    encoding = _encoding(path)
    if encoding == 'cp1252':
      notes.append('not UTF-8, read as cp1252')
  with path.open(encoding=encoding, errors='replace') as file:
    said = SAID.fullmatch(file.readline())  # Excel's, for itself
  separator = config.separator or (said[1] if said else _separator(
      path, encoding))
  if config.separator is None and separator != ',':
    called = SEPARATORS.get(separator, repr(separator))
    notes.append(f'cells separated by {called}')
  return Format(encoding, separator, notes, int(said is not None))


def lines(path: pathlib.Path, form: Format, count: int) -> list[int]:
  """The lines of a CSV file in which the rows of its table begin, from 1.

  Blank lines are no rows, and a cell in quotes may hold several lines.

  Args:
    path: The file.
    form: How it is written.
    count: How many rows are asked for, from the first on.
  """
  found = list(itertools.islice(_begins(path, form), count))
  # What the csv module cannot read is taken for rows of one line.
  return found + list(range(len(found) + 2 + form.skip, count + 2 + form.skip))


def _begins(path: pathlib.Path, form: Format) -> Iterator[int]:
  with path.open(newline='', encoding=form.encoding, errors='replace') as file:
    reader = csv.reader(file, delimiter=form.separator)
    begins, rows = 1, -1 - form.skip  # the header is no row
    with contextlib.suppress(csv.Error):  # a cell longer than 128 kB
      for cells in reader:
        if any(cell.strip() for cell in cells) or len(cells) > 1:
          if rows >= 0:
            yield begins
          rows += 1
        begins = reader.line_num + 1


def _encoding(path: pathlib.Path) -> str:
  with path.open('rb') as file:
    start = file.read(4)
  for mark, encoding in MARKS.items():
    if start.startswith(mark):
      return encoding
  for encoding in ('utf-8', 'cp1252'):
    with (contextlib.suppress(UnicodeDecodeError),
          path.open(encoding=encoding) as file):
      while piece := file.read(2 ** 20):
        if '\0' in piece:
          raise LabError(f'{path}: holds zero bytes, which no text does; is it '
                         'a spreadsheet? Export it as CSV; or name its '
                         'encoding: data.encoding = "utf-16"')
      return encoding
  raise LabError(f'{path}: neither UTF-8 nor cp1252 text; name its encoding in '
                 'data.encoding')


def _separator(path: pathlib.Path, encoding: str) -> str:
  """The sign that cuts the first rows into as many cells as the header."""
  def rank(sign: str) -> tuple[bool, int]:
    with path.open(newline='', encoding=encoding, errors='replace') as file:
      rows = []
      with contextlib.suppress(csv.Error):
        rows = [len(cells) for cells in itertools.islice(
            csv.reader(file, delimiter=sign), LOOK) if cells]
    header = rows[0] if rows else 0
    return header > 1 and len(set(rows)) == 1, header

  return max(SEPARATORS, key=rank) if rank(',')[1] > 0 else ','
