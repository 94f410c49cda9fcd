"""Who trains, who chooses, who judges: by class, group, time, own files."""

import numpy as np
import pandas
import pytest

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import division, sources
from gradnorm_optax.lab.support.errors import LabError

HERE = __name__
RNG = np.random.default_rng(0)
N = 600
LOTS = np.sort(RNG.integers(60, size=N))
RARE = (RNG.random(N) < .1).astype(int)
DATA = schema.Data()


def test_no_group_stands_on_two_sides_and_classes_keep_their_shares():
  worst, tests = 0.0, set()
  for seed in range(10):
    config = DATA.model_copy(update={'seed': seed})
    parts = division.divide(RARE, config, group=LOTS)
    again = division.divide(RARE, config, group=LOTS)
    sides = [set(LOTS[part]) for part in parts]
    assert not (sides[0] & sides[1] or sides[0] & sides[2]
                or sides[1] & sides[2])
    assert sorted(np.concatenate(parts)) == list(range(N))
    tests.add(parts[2].tobytes())
    for part, same, share in zip(parts, again, (.7, .15, .15), strict=True):
      np.testing.assert_array_equal(part, same)
      assert abs(len(part) / N - share) < .05
      worst = max(worst, abs(RARE[part].mean() - RARE.mean()))
  assert len(tests) == 10  # each seed has its own
  assert worst < .02


def test_the_last_ones_are_the_test_and_one_time_stays_together():
  days = RNG.integers(40, size=N)
  parts = division.divide(RARE, DATA, time=days)
  for earlier, later in zip(parts, parts[1:], strict=False):
    assert days[earlier].max() < days[later].min()
  for part, share in zip(parts, (.7, .15, .15), strict=True):
    assert abs(len(part) / N - share) < .03
  stamps = np.datetime64('2024-01-01') + days
  for part, same in zip(
      parts, division.divide(RARE, DATA, time=stamps), strict=True):
    np.testing.assert_array_equal(part, same)


def test_groups_in_time_are_as_late_as_their_last_example():
  days = np.arange(N) // 7
  group = days // 3
  group[5] = group[-1]  # one early example of the last group
  train, validation, test = division.divide(RARE, DATA, group=group, time=days)
  assert 5 in test and not set(group[train]) & set(group[test])
  assert days[np.setdiff1d(test, [5])].min() > days[validation].max()


@pytest.mark.parametrize('how, words', [
    ({'group': np.zeros(N, int)}, 'group: too few groups to be divided'),
    ({'group': RARE}, 'group: too few groups to be divided'),
    ({'time': np.zeros(N)}, 'time: 600 examples of one time')])
def test_too_few_to_be_divided(how, words):
  with pytest.raises(LabError, match=words):
    division.divide(RARE, DATA, **how)


def table(tmp_path, rows, name, **more):
  path = tmp_path / name
  pandas.DataFrame({
      'size': rows, 'town': [('Oslo', 'Rome', 'Bonn')[i % 3] for i in rows],
      'lot': [f'L{i // 10}' for i in rows],
      'day': [f'{1 + i % 28:02d}.{1 + i // 28:02d}.2024' for i in rows],
      'y': [i % 2 for i in rows], **more}).to_csv(path, index=False)
  return path


def load(path, **keys):
  return sources.load(schema.Data(**{
      'source': 'file', 'path': str(path), 'categorical': ('town',), **keys}))


def test_a_table_by_lot_and_by_day(tmp_path):
  path = table(tmp_path, range(200), 'a.csv')
  found = load(path, group='lot', ignore=('day',))
  assert found.train.x.shape[1] == 4  # the lot is no input
  assert 'groups: 14 + 3 + 3' in found.description
  # The judged ones say which, for intervals over whole lots.
  assert len(found.groups) == len(found.test.y) and len(set(found.groups)) == 3
  found = load(path, group='lot', time='day')
  assert ('divided by time: training 2024-01-01 to 2024-05-28, validation '
          '2024-06-01 to 2024-07-02, test 2024-07-03 to 2024-08-04'
          ) in found.description
  raw = found.test.x[:, 0] * found.preprocessing.scale[
      0] + found.preprocessing.mean[0]
  np.testing.assert_allclose(raw, np.arange(170, 200), rtol=1e-5)


@pytest.mark.parametrize('column, cell, keys, words', [
    ('lot', '', {'group': 'lot', 'ignore': ('day',)},
     r"row 5, column 'lot': no group \(1 such row\); fill it in"),
    ('day', '', {'time': 'day', 'ignore': ('lot',)},
     r"row 5, column 'day': no time \(1 such row\)"),
    ('day', '5/6/2024', {'time': 'day', 'ignore': ('lot',)},
     r"row 5, column 'day': '5/6/2024' is no time \(1 such row\); write"),
    ('day', '31.02.2024', {'time': 'day', 'ignore': ('lot',)}, 'is no time'),
    ('day', '1.1.2024', {'time': 'days', 'ignore': ('lot',)},
     "no column 'days'; the nearest known name is 'day'")])
def test_a_lot_or_a_day_that_is_unknown(tmp_path, column, cell, keys, words):
  path = table(tmp_path, range(60), 'a.csv')
  frame = pandas.read_csv(path, dtype=str)
  frame.loc[3, column] = cell
  frame.to_csv(path, index=False)
  with pytest.raises(LabError, match=words):
    load(path, **keys)


def test_a_file_for_each_part(tmp_path):
  keys = {'ignore': ('lot', 'day')}
  paths = [table(tmp_path, rows, name) for rows, name in (
      (range(100), 'a.csv'), (range(100, 130), 'b.csv'),
      (range(130, 170), 'c.csv'))]
  found = load(paths[0], validation=str(paths[1]), test=str(paths[2]), **keys)
  assert [len(part.y) for part in found[:3]] == [100, 30, 40]
  # Scaled by the training part; one encoding of names for all.
  size = (np.arange(130, 170) - np.mean(range(100))) / np.std(range(100))
  np.testing.assert_allclose(found.test.x[:, 0], size, rtol=1e-5)
  np.testing.assert_array_equal(found.test.y, np.arange(130, 170) % 2)
  assert found.test.x.shape[1] == 4
  some = load(paths[0], test=str(paths[2]), **keys)
  assert [len(part.y) for part in some[:3]] == [85, 15, 40]
  # Faults are named by their own file; columns must be the same.
  frame = pandas.read_csv(paths[2], dtype=str)
  frame.assign(size=['x', *frame['size'][1:]]).to_csv(paths[2], index=False)
  with pytest.raises(LabError, match=r"c\.csv: row 2, column 'size': 'x' is"):
    load(paths[0], test=str(paths[2]), **keys)
  frame.drop(columns='town').to_csv(paths[2], index=False)
  with pytest.raises(LabError, match=r"c\.csv lacks 'town': parts of one set"):
    load(paths[0], test=str(paths[2]), **keys)
  with pytest.raises(LabError, match='test: .*d.csv does not exist'):
    load(paths[0], test=str(tmp_path / 'd.csv'), **keys)


def words_to_train():
  return ['ab' * (1 + i % 3) for i in range(40)], [i % 2 for i in range(40)]


def words_to_test():
  return ['cab'] * 10, [0, 1] * 5


def frame_to_train():
  return pandas.DataFrame({'a': range(40)}), [i % 2 for i in range(40)]


def frame_to_test():
  return pandas.DataFrame({'a': range(40, 50)}), [0, 1] * 5


def test_a_function_for_each_part():
  def call(name, **keys):
    return sources.load(schema.Data(
        source='function', target=f'{HERE}:{name}_to_train',
        test=f'{HERE}:{name}_to_test', **keys))
  found = call('words')
  assert [len(part.y) for part in found[:3]] == [34, 6, 10]
  assert found.preprocessing.symbols == ('a', 'b', 'c')
  np.testing.assert_array_equal(found.test.x[0, :3], [2, 0, 1])
  np.testing.assert_array_equal(found.test.lengths, [3] * 10)
  found = call('frame')
  raw = found.test.x * found.preprocessing.scale + found.preprocessing.mean
  np.testing.assert_allclose(raw[:, 0], np.arange(40, 50), rtol=1e-6)


def pair_to_train():
  return np.arange(80.).reshape(40, 2), np.arange(40) % 2


def wider_to_test():
  return np.arange(30.).reshape(10, 3), np.arange(10) % 2


def shorter_to_test():
  return np.arange(20.).reshape(10, 2), np.arange(9) % 2


@pytest.mark.parametrize('name, words', [
    ('wider', r'wider_to_test: inputs of shape \(10, 3\), those of .*pair'),
    ('shorter', 'shorter_to_test: 10 inputs, but 9 labels')])
def test_parts_that_do_not_fit(name, words):
  with pytest.raises(LabError, match=words):
    sources.load(schema.Data(
        source='function', target=f'{HERE}:pair_to_train',
        test=f'{HERE}:{name}_to_test'))


def test_archives_for_each_part(tmp_path):
  def save(name, rows, steps, **more):
    x = np.zeros((len(rows), steps, 1)) + np.array(rows)[:, None, None]
    np.savez(tmp_path / name, **{
        'x': x, 'y': np.array(rows) % 2, 'lot': np.array(rows) // 4,
        'lengths': np.full(len(rows), steps), **more})
    return str(tmp_path / name)
  train = save('a.npz', range(60), 3)
  test = save('b.npz', range(60, 80), 5)
  keys = {'source': 'file', 'path': train}
  found = sources.load(schema.Data(**keys, test=test, group='lot'))
  assert found.test.x.shape == (20, 5, 1) and found.train.x.shape[1] == 5
  assert 'groups: 13 + 2 + 5' in found.description
  assert 'a.npz: not used: lot; b.npz: not used: lot' in sources.load(
      schema.Data(**keys, test=test)).description
  other = save('c.npz', range(55, 80), 3)
  assert '2 groups in more than one of the parts' in sources.load(
      schema.Data(**keys, test=other, group='lot')).description
  bad = save('d.npz', range(20), 3, y=np.array([1.] * 19 + [np.nan]))
  with pytest.raises(LabError, match=r'd\.npz: example 19: no label'):
    sources.load(schema.Data(**keys, test=bad))
  wrong = save('e.npz', range(20), 3, lot=np.zeros((20, 2)))
  with pytest.raises(LabError, match="'lot' has shape"):
    sources.load(schema.Data(**{**keys, 'path': wrong}, group='lot'))
