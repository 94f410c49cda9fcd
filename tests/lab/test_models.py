"""The lab's models: shapes, depth, batch statistics, one order of data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradnorm_optax.lab import data, methods, problem, schema, trial


@pytest.fixture(scope='module')
def digits():
  return data.load(schema.Data())


MODELS = {
    'mlp': schema.MLP(kind='mlp', depth=3, width=7, activation='sigmoid'),
    'cnn': schema.CNN(kind='cnn', depth=3, width=4),
    'resnet': schema.ResNet(kind='resnet', width=4),
    'plain_resnet': schema.ResNet(
        kind='resnet', width=4, batch_norm=False),
}


@pytest.mark.parametrize('name', MODELS)
def test_one_step(digits, name):
  made = problem.build(MODELS[name], digits)
  params, extra = jax.jit(made.init)(0)
  built = methods.build(schema.Method(optimizer='sgd'), 0.1)
  state = trial.start(made, built, params, extra)
  after, loss = jax.jit(lambda s: trial.step(
      made, built, 20, jax.tree.map(jnp.asarray, digits.train), 0, s))(state)
  assert np.isfinite(loss) and after.step == 1
  assert bool(after.extra) == (name == 'resnet')
  for before, now in zip(jax.tree.leaves((params, extra)),
                         jax.tree.leaves((after.params, after.extra)),
                         strict=True):
    assert before.shape == now.shape
    assert not np.array_equal(before, now)


def test_depth_and_width():
  made = problem.build(MODELS['mlp'], data.load(schema.Data()))
  params, _ = made.init(0)
  assert {k: v['kernel'].shape for k, v in params.items()} == {
      'layer01': (64, 7), 'layer02': (7, 7), 'layer03': (7, 7),
      'output': (7, 10)}


def test_digits_are_divided_and_standardized_on_training_data(digits):
  assert [len(part.y) for part in digits[:3]] == [1257, 270, 270]
  train = digits.train.x.astype(np.float64)
  moving = train.std(0) > 0
  np.testing.assert_allclose(train.mean(0), 0, atol=1e-6)
  np.testing.assert_allclose(train.std(0)[moving], 1, atol=1e-6)
  assert abs(digits.validation.x.mean(0)).max() > 0.01
  shares = [np.bincount(part.y) / len(part.y) for part in digits[:3]]
  np.testing.assert_allclose(shares[1:], [shares[0]] * 2, atol=0.01)
  again = data.load(schema.Data())
  np.testing.assert_array_equal(digits.test.x, again.test.x)
  other = data.load(schema.Data(seed=1))
  assert not np.array_equal(digits.test.x, other.test.x)


def test_order_of_data_depends_on_seed_and_epoch_alone(digits):
  made = problem.build(MODELS['mlp'], digits)
  train = jax.tree.map(jnp.asarray, digits.train)

  def orders(optimizer, seed, steps):
    built = methods.build(schema.Method(optimizer=optimizer), 0.1)
    state = trial.start(made, built, *made.init(0))
    one = jax.jit(lambda s: trial.step(made, built, 600, train, seed, s)[0])
    found = []
    for _ in range(steps):
      state = one(state)
      found.append(np.asarray(state.order))
    return found

  first, same, second = orders('sgd', 3, 3)
  np.testing.assert_array_equal(first, same)  # two batches an epoch
  assert not np.array_equal(first, second)
  np.testing.assert_array_equal(np.sort(second), np.arange(1257))
  for a, b in zip(orders('adam', 3, 3), (first, same, second), strict=True):
    np.testing.assert_array_equal(a, b)
  assert not np.array_equal(orders('sgd', 4, 1)[0], first)


def test_evaluation_in_parts(digits, monkeypatch):
  made = problem.build(MODELS['mlp'], digits)
  params, extra = made.init(0)
  whole = made.evaluate(params, extra, digits.validation)
  monkeypatch.setattr(problem, 'EVALUATION_BATCH', 100)
  parts = made.evaluate(params, extra, digits.validation)
  np.testing.assert_allclose(parts['loss'], whole['loss'], rtol=1e-5)
  assert parts['accuracy'] == pytest.approx(float(whole['accuracy']))
