"""Sequences of unequal length: padding counts nowhere."""

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import numpy as jnp

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import division, long_dependency, sources
from gradnorm_optax.lab.methods import chain
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import make_problem, steps

HERE = __name__
RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(1, 9, size=60)
SERIES = [RNG.normal(3, 5, size=(n, 2)) for n in LENGTHS]


class Pool(nn.Module):
  """The mean of a layer over the steps that are no padding."""

  outputs: int

  @nn.compact
  def __call__(self, x, lengths):
    mask = (jnp.arange(x.shape[1]) < lengths[:, None])[..., None]
    h = jnp.where(mask, jnp.tanh(nn.Dense(5)(x)), 0).sum(1)
    return nn.Dense(self.outputs)(h / lengths[:, None])


class Each(nn.Module):
  """Every step by itself."""

  outputs: int

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.outputs)(jnp.tanh(nn.Dense(5)(x)))


def pool(outputs):
  return Pool(outputs)


def each(outputs):
  return Each(outputs)


def by_sequence():
  return SERIES, np.arange(60) % 3


def by_position():
  return SERIES, [np.arange(n) % 3 for n in LENGTHS]


def numbers_by_position():
  return SERIES, [one.sum(1) for one in SERIES]


def words():
  return ['abc' * n for n in LENGTHS], [f'{n % 2}' for n in range(60)]


def tables():
  return [[1.0, 2.0]] * 30 + [[3.0, 5.0]] * 30, [0, 1] * 30


def steps_without_labels():
  return SERIES, [np.zeros(n, int) for n in LENGTHS[::-1]]


def empty_sequence():
  return [*SERIES[:-1], SERIES[-1][:0]], np.arange(60) % 3


def channels_differ():
  return [*SERIES[:-1], SERIES[-1][:, :1]], np.arange(60) % 3


def load(name, **keys):
  return sources.load(schema.Data(
      source='function', target=f'{HERE}:{name}', **keys))


def build(name, dataset):
  return make_problem.join(
      schema.Own(kind='target', target=f'{HERE}:{name}'), dataset)


def longer(split, junk):
  """The same examples with seven more padded positions."""
  def pad(a):
    return np.pad(a, [(0, 0), (0, 7)] + [(0, 0)] * (a.ndim - 2),
                  constant_values=junk)
  return split._replace(
      x=pad(split.x), y=pad(split.y) if split.y.ndim > 1 else split.y)


@pytest.mark.parametrize('model, source, keys', [
    ('pool', 'by_sequence', {}), ('each', 'by_position', {}),
    ('each', 'numbers_by_position', {'predict': 'number'})])
def test_more_padding_changes_nothing(model, source, keys):
  found = load(source, **keys)
  assert set(found.train.lengths) == set(LENGTHS)
  made = build(model, found)
  params, extra = made.init(0)
  take = jax.jit(jax.value_and_grad(
      lambda p, part: made.loss(p, extra, *part)[0]))
  evaluate = jax.jit(made.evaluate)
  loss, gradient = take(params, found.train)
  score = evaluate(params, extra, found.validation)
  assert loss > 0 and optax.tree.norm(gradient) > 0
  for junk in (0, 1):
    more, same = take(params, longer(found.train, junk))
    assert float(more) == pytest.approx(float(loss), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(
        a, b, atol=1e-6), gradient, same)
    again = evaluate(params, extra, longer(found.validation, junk))
    for name, value in score.items():
      assert float(again[name]) == pytest.approx(float(value), rel=1e-5)


def test_statistics_ignore_padding():
  found = load('by_sequence')
  rows = division.divide(np.arange(60) % 3, schema.Data())
  known = np.concatenate([SERIES[i] for i in rows[0]])
  for part, at in zip(found[:3], rows, strict=True):
    for x, n, i in zip(part.x, part.lengths, at, strict=True):
      np.testing.assert_allclose(
          x[:n], (SERIES[i] - known.mean(0)) / known.std(0), atol=1e-5)
      assert not x[n:].any()
  assert '1 to 8 steps, padded' in found.description


def test_holes_are_filled_with_means_of_what_is_no_padding(tmp_path):
  x = np.zeros((60, 8, 1))
  for i, n in enumerate(LENGTHS):
    x[i, :n] = i
    x[i, n:] = np.nan  # padding, not a hole
  hole = int(np.argmax(LENGTHS > 2))
  x[hole, 1] = np.nan
  path = tmp_path / 'series.npz'
  np.savez(path, x=x, y=np.arange(60) % 3, lengths=LENGTHS)
  found = sources.load(schema.Data(
      source='file', path=str(path), missing='mean'))
  assert '1 missing cell filled' in found.description
  rows = division.divide(np.arange(60) % 3, schema.Data())
  known = np.concatenate([x[i, :LENGTHS[i]] for i in rows[0]]).ravel()
  mean = np.nanmean(known)
  filled = np.where(np.isnan(known), mean, known)
  part, at = next((part, list(rows[k]).index(hole)) for k, part in enumerate(
      found[:3]) if hole in rows[k])
  assert part.x[at, 1, 0] == pytest.approx(
      (mean - filled.mean()) / filled.std(), abs=1e-5)


def test_parts_of_a_batch_weigh_what_they_hold():
  found = load('by_position')
  made = build('each', found)
  built = chain.build(schema.Method(optimizer='sgd'), 0.1)
  state = steps.start(made, built, *made.init(0))
  train = jax.tree.map(jnp.asarray, found.train)
  after = [jax.jit(lambda s, parts=parts: steps.step(
      made, built, schema.Train(batch_size=40, accumulate=parts), train, 0, s))(
          state) for parts in (1, 4)]
  (one, figures), (four, same) = after
  assert float(figures.loss) == pytest.approx(float(same.loss), rel=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
               one.params, four.params)


def test_list_columns_are_channels(tmp_path):
  import pandas
  path = tmp_path / 'series.parquet'
  frame = pandas.DataFrame({
      'left': [one[:, 0] for one in SERIES],
      'right': [one[:, 1] for one in SERIES], 'y': np.arange(60) % 3})
  frame.to_parquet(path)
  config = schema.Data(source='file', path=str(path))
  for part, same in zip(sources.load(config)[:3], load('by_sequence')[:3],
                        strict=True):
    jax.tree.map(np.testing.assert_array_equal, tuple(part), tuple(same))
  frame['age'] = 3.0
  frame.to_parquet(path)
  with pytest.raises(LabError, match="'left' holds sequences and 'age' single"):
    sources.load(config)
  frame.at[4, 'right'] = frame.at[4, 'right'][:0]
  frame.drop(columns='age').to_parquet(path)
  with pytest.raises(LabError, match="row 5: .*'left', 'right' differ"):
    sources.load(config)


def test_symbols_that_are_texts():
  found = load('words')
  assert found.train.x.dtype == np.int32 and found.symbols == 3
  assert '3 symbols' in found.description and found.outputs == 2
  np.testing.assert_array_equal(found.train.x[0, :4], [0, 1, 2, 0][
      :found.train.lengths[0]] + [0] * (4 - min(4, found.train.lengths[0])))


def test_lists_of_one_length_are_a_table():
  found = load('tables')
  assert found.train.x.shape[1:] == (2,) and found.train.lengths is None


@pytest.mark.parametrize('name, words', [
    ('steps_without_labels', r'example \d+: \d steps, but \d labels'),
    ('empty_sequence', r'example 59: not a sequence of numbers.*T > 0'),
    ('channels_differ', r'example 59: its steps have shape \(1,\), .*\(2,\)'),
])
def test_errors_name_the_example(name, words):
  with pytest.raises(LabError, match=words):
    load(name)


def test_lengths_that_cannot_be(tmp_path):
  path = tmp_path / 'series.npz'
  lengths = np.full(60, 3)
  lengths[7] = 5
  np.savez(path, x=np.zeros((60, 4, 1)), y=np.arange(60) % 3, lengths=lengths)
  with pytest.raises(LabError, match='example 7: lengths must be 60 .* to 4'):
    sources.load(schema.Data(source='file', path=str(path)))


def test_a_model_that_is_not_told_the_lengths():
  with pytest.raises(LabError, match="Take `lengths` in the model's __call__"):
    make_problem.join(schema.MLP(kind='mlp'), load('by_sequence'))


@pytest.mark.parametrize('name, chance', [
    ('temporal_order', 0.25), ('adding', None)])
def test_long_dependency(name, chance, monkeypatch):
  monkeypatch.setattr(long_dependency, 'EVALUATION_SIZE', 1000)
  config = schema.Data(source='long_dependency', task=name, length=10,
                       sizes=(1000, 1000, 1000))
  found = sources.load(config)
  task = long_dependency.make(name, 10)
  assert [len(part.y) for part in found[:3]] == [1000] * 3
  assert not np.array_equal(found.test.x, found.validation.x)
  np.testing.assert_array_equal(found.test.x, task.evaluation(0).x)
  assert found.outputs == task.outputs and found.readout == task.readout
  assert found.symbols == (None if name == 'adding' else task.inputs)
  goal, y = found.objective, found.validation.y
  if chance is not None:
    assert goal.chance == pytest.approx(chance, abs=0.05)
  if name == 'adding':  # answers within 0.2 of one number
    grid = np.linspace(0, 1, 1001)
    want = max((abs(y - g) <= 0.2 + 1e-6).mean() for g in grid)
    assert goal.chance == pytest.approx(want, abs=0.003)
  out = RNG.normal(size=(1000, task.readout, task.outputs)).astype(np.float32)
  np.testing.assert_allclose(goal.losses(out, y), task.losses(out, y))
  np.testing.assert_array_equal(goal.scores(out, y), task.right(out, y))
  with pytest.raises(LabError, match='steps that are read'):
    goal.losses(out[:, 0], y)
  with pytest.raises(LabError, match='brings its own loss'):
    sources.load(config, schema.Train(loss='huber'))


def shorter():
  """All of one length, and an array that is longer."""
  x = RNG.normal(size=(60, 10, 2))
  y = np.where(np.arange(10) < 5, np.arange(600).reshape(60, 10) % 2, 9)
  return x, y, np.full(60, 5)


def test_padding_that_all_share_is_padding(tmp_path):
  x, y, lengths = shorter()
  path = tmp_path / 'short.npz'
  np.savez(path, x=x, y=y, lengths=lengths)
  found = sources.load(schema.Data(source='file', path=str(path)))
  assert (found.train.lengths == 5).all()
  # Three zeros of five valid labels; the nines are padding.
  assert found.objective.chance == pytest.approx(0.6)


def late_numbers():
  """The first step's number is always 0."""
  lengths = np.maximum(LENGTHS, 2)
  return ([np.resize(one, (n, 2)) for one, n in zip(
      SERIES, lengths, strict=True)], [np.arange(n) * 1.0 for n in lengths])


def test_numbers_may_agree_at_one_step():
  found = sources.load(schema.Data(
      source='function', target=f'{HERE}:late_numbers', predict='number'))
  assert found.objective.measure.name == 'R²'
  assert (found.train.y[:, 0] == found.train.y[0, 0]).all()
