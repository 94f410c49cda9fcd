"""The six tasks, line by line of their table."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from gradnorm_optax.lab.data import long_dependency
from gradnorm_optax.lab.support.errors import LabError

KEY = jax.random.key(7)


def draw(name, length=100, size=2000):
  task = long_dependency.make(name, length)
  batch = task.sample(KEY, size)
  return task, np.asarray(batch.x), np.asarray(batch.y)


@pytest.mark.parametrize('length', [100, 150, 15])
@pytest.mark.parametrize('name', ['adding', 'multiplication'])
def test_marked_numbers(name, length):
  task, x, y = draw(name, length)
  assert x.shape == (2000, length, 2) and x.dtype == y.dtype == np.float32
  values = x[..., 1]
  assert values.min() >= 0 and values.max() < 1
  assert abs(values.mean() - 0.5) < 0.01
  assert set(np.unique(x[..., 0])) == {0, 1}
  for row, (marks, target) in enumerate(zip(x[..., 0], y, strict=True)):
    first, second = np.flatnonzero(marks)
    assert 0 <= first < 0.1 * length <= second < 0.5 * length
    a, b = values[row, first], values[row, second]
    want = (a + b) / 2 if name == 'adding' else a * b
    assert target == pytest.approx(want, rel=1e-6)
  # Every place of both spans occurs.
  seen = np.flatnonzero(x[..., 0].sum(0))
  assert list(seen) == list(range(-(-length // 2)))


@pytest.mark.parametrize('length', [100, 150])
@pytest.mark.parametrize(('name', 'spans'), [
    ('temporal_order', [(0.1, 0.2), (0.5, 0.6)]),
    ('temporal_order_3', [(0.1, 0.2), (0.3, 0.4), (0.6, 0.7)])])
def test_temporal_order(name, spans, length):
  task, x, y = draw(name, length)
  assert x.shape == (2000, length) and task.inputs == 6
  assert task.outputs == 2 ** len(spans)
  for row, target in zip(x, y[:, 0], strict=True):
    at = np.flatnonzero(row < 2)
    assert len(at) == len(spans)
    for k, (low, high) in zip(at, spans, strict=True):
      assert low * length <= k < high * length
    assert target == int(''.join(map(str, row[at])), 2)
  assert (np.bincount(y[:, 0]) > 0.8 * len(y) / task.outputs).all()
  distractors = np.bincount(x[x >= 2], minlength=6)[2:]
  assert x.max() == 5 and np.ptp(distractors) < 0.05 * distractors.mean()


def test_random_permutation():
  task, x, y = draw('random_permutation')
  assert x.shape == (2000, 100) and task.outputs == task.inputs == 100
  np.testing.assert_array_equal(x[:, 0], y[:, 0])
  assert set(y.ravel()) == {0, 1} and abs(y.mean() - 0.5) < 0.06
  assert set(x[:, 1:].ravel()) == set(range(2, 100))


@pytest.mark.parametrize('length', [1, 100])
def test_noiseless_memorization(length):
  task, x, y = draw('memorization', np.int64(length), 200)
  assert x.shape == (200, length + 20) and task.steps == length + 20
  np.testing.assert_array_equal(x[:, :10], y)
  assert set(y.ravel()) == set(range(5))
  assert (x[:, 10:length + 10] == 5).all()
  assert (x[:, length + 10] == 6).all() and (x[:, length + 11:] == 5).all()


def test_right_when():
  task = long_dependency.make('adding', 100)
  out = jnp.array([0.5, 0.69, 0.71, 0.29])[:, None, None]
  assert task.right(out, jnp.full(4, 0.5)).tolist() == [
      True, True, False, False]
  np.testing.assert_allclose(
      task.losses(out, jnp.full(4, 0.5)), [0, .0361, .0441, .0441], atol=1e-7)
  task = long_dependency.make('memorization', 5)
  y = jnp.arange(20).reshape(2, 10) % 5
  out = jax.nn.one_hot(y, 5)
  assert task.right(out, y).all()
  out = out.at[1, 3].set(jnp.array([9., 0, 0, 0, 0]))  # one of ten wrong
  assert task.right(out, y).tolist() == [True, False]
  want = [np.log(np.e + 4) - 1] * 10
  np.testing.assert_allclose(task.losses(out, y)[0], np.mean(want), rtol=1e-6)


def test_evaluation_set_is_fixed_and_fresh():
  task = long_dependency.make('temporal_order', 50)
  first, again = task.evaluation(), task.evaluation()
  assert first.x.shape == (10_000, 50)
  np.testing.assert_array_equal(first.x, again.x)
  assert (first.x != task.evaluation(1).x).any()
  # A reader of the keys is right everywhere, a constant one in a quarter.
  def read(x):
    at = jnp.sort(jnp.where(x < 2, jnp.arange(50), 99), axis=1)[:, :2]
    keys = jnp.take_along_axis(x, at, axis=1)
    return jax.nn.one_hot(2 * keys[:, 0] + keys[:, 1], 4)[:, None]
  assert task.evaluate(read, first)['accuracy'] == 1.0
  odd = jax.tree.map(lambda a: a[:1501], first)  # three parts do not fit
  assert task.evaluate(read, odd)['accuracy'] == 1.0
  guess = task.evaluate(lambda x: jnp.zeros((len(x), 1, 4)), first)
  assert float(guess['accuracy']) == pytest.approx(0.25, abs=0.02)
  assert float(guess['loss']) == pytest.approx(np.log(4), rel=1e-6)


def test_bad_tasks_are_named():
  with pytest.raises(LabError, match="Did you mean|temporal_order"):
    long_dependency.make('temporal_ordr', 100)
  with pytest.raises(LabError, match='T = 2.5 must be an integer'):
    long_dependency.make('adding', 2.5)
  with pytest.raises(LabError, match=r'T = 5.*\[\.1 T, \.2 T\)'):
    long_dependency.make('temporal_order', 5)
