"""Files of tables that cannot be read as they are: one line that helps."""

import logging

import numpy as np
import pytest

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.support.errors import LabError

ROWS = ''.join(f'{i % 7},{i % 2},{i % 2}\n' for i in range(40))


@pytest.fixture
def write(tmp_path):
  def write(text, name='table.csv', encoding='utf-8'):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path
  return write


def load(path, **keys):
  return sources.load(schema.Data(
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
    ('a,\x81,outcome\n'.encode('latin1') + ROWS.encode(),
     r'neither UTF-8 nor cp1252 text; name its encoding in data\.encoding'),
    (('a,b,outcome\n' + ROWS).encode('utf-16-le'), 'holds zero bytes, which'),
    ('a,b,outcome\n' + ROWS + '1,2,3,4\n', r'rows differ in length .Expected '
     r'3 fields in line 42, saw 4; cells separated by commas.; a comma inside'),
    ('a,b,outcome\n' + ROWS.replace('\n', ',\n'),
     'rows have 4 cells, the header names 3 columns; .* end no row with a sep'),
    (',b,outcome\n' + ROWS, r'column 1 has no name .*row numbers.* leave it '
     r'out with data\.ignore = \["Unnamed: 0"\]'),
    ('a,b,outcome\n\n1,2,0\n\n' + ROWS + 'x,1,1\n',
     "row 45, column 'a': 'x' is no number"),
    ('a,b,outcome\n"1","\n2",0\n1,"?\n",0\n' + ROWS,
     r"row 4, column 'b': '\?\\n' is no number"),
    ('a,b,outcome\n', r'table\.csv: the table has no rows'),
    ('', r'table\.csv: the file is empty'),
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


def test_a_table_at_home(write, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  write('a,outcome\n' + '1,0\n2,1\n' * 20)
  assert load('~/table.csv').train.x.shape == (28, 1)


def test_row_numbers_may_be_left_out(write):
  path = write(',b,outcome\n' + ROWS, 'TABLE.CSV')
  assert load(path, ignore=('Unnamed: 0',)).train.x.shape == (28, 1)


def test_integers_of_any_length(write):
  lines = [f'{10 ** 25 + i * 10 ** 24},{i},{i % 2}' for i in range(40)]
  found = load(write('a,b,outcome\n' + '\n'.join(lines) + '\n'))
  np.testing.assert_allclose(found.test.x[:, 0], found.test.x[:, 1], rtol=1e-5)


def test_a_column_of_names_that_is_empty_is_missing(write):
  path = write('a,b,outcome\n' + ''.join(f',{i},{i % 2}\n' for i in range(40)))
  with pytest.raises(LabError, match=r"row 2, column 'a': .*\(40 such cells"):
    load(path, categorical=('a',))
  assert '40 missing cells filled' in load(
      path, categorical=('a',), missing='mean').description


@pytest.mark.parametrize('value', ['1e300', '-1.7e308'])
def test_a_number_too_large_to_be_standardized(write, value):
  text = 'a,b,outcome\n' + ROWS + f'{value},1,0\n'
  with pytest.raises(LabError, match=r"row 42, column 'a': \S+ is too large"):
    load(write(text))
  with pytest.raises(LabError, match=r"row 42, column 'a': the label \S+ is"):
    load(write(text), label='a', predict='number')


@pytest.mark.parametrize('unit', ['datetime64[s]', 'timedelta64[s]'])
def test_times_are_no_numbers(tmp_path, unit):
  import pandas
  times = pandas.Series(np.arange(40).astype(unit))
  times[3] = None  # it would become the least integer
  path = tmp_path / 'times.parquet'
  pandas.DataFrame({'at': times, 'b': range(40), 'outcome': [0, 1] * 20}
                   ).to_parquet(path)
  with pytest.raises(LabError, match=f"column 'at' holds times .{unit[:8]}"):
    load(path, missing='mean')


def test_labels_that_are_missing_in_parquet(tmp_path):
  import pandas
  path = tmp_path / 'labels.parquet'
  frame = pandas.DataFrame({'a': range(40), 'outcome': ['u', 'v'] * 20})
  frame.loc[3, 'outcome'] = ''
  frame.to_parquet(path)
  with pytest.raises(LabError, match=r"row 4, column 'outcome': no label \(1 "):
    load(path)
  assert '1 unlabeled row left out' in load(path, unlabeled='drop').description
  pandas.DataFrame({
      'a': [[1.] * (1 + i % 3) for i in range(40)],
      'outcome': [None if i == 4 else [i % 2] * (1 + i % 3) for i in range(40)],
  }).to_parquet(path)
  with pytest.raises(LabError, match="row 5, column 'outcome': no labels, wh"):
    load(path)
  big = pandas.array([2 ** 53, 2 ** 53 + 1] * 20, dtype='Int64')
  big[3] = None
  pandas.DataFrame({'a': range(40), 'outcome': big}).to_parquet(path)
  with pytest.raises(LabError, match='lost their last digits; give them as te'):
    load(path, unlabeled='drop')


def test_a_missing_step_is_named_by_its_column(tmp_path):
  import pandas
  path = tmp_path / 'steps.parquet'
  rows = [np.arange(1. + i % 3) for i in range(40)]
  right = [one.copy() for one in rows]
  right[5][1] = np.nan
  pandas.DataFrame({'left': rows, 'right': right, 'outcome': [0, 1] * 20}
                   ).to_parquet(path)
  with pytest.raises(LabError, match="row 6, column 'right': missing"):
    load(path)
