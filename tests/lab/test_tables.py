"""A stranger's table: a clear error or a correct run, nothing in silence."""

import numpy as np
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import division, sources
from gradnorm_optax.lab.support.errors import LabError

ROWS = 5000


@pytest.fixture(scope='module')
def stranger(tmp_path_factory):
  """8% empty cells, text, a constant, 1e9-scale numbers, an unlabeled row."""
  rng = np.random.default_rng(0)
  kind = rng.integers(3, size=ROWS)
  cells = np.stack([kind + rng.normal(0, .3, ROWS),
                    1e9 * (kind == 1) + 1e8 * rng.normal(size=ROWS)], 1)
  missing = rng.random(cells.shape) < 0.08
  missing[:5] = False
  missing[5, 1] = True
  path = tmp_path_factory.mktemp('data') / 'stranger.csv'
  lines = ['age,income,city,unit,kind']
  for i in range(ROWS):
    age, income = ('' if m else repr(float(c))
                   for c, m in zip(cells[i], missing[i], strict=True))
    label = '' if i == 9 else 'abc'[kind[i]]
    lines.append(f'{age},{income},{"Rome" if i % 2 else "Oslo"},7,{label}')
  path.write_text('\n'.join(lines) + '\n')
  return path, cells, missing, kind


def table(path, **keys):
  return schema.Data(source='file', path=str(path), **{
      'label': 'kind', 'unlabeled': 'drop', 'categorical': ('city',),
      'missing': 'mean', **keys})


@pytest.mark.parametrize('keys, words', [
    ({'unlabeled': 'error'}, r"row 11, column 'kind': no label \(1 such"),
    ({'categorical': ()}, r"row 2, column 'city': 'Oslo' is no number: "
     '5000 of 5000 cells, 2 different ones, are text; name the column in '
     'data.categorical'),
    ({'missing': 'error'}, r"row \d+, column '(age|income)': missing .*set"),
    ({'symbols': True}, "symbols is for sequences, and 'age' holds single val"),
    ({'label': 'kinds'}, r"no column 'kinds'; the nearest .* is 'kind'"),
    ({'ignore': ('unitt',)}, r"no column 'unitt'.*'unit'"),
    ({'predict': 'number'}, r"row \d+, column 'kind': the label '[abc]' is no "
     'number; set data.predict = "class"'),
    ({'label': 'income', 'ignore': ('kind',)},
     r'label has \d{4} different values.*data.predict = "number"'),
])
def test_errors_name_row_and_column(stranger, keys, words):
  with pytest.raises(LabError, match=words):
    sources.load(table(stranger[0], **keys))


def test_filled_with_training_means_and_scaled(stranger):
  path, cells, missing, kind = stranger
  found = sources.load(table(path))
  keep = np.arange(ROWS) != 9
  cells, missing, kind = cells[keep], missing[keep], kind[keep]
  train, validation, test = division.divide(kind, table(path))
  holes = np.where(missing, np.nan, cells)
  mean = np.nanmean(holes[train], 0)
  filled = np.where(missing, mean, cells)
  want = (filled - filled[train].mean(0)) / filled[train].std(0)
  for part, rows in zip(found[:3], (train, validation, test), strict=True):
    np.testing.assert_allclose(part.x[:, :2], want[rows], atol=1e-4)
    np.testing.assert_array_equal(part.y, kind[rows])
    assert part.x.shape[1] == 2 + 2 + 1 and part.x.dtype == np.float32
  assert found.outputs == 3
  assert all(np.isfinite(part.x).all() for part in found[:3])
  assert sum(len(part.y) for part in found[:3]) == ROWS - 1
  for note in ('1 unlabeled row left out', f'{missing.sum()} missing cells',
               f'(age {missing[:, 0].sum()}, income {missing[:, 1].sum()})',
               'columns of one value alone, which teach nothing: unit',
               '3 classes', '3499 training + 750 validation + 750 test exam'):
    assert found.description.count(note) == 1


def test_filled_with_training_medians(stranger):
  path, cells, missing, kind = stranger
  found = sources.load(table(path, missing='median', ignore=('unit', 'city')))
  keep = np.arange(ROWS) != 9
  holes = np.where(missing, np.nan, cells)[keep]
  train, _, test = division.divide(kind[keep], table(path))
  filled = np.where(np.isnan(holes), np.nanmedian(holes[train], 0), holes)
  want = (filled - filled[train].mean(0)) / filled[train].std(0)
  np.testing.assert_allclose(found.test.x, want[test], atol=1e-4)


def test_a_column_of_the_table_as_the_number_to_predict(stranger):
  path, cells, missing, _ = stranger
  found = sources.load(table(path, label='income', predict='number',
                          ignore=('kind',)))
  known = ~missing[:, 1]
  assert f'{(~known).sum()} unlabeled rows left out' in found.description
  rows = division.divide(np.zeros(known.sum(), np.int32), table(path))
  y = cells[known, 1]
  want = (y - y[rows[0]].mean()) / y[rows[0]].std()
  np.testing.assert_allclose(found.test.y, want[rows[2]], atol=1e-5)


def test_a_strangers_table_trains(stranger, tmp_path):
  done = lab.train({
      'data': table(stranger[0]).model_dump(exclude_none=True),
      'models': {'net': {'kind': 'mlp', 'depth': 1, 'width': 8}},
      'methods': {'adam': {'optimizer': 'adam'}},
      'train': {'steps': 100, 'eval_every': 50}}, out=tmp_path, quiet=True)
  assert all(np.isfinite(row['loss']) for row in done.rows)
  assert done.test['score'] > 0.7


def test_a_column_of_too_many_names(tmp_path):
  path = tmp_path / 'names.csv'
  path.write_text('who,kind\n' + ''.join(
      f'name{i},{"ab"[i % 2]}\n' for i in range(1500)))
  with pytest.raises(LabError, match="'who' holds 1500 different names.*ignor"):
    sources.load(table(path, categorical=('who',)))


def test_a_missing_name_is_one_cell(tmp_path):
  path = tmp_path / 'names.csv'
  path.write_text('who,size,kind\n' + ''.join(
      f'{"" if i in (3, 7) else "xyz"[i % 3]},'
      f'{"inf" if i == 5 else i},{"ab"[i % 10 == 0]}\n' for i in range(60)))
  keys = {'categorical': ('who',)}
  with pytest.raises(LabError) as all_at_once:
    sources.load(table(path, **keys, missing='error'))
  first, *faults, mend = str(all_at_once.value).splitlines()
  assert first == f'{path}: 2 faults'
  for fault, words in zip(faults, (
      "row 5, column 'who': missing or not finite (2 such cells); set data",
      "row 7, column 'size': missing or not finite (1 such cell); set data"),
                          strict=True):
    assert words in fault and str(path) not in fault
  assert mend.endswith('missing = "median"')
  found = sources.load(table(path, **keys))
  assert ('1 infinite cell and 2 missing names filled with the mean of the '
          'training part (who 2, size 1)') in found.description
  assert ('2 classes, the rarest (b) 10.0%, the commonest (a) 90.0%, 9 times '
          'as common') in found.description


def test_names_are_those_of_the_training_part(tmp_path):
  path = tmp_path / 'names.csv'
  kinds = np.arange(60) % 2
  train, _, test = division.divide(kinds, table(path))
  late = test[0]
  names = np.where(np.arange(60) == late, 'z', np.where(
      np.arange(60) % 3 == 0, 'y', 'x')).astype(object)
  names[train[4]] = ''  # filled with the shares of the training part
  path.write_text('who,size,kind\n' + ''.join(
      f'{names[i]},{i},{"ab"[kinds[i]]}\n' for i in range(60)))
  found = sources.load(table(path, categorical=('who',)))
  assert '1 name without a training example (who=z)' in found.description
  hot = (names[:, None] == np.array(['x', 'y'])).astype(float)
  known = np.delete(train, 4)
  hot[train[4]] = hot[known].mean(0)
  want = (hot - hot[train].mean(0)) / hot[train].std(0)
  for part, rows in ((found.train, train), (found.test, test)):
    assert part.x.shape[1] == 3
    np.testing.assert_allclose(part.x[:, :2], want[rows], atol=1e-5)


def test_numbers_that_are_classes_keep_their_names(tmp_path):
  path = tmp_path / 'numbers.csv'
  path.write_text('a,kind\n' + ''.join(
      f'{i},{"" if i == 3 else i % 2}\n' for i in range(60)))
  assert 'the rarest (1) 49.2%, the commonest (0) 50.8%' in sources.load(
      table(path, categorical=())).description


def test_entries_of_one_value_are_counted_in_arrays(tmp_path):
  x = np.arange(240.).reshape(60, 4)
  x[:, 2] = 5
  np.savez(tmp_path / 'a.npz', x=x, y=np.arange(60) % 2)
  found = sources.load(schema.Data(source='file', path=str(tmp_path / 'a.npz')))
  assert '1 of 4 inputs has one value alone' in found.description


@pytest.mark.parametrize('y, predict', [
    (np.where(np.arange(60) == 3, np.nan, np.arange(60)), 'number'),
    (np.where(np.arange(60) == 3, np.nan, np.arange(60) % 2), 'class'),
    (np.where(np.arange(60) == 3, '', 'a'), 'class')])
def test_arrays_with_an_unlabeled_example(tmp_path, y, predict):
  path = tmp_path / 'arrays.npz'
  if y.dtype.kind == 'U':
    y[::2] = 'b'
  np.savez(path, x=np.arange(120.0).reshape(60, 2), y=y)
  config = schema.Data(source='file', path=str(path), predict=predict)
  with pytest.raises(LabError, match=r'example 3: no label \(1 such'):
    sources.load(config)
  found = sources.load(config.model_copy(update={'unlabeled': 'drop'}))
  assert sum(len(part.y) for part in found[:3]) == 59
  assert found.outputs == (1 if predict == 'number' else 2)
  held = np.sort(np.concatenate([part.x[:, 0] for part in found[:3]]))
  gaps = np.diff(held) / np.diff(held).min()  # example 3 alone is missing
  np.testing.assert_allclose(gaps, [1, 1, 2] + [1] * 55, rtol=1e-3)


def test_dropped_rows_are_counted(stranger):
  path, _, missing, _ = stranger
  found = sources.load(table(path, missing='drop', ignore=('unit',)))
  bad = np.delete(missing, 9, 0).any(1).sum()
  assert f'{bad} of {ROWS - 1} rows with missing cells' in found.description
  assert sum(len(part.y) for part in found[:3]) == ROWS - 1 - bad


def test_parquet_is_the_same_table(stranger, tmp_path):
  import pandas
  path = tmp_path / 'stranger.parquet'
  pandas.read_csv(stranger[0]).to_parquet(path)
  found, same = sources.load(table(path)), sources.load(table(stranger[0]))
  np.testing.assert_array_equal(found.test.x, same.test.x)


def test_archive_and_function(tmp_path, monkeypatch):
  rng = np.random.default_rng(1)
  x, y = rng.normal(size=(90, 4, 4, 2)), np.arange(90) % 3
  np.savez(tmp_path / 'arrays.npz', x=x, kind=y)
  found = sources.load(schema.Data(
      source='file', path=str(tmp_path / 'arrays.npz'), label='kind'))
  np.testing.assert_allclose(found.train.x.mean((0, 1, 2)), 0, atol=1e-5)
  (tmp_path / 'own_data_for_test.py').write_text(
      'import numpy as np\n'
      'def make(): return np.load("arrays.npz")["x"], np.arange(90) % 3\n'
      'def wrong(): return 3\n')
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  same = sources.load(schema.Data(
      source='function', target='own_data_for_test:make'))
  np.testing.assert_array_equal(found.test.x, same.test.x)
  with pytest.raises(LabError, match=r'must return \(inputs, labels.*not int'):
    sources.load(schema.Data(
        source='function', target='own_data_for_test:wrong'))
  with pytest.raises(LabError, match="no array 'labels'; known names"):
    sources.load(schema.Data(source='file', label='labels',
                          path=str(tmp_path / 'arrays.npz')))


def test_source_and_path_belong_together(tmp_path):
  path = tmp_path / 'c.toml'
  path.write_text('[data]\nsource = "file"\n[models.m]\nkind = "mlp"\n'
                  '[methods.a]\noptimizer = "adam"\n')
  with pytest.raises(LabError, match='path and source = "file" belong'):
    lab.load(path)
  with pytest.raises(LabError, match='nothing.csv does not exist'):
    sources.load(table(tmp_path / 'nothing.csv'))


@pytest.mark.parametrize('keys, words', [
    ({'source': 'wine', 'ignore': ('alcohol',)},
     'ignore has no meaning with source = "wine"; leave it out'),
    ({'source': 'digits', 'symbols': True}, 'symbols has no meaning'),
    ({'source': 'file', 'path': 'a.NPZ', 'categorical': ('town',)},
     'categorical has no meaning with a path that ends in .npz'),
    ({'source': 'file', 'path': 'a.csv', 'subset': 'small'}, 'subset has no'),
    ({'source': 'file', 'path': 'a.csv', 'resize': (4, 4)}, 'resize has no')])
def test_keys_that_would_change_nothing(keys, words):
  with pytest.raises(ValueError, match=words):
    schema.Data(**keys)
