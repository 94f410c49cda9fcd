"""The lab's models: shapes, depth, batch statistics, one order of data."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
import pytest

import gradnorm_optax as gn
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import dataset, generated_text, sources
from gradnorm_optax.lab.methods import chain
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import (
  make_problem,
  problem,
  steps as steps_lib,
)


@pytest.fixture(scope='module')
def digits():
  return sources.load(schema.Data())


MODELS = {
    'mlp': schema.MLP(kind='mlp', depth=3, width=7, activation='sigmoid'),
    'cnn': schema.CNN(kind='cnn', depth=3, width=4),
    'resnet': schema.ResNet(kind='resnet', width=4),
    'plain_resnet': schema.ResNet(
        kind='resnet', width=4, batch_norm=False),
}


@pytest.mark.parametrize('name', MODELS)
def test_one_step(digits, name):
  made = make_problem.join(MODELS[name], digits)
  params, extra = jax.jit(made.init)(0)
  built = chain.build(schema.Method(optimizer='sgd'), 0.1)
  state = steps_lib.start(made, built, params, extra)
  after, loss = jax.jit(lambda s: steps_lib.step(
      made, built, schema.Train(batch_size=20),
      jax.tree.map(jnp.asarray, digits.train), 0, s))(state)
  assert np.isfinite(loss.loss) and after.step == 1
  assert bool(after.extra) == (name == 'resnet')
  for before, now in zip(jax.tree.leaves((params, extra)),
                         jax.tree.leaves((after.params, after.extra)),
                         strict=True):
    assert before.shape == now.shape
    assert not np.array_equal(before, now)


@pytest.mark.parametrize('table, words', [
    ({'kind': 'cnn'}, r'kind = "cnn" needs pictures, and an example here has '
     r'shape \(13,\): .*\(height, width, channels\).* kind = "mlp"'),
    ({'kind': 'resnet'}, 'kind = "resnet" needs pictures'),
    ({'kind': 'weight_norm_small'}, '"weight_norm_small" needs pictures'),
    ({'kind': 'transformer'}, 'kind = "transformer" predicts the next symbol'),
])
def test_a_table_for_models_of_other_things(table, words):
  model = pydantic.TypeAdapter(schema.Model).validate_python(table)
  with pytest.raises(LabError, match=words):
    make_problem.join(model, sources.load(schema.Data(source='wine')))


SMALLEST = {'cnn': ('cnn', 9, 4), 'flat': ('cnn', 1, 1),
            'small': ('weight_norm_small', 4, 2)}


@pytest.mark.parametrize('name', SMALLEST)
def test_the_smallest_pictures(digits, name):
  kind, depth, least = SMALLEST[name]
  table = pydantic.TypeAdapter(schema.Model).validate_python(
      {'kind': kind, 'depth': depth, 'width': 4})
  x = np.random.default_rng(0).normal(size=(9, least, least, 1))

  def made(x):
    split = dataset.Split(x.astype(np.float32), np.zeros(9, np.int32))
    return make_problem.join(table, digits._replace(train=split, image=None))

  fits = made(x)
  params, extra = fits.init(0)
  assert np.isfinite(fits.outputs(params, extra, x)).all()
  if least > 1:
    with pytest.raises(LabError, match=f'too small; it needs {least} rows'):
      made(x[:, 1:])
  with pytest.raises(LabError, match='channels first; move them last with num'):
    made(np.zeros((9, 3, 16, 16)))


def test_a_method_that_calls_with_parameters_alone(digits):
  made = make_problem.join(MODELS['resnet'], digits)
  params, _ = jax.eval_shape(made.init, 0)
  with pytest.raises(LabError, match='"resnet" has other variables than param'):
    jax.eval_shape(made.context.apply_fn, params, digits.train.x[:1])


def test_depth_and_width():
  made = make_problem.join(MODELS['mlp'], sources.load(schema.Data()))
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
  again = sources.load(schema.Data())
  np.testing.assert_array_equal(digits.test.x, again.test.x)
  other = sources.load(schema.Data(seed=1))
  assert not np.array_equal(digits.test.x, other.test.x)


def test_order_of_data_depends_on_seed_and_epoch_alone(digits):
  made = make_problem.join(MODELS['mlp'], digits)
  train = jax.tree.map(jnp.asarray, digits.train)

  def orders(optimizer, seed, steps):
    built = chain.build(schema.Method(optimizer=optimizer), 0.1)
    state = steps_lib.start(made, built, *made.init(0))
    how = schema.Train(batch_size=600)
    one = jax.jit(lambda s: steps_lib.step(made, built, how, train, seed, s)[0])
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
  made = make_problem.join(MODELS['mlp'], digits)
  params, extra = made.init(0)
  whole = made.evaluate(params, extra, digits.validation)
  monkeypatch.setattr(problem, 'EVALUATION_BATCH', 100)
  parts = made.evaluate(params, extra, digits.validation)
  np.testing.assert_allclose(parts['loss'], whole['loss'], rtol=1e-5)
  assert parts['score'] == pytest.approx(float(whole['score']))


def test_text_is_the_same_everywhere():
  digest = hashlib.sha256(generated_text.text(5000).encode()).hexdigest()
  assert digest == (
      'f545e078582d6589f0adceed6139253379050afdde51190b7c1650d26913bb57')
  assert generated_text.text(50, seed=1) != generated_text.text(50)


@pytest.fixture(scope='module')
def letters():
  return sources.load(schema.Data(source='characters', length=16, size=100))


def test_characters_are_windows_with_the_next_symbol_as_target(letters):
  assert [part.x.shape for part in letters[:3]] == [
      (70, 16), (15, 16), (15, 16)]
  for part in letters[:3]:
    np.testing.assert_array_equal(part.x[:, 1:], part.y[:, :-1])


@pytest.mark.parametrize('axis', [0, 1])
def test_scanned_layers_are_declared_as_stacked(letters, axis):
  table = schema.Transformer(kind='transformer', depth=3, width=8, heads=2,
                             axis=axis)
  made = make_problem.join(table, letters)
  params, extra = jax.jit(made.init)(0)
  kernel = params['layers']['mlp_in']['kernel']
  assert kernel.shape == ((3, 8, 32) if axis == 0 else (8, 3, 32))
  method = schema.Method(optimizer='sgd', normalize='bng', blocks='leaf')
  tx = chain.build(method, 1.0, made.context).tx
  grads = jax.grad(lambda p: made.loss(
      p, extra, letters.train.x[:4], letters.train.y[:4])[0])(params)
  updates, _ = tx.update(grads, tx.init(params), params)
  moved = jnp.moveaxis(updates['layers']['mlp_in']['kernel'], axis, 0)
  np.testing.assert_allclose(
      [jnp.linalg.norm(one) for one in moved], 1.0, rtol=1e-5)
  # And so `gn` takes each layer of the stack for itself.
  shown = str(gn.explain(params, gn.Blocks(stacked=made.context.stacked)))
  line = next(line for line in shown.splitlines() if 'mlp_in/kernel' in line)
  assert dict(made.context.stacked) == {'layers/*': axis}
  assert line.split()[-1] == str(axis)


def test_the_transformer_is_causal(letters):
  table = schema.Transformer(kind='transformer', depth=2, width=8, heads=2,
                             scan=False)
  made = make_problem.join(table, letters)
  params, _ = jax.jit(made.init)(0)
  x = jnp.asarray(letters.train.x[:1])
  apply = jax.jit(lambda x: made.module.apply({'params': params}, x))
  changed = apply(x.at[0, 9].add(1)) - apply(x)
  assert not np.any(changed[0, :9]) and np.all(np.any(changed[0, 9:], -1))
