"""Files of tables that cannot be read as they are: one line that helps."""

import logging

import numpy as np
import pytest

from gradnorm_optax.lab import data, schema
from gradnorm_optax.lab.errors import LabError

ROWS = ''.join(f'{i % 7},{i % 2},{i % 2}\n' for i in range(40))


@pytest.fixture
def write(tmp_path):
  def write(text, name='table.csv', encoding='utf-8'):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path
  return write


def load(path, **keys):
  return data.load(schema.Data(
      **{'source': 'file', 'path': str(path), 'label': 'outcome', **keys}))


@pytest.mark.parametrize('header, words', [
    ('a,outcome,outcome', r"table\.csv: columns 2 and 3 have the same name "
     r"'outcome', that of the label; rename .* data\.ignore = \[\"outcome\.1"),
    ('\n"outcome",x,x', r"columns 2 and 3 have the same name 'x'; rename .*"
     r'data\.ignore = \["x\.1"\]')])
def test_columns_of_one_name(write, header, words):
  with pytest.raises(LabError, match=words):
    load(write(f'{header}\n{ROWS}'), unlabeled='drop')


def test_a_second_column_is_left_out_by_its_new_name(write):
  found = load(write('a,outcome,outcome\n' + ROWS), ignore=('outcome.1',))
  assert found.train.x.shape == (28, 1)


def test_a_name_that_only_looks_like_a_second_one(write):
  found = load(write('x,x.1,outcome\n' + ROWS))
  assert found.train.x.shape == (28, 2)


def test_a_folder_of_tables_has_its_headers_read_too(write, tmp_path):
  write('a,outcome,outcome\n' + ROWS, 'train.csv')
  with pytest.raises(LabError, match=r"train\.csv: .*same name 'outcome'"):
    load(tmp_path, source='hub')


def test_columns_of_one_name_in_parquet(tmp_path):
  import pyarrow
  from pyarrow import parquet
  column = pyarrow.array(np.arange(40) % 2)
  path = tmp_path / 'table.parquet'
  parquet.write_table(pyarrow.table(
      [column, column, column], names=['a', 'outcome', 'outcome']), path)
  with pytest.raises(LabError, match="2 columns have the same name 'outcome'"):
    load(path)
  parquet.write_table(pyarrow.table({'a': column, 'outcome': column})[:0], path)
  with pytest.raises(LabError, match=r'table\.parquet: the table has no rows'):
    load(path)


@pytest.mark.parametrize('text, words', [
    ('a,é,outcome\n'.encode('latin1') + ROWS.encode(),
     r'not UTF-8 text .*save the table with the encoding UTF-8'),
    (('a,b,outcome\n' + ROWS).encode('utf-16'), 'not UTF-8 text'),
    ('a,b,outcome\n' + ROWS + '1,2,3,4\n',
     r'rows differ in length \(Expected 3 fields in line 42, saw 4\); a comma'),
    ('a,b,outcome\n' + ROWS.replace('\n', ',\n'),
     'rows have 4 cells, the header names 3 columns; .* end no row with a com'),
    ('a,b,outcome\n', r'table\.csv: the table has no rows'),
    ('', r'table\.csv: the file is empty'),
    ('a;b;outcome\n' + ROWS.replace(',', ';'),
     r"one column, 'a;b;outcome': are the cells separated by semicolons\?"),
    ('a\tb\toutcome\n' + ROWS.replace(',', '\t'), 'separated by tabs'),
    ('a;b;outcome\n' + '1,5;2,5;0\n' * 40, 'points in decimal numbers'),
])
def test_a_table_that_cannot_be_read(write, capfd, text, words):
  with pytest.raises(LabError, match=words) as found:
    load(write(text))
  assert '\n' not in str(found.value)
  assert capfd.readouterr().err == ''


def test_parquet_that_is_broken(write, capfd):
  before = logging.getLogger('datasets').level
  with pytest.raises(LabError, match=r'cannot read this table: Parquet magic'):
    load(write(b'PAR1 nothing', 'table.parquet'))
  assert capfd.readouterr().err == ''
  assert logging.getLogger('datasets').level == before


@pytest.mark.parametrize('rows', [12_000, 60_000])
def test_a_column_whose_kind_shows_late(write, rows):
  """The loader reads 10 000 rows at a time, pandas 256 kB."""
  lines = [f'{i},{i % 3},{i % 2}' for i in range(rows)]
  lines[11_000] = '0.5,0,0'
  found = load(write('a,b,outcome\n' + '\n'.join(lines) + '\n'))
  assert sum(len(part.y) for part in found[:3]) == rows
  lines[11_500] = f'?{"long" * 9},0,0'
  path = write('a,b,outcome\n' + '\n'.join(lines) + '\n')
  with pytest.raises(LabError, match=r"row 11502, column 'a': '\?long.*is no"):
    load(path)
