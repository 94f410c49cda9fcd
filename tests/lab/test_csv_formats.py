"""Tables as spreadsheets write them, English and German, and their dirt."""

import re

import numpy as np
import pandas
import pytest

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import number_cells, sources
from gradnorm_optax.lab.support.errors import LabError

ROWS = 40
SIZE = 1000 + 250.5 * np.arange(ROWS)  # 1.000,0 to 10.769,5
LARGE = 1000 * (1 + np.arange(ROWS))
KINDS = [('gut', 'Ausschuß')[i % 2] for i in range(ROWS)]


def german(value):
  return f'{value:,}'.translate(str.maketrans(',.', '.,'))


def written(sign, size, large, end='\n', kinds=KINDS):
  quoted = [[f'"{cell}"' if sign in cell else cell for cell in row]
            for row in zip(size, large, kinds, strict=True)]
  return end.join([sign.join(('Größe', 'Menge', 'Befund')),
                   *(sign.join(row) for row in quoted), ''])


def load(path, **keys):
  return sources.load(schema.Data(
      **{'source': 'file', 'path': str(path), 'label': 'Befund', **keys}))


def refused(path, **keys):
  with pytest.raises(LabError) as found:
    load(path, **keys)
  return str(found.value).replace(f'{path}: ', '')


ENGLISH = written(',', map(str, SIZE), map(str, LARGE))


@pytest.fixture(scope='module')
def wanted(tmp_path_factory):
  path = tmp_path_factory.mktemp('plain') / 'plain.csv'
  path.write_text(ENGLISH, 'utf-8')
  return load(path)


@pytest.mark.parametrize('text, encoding, notes', [
    (written(';', map(german, SIZE), map(german, LARGE), '\r\n'), 'cp1252',
     ('not UTF-8, read as cp1252', 'separated by semicolons', 'decimal com')),
    (written(';', [f'{v:.1f}'.replace('.', ',') for v in SIZE],
             map(str, LARGE)), 'utf-8-sig', ('semicolons', 'decimal commas')),
    (written(',', map(german, SIZE), map(german, LARGE)), 'utf-8',
     ('decimal commas',)),
    (written(',', [f'{v:,}' for v in SIZE], [f'{v:,}' for v in LARGE]),
     'utf-8', ()),
    (written('\t', map(str, SIZE), map(str, LARGE)), 'utf-16', ('by tabs',)),
    ('sep=;\r\n' + written(';', map(german, SIZE), map(str, LARGE)), 'cp1252',
     ('by semicolons', 'decimal commas')),
    (ENGLISH, 'utf-8', ())])
def test_exports_are_one_table(tmp_path, wanted, text, encoding, notes):
  path = tmp_path / 'export.csv'
  path.write_bytes(text.encode(encoding))
  found = load(path)
  np.testing.assert_allclose(found.test.x, wanted.test.x, atol=1e-6)
  np.testing.assert_array_equal(found.test.y, wanted.test.y)
  assert found.preprocessing.classes == ('Ausschuß', 'gut')
  for note in notes:
    assert note in found.description
  assert ('decimal' in found.description) == ('decimal com' in str(notes))


def test_lines_that_end_with_a_separator(tmp_path, wanted):
  path = tmp_path / 'ends.csv'
  path.write_text(ENGLISH.replace('\n', ',\n'), 'utf-8')
  found = load(path)
  np.testing.assert_array_equal(found.test.x, wanted.test.x)
  assert '1 column without a name and without cells left' in found.description
  path.write_text(ENGLISH.replace('\n', ',7\n').replace('7', '', 1), 'utf-8')
  assert 'column 4 has no name' in refused(path)


def test_numbers_that_are_codes(tmp_path):
  path = tmp_path / 'codes.csv'
  path.write_text(written(',', map(str, SIZE), [f'{i:05d}' for i in LARGE]),
                  'utf-8')
  assert "begin with 0 in 'Menge'; are they names?" in load(path).description


def test_lines_are_counted_from_the_first(tmp_path):
  path = tmp_path / 'said.csv'
  size = [f'{v:.1f}'.replace('.', ',') for v in SIZE]
  size[3] = '?'
  path.write_text('sep=;\n' + written(';', size, map(str, LARGE)), 'utf-8')
  assert "row 6, column 'Größe': '?' is no number: 1 of 40" in refused(path)


def test_what_is_configured_is_not_guessed(tmp_path):
  path = tmp_path / 'odd.csv'
  path.write_text(written('^', map(german, SIZE), ['1,5'] * ROWS), 'latin1')
  found = load(path, separator='^', decimal=',', encoding='latin1')
  assert found.train.x.shape == (28, 2)
  assert 'read as' not in found.description
  told = refused(path, separator='^', decimal='.')
  assert "2 faults" in told and '(40 of 40 cells): decimal commas among' in told
  assert 'data.decimal = ","' in told
  assert 'no utf-16 text' in refused(path, encoding='utf-16')


@pytest.mark.parametrize('sign, cells', [
    (';', [f'{1 + i}.{100 + i}' for i in range(ROWS)]),
    (',', [f'{1 + i},{100 + i}' for i in range(ROWS)])])
def test_a_sign_that_may_be_either_is_asked_for(tmp_path, sign, cells):
  path = tmp_path / 'either.csv'
  path.write_text(written(sign, cells, map(str, range(ROWS))), 'utf-8')
  assert f"{cells[0]!r} may have a decimal sign or one" in refused(path)
  means = [load(path, decimal=decimal).preprocessing.mean[0]
           for decimal in '.,']
  assert sorted(m > 100 for m in means) == [False, True]


@pytest.mark.parametrize('cell, comma, point', [
    ('1,5', 1.5, None), ('0,125', .125, None), ('1.234,5', 1234.5, None),
    ('1.234.567', 1234567, None), ('1,234', 1.234, 1234), ('-1.234', -1234,
                                                           -1.234),
    ('1.5', None, 1.5), ('1,234.5', None, 1234.5), ('.5', None, .5),
    (' 12 ', 12, 12), ('1e-3', 1e-3, 1e-3), ('1 234,5', 1234.5, None),
    ('01.02.2024', None, None), ('1.2.3', None, None), ('12 mm', None, None),
    ('0.123.456', None, None), ('1_000', None, None), ('-', None, None)])
def test_cells_in_both_notations(cell, comma, point):
  column = pandas.Series([cell, None])
  for decimal, want in ((',', comma), ('.', point)):
    values, bad = number_cells.values(column, decimal)
    assert np.isnan(values[1]) and not bad[1]
    assert bad[0] == (want is None)
    assert bad[0] or values[0] == want


def test_numbers_are_those_of_python():
  rng = np.random.default_rng(0)
  wanted = np.ldexp(rng.normal(size=500), rng.integers(-900, 900, 500))
  for cells, decimal in (([repr(float(v)) for v in wanted], '.'),
                         ([f'+{abs(v)!r}'.replace('np.float64(', '').strip(
                             ')').replace('.', ',') for v in wanted], ',')):
    values, bad = number_cells.values(pandas.Series(cells), decimal)
    assert not bad.any()
    np.testing.assert_array_equal(abs(values), abs(wanted))


def dirty(tmp_path, **columns):
  path = tmp_path / 'dirty.csv'
  pandas.DataFrame(columns).to_csv(path, index=False)
  return path


def test_all_faults_at_once_each_with_its_mend(tmp_path):
  n = 300
  size = [f'{i}.5' for i in range(n)]
  size[7] = '-'
  size[9] = size[11] = 'k. A.'
  weight = [str(i) for i in range(n)]
  weight[4] = ''
  kinds = [('a', 'b')[i % 2] for i in range(n)]
  kinds[3] = ''
  path = dirty(tmp_path, size=size, weight=weight,
               town=['Oslo', 'Rome', 'Bonn'] * 100,
               who=[f'name {i}' for i in range(n)],
               day=[f'2024-01-{1 + i % 28:02d}' for i in range(n)],
               Befund=kinds)
  told = refused(path, ignore=('colour',))
  lines = told.splitlines()
  assert lines[0] == '7 faults'
  for words in (
      "data.ignore: no column 'colour'",
      "row 9, column 'size': '-' is no number: 3 of 300 cells",
      "('-' 1, 'k. A.' 2): dirt? If that is an empty cell, "
      'data.na_values = ["-", "k. A."]',
      "row 6, column 'weight': missing or not finite (1 such cell)",
      "row 2, column 'town': 'Oslo' is no number: 300 of 300 cells, 3 differ",
      "row 2, column 'who': 'name 0' is no number: 300 of 300 cells, 300 diff",
      "row 2, column 'day': '2024-01-01' is no number: 300 of 300 cells are "
      'dates: data.time = "day"',
      "row 5, column 'Befund': no label (1 such row); set data.unlabeled"):
    assert words in told, words
  assert lines[-1] == (
      '  in [data], if that is what is meant: unlabeled = "drop", na_values = '
      '["-", "k. A."], missing = "median", categorical = ["town"], ignore = '
      '["who", "day"]')
  # What it says works.
  found = load(path, unlabeled='drop', na_values=('-', 'k. A.'),
               missing='median', categorical=('town',), ignore=('who', 'day'))
  assert '4 missing cells filled with the median' in found.description
  assert found.train.x.shape[1] == 2 + 3


def test_a_few_odd_cells_are_dirt_and_many_are_names(tmp_path):
  few = dirty(tmp_path, size=['1'] * 299 + ['?'], Befund=['a', 'b'] * 150)
  told = refused(few)
  assert "'?' is no number: 1 of 300 cells ('?' 1): dirt?" in told
  assert 'data.na_values = ["?"]' in told and 'data.missing' in told
  assert '\n' not in told and told.endswith(
      '; in [data], if that is what is meant: na_values = ["?"], '
      'missing = "median"')
  many = dirty(tmp_path, size=['1', 'x', 'y'] * 100, Befund=['a', 'b'] * 150)
  assert '200 of 300 cells, 2 different ones, are text; name' in refused(many)
  units = dirty(tmp_path, size=[f'{i}' if i % 3 else f'{i} mm'
                                for i in range(300)], Befund=['a', 'b'] * 150)
  assert '100 of 300 cells, 100 different ones (' in refused(units)


def test_spellings_of_an_empty_cell_and_of_a_class(tmp_path):
  path = dirty(tmp_path, size=['1', '2', '-', '4'] * 30, other=['-', 'x'] * 60,
               Befund=['NA', 'None', 'a'] * 40)
  keys = {'categorical': ('other',), 'missing': 'mean'}
  assert 'no label (80 such rows)' in refused(path, na_values=('-',), **keys)
  found = load(path, keep_default_na=False, na_values=('-',), **keys)
  assert found.preprocessing.classes == ('NA', 'None', 'a')
  counts = re.search(r'(\d+) missing cells and (\d+) missing names filled',
                     found.description)
  assert sum(map(int, counts.groups())) == 90
  one = load(path, keep_default_na=False, na_values={'size': ('-',)}, **keys)
  assert '30 missing cells filled' in one.description
  assert one.preprocessing.names == {'other': ('-', 'x')}
  assert "data.na_values: no column 'sise'" in refused(
      path, na_values={'sise': ('-',)}, keep_default_na=False, **keys)


def test_spellings_in_parquet(tmp_path):
  path = tmp_path / 'dirty.parquet'
  pandas.DataFrame({'size': ['1,5', '2', '-', '4'] * 10,
                    'Befund': ['a', 'b'] * 20}).to_parquet(path)
  assert "'-' is no number: 10 of 40 cells" in refused(path)
  found = load(path, na_values=('-',), missing='mean')
  fitted = found.preprocessing
  np.testing.assert_allclose(
      np.unique(found.train.x * fitted.scale + fitted.mean),
      np.sort([1.5, 2, 4, fitted.fill[0]]), rtol=1e-6)
  assert '10 missing cells' in found.description


@pytest.mark.parametrize('ending', ['csv', 'parquet'])
def test_a_number_that_stands_for_nothing(tmp_path, ending):
  path = tmp_path / f'codes.{ending}'
  frame = pandas.DataFrame({'size': [1.5, -999, 2.5, 3.5] * 10,
                            'other': [-999., 1., 2., 3.] * 10,
                            'Befund': ['a', 'b'] * 20})
  getattr(frame, f'to_{ending}')(path, index=False)
  assert '10 missing cells' in load(
      path, na_values={'size': ('-999',)}, missing='mean').description
  assert '20 missing cells' in load(
      path, na_values=('-999', 'k. A.'), missing='mean').description


def test_labels_keep_all_their_digits(tmp_path):
  path = tmp_path / 'labels.csv'
  names = [str(2 ** 54 + i % 2) for i in range(39)]
  path.write_text('size,Befund\n' + ''.join(
      f'{i * i},{name}\n' for i, name in enumerate([*names, ''])))
  assert load(path, unlabeled='drop').preprocessing.classes == (
      '18014398509481984', '18014398509481985')
  assert 'if NA or None is a class, data.keep_default_na' in refused(path)
  assert 'whose last digits a float does not keep' in refused(
      path, unlabeled='drop', predict='number')


@pytest.mark.parametrize('keys, words', [
    ({'encoding': 'klingon'}, "no encoding is called 'klingon'"),
    ({'separator': ',', 'decimal': ','}, 'the same sign'),
    ({'separator': '::'}, 'at most 1 character'),
    ({'group': 'Befund'}, "'Befund' is named in group and in label"),
    ({'label': 'a', 'categorical': ('a',)}, "'a' is named in label and in cat"),
    ({'path': 'a.npz', 'encoding': 'utf-8'}, 'encoding has no meaning'),
    ({'path': 'a.parquet', 'separator': ';'}, 'separator has no meaning'),
    ({'path': 'a.npz', 'keep_default_na': False}, 'ends in .csv'),
    ({'test': 1.5}, 'takes a share between 0 and 1, or a file'),
    ({'test': True}, 'takes a share between 0 and 1, or a file'),
    ({'source': 'iris', 'path': None, 'test': 'a.csv'}, 'give a share')])
def test_settings_that_cannot_hold(keys, words):
  with pytest.raises(ValueError, match=words):
    schema.Data(**{'source': 'file', 'path': 'a.csv', 'label': 'Befund',
                   **keys})
