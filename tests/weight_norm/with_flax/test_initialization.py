"""Data-dependent initialization, mean-only batch norm and folding."""

import jax
import numpy as np
import pytest
from flax import linen as nn, nnx
from jax import numpy as jnp
from twins import BOTH, Linen, Nnx, batch, named

import gradnorm_optax.linen as in_linen
import gradnorm_optax.nnx as in_nnx


class Tap:
  """A layer that keeps what passes through it."""

  def __init__(self):
    self.seen = []

  def __call__(self, x):
    self.seen.append(x)
    return nn.relu(x)


def flat(x):
  return x.reshape(len(x), -1)


def network(tap, mean_only=False):
  def make(p):
    bias = {'use_bias': not mean_only}
    norm = [p.mobn(6)] if mean_only else []
    return p.seq(
        p.wn(p.conv(3, 6, **bias)), *norm, tap, p.wn(p.conv(6, 4)), tap, flat,
        p.wn(p.dense(64, 5), log_scale=True), tap,
        p.wn(p.dense(5, 3), blocks='leaf'), tap)
  return make


@pytest.mark.parametrize('side', BOTH)
@pytest.mark.parametrize('mean_only', [False, True])
def test_every_pre_activation_is_standard(side, mean_only):
  x, tap = batch((64, 4, 4, 3)), Tap()
  twin = side(network(tap, mean_only), x)
  before = named(twin.params)
  twin.initialize(x)
  tap.seen.clear()
  if mean_only and side is Linen:
    twin.model.apply(twin.variables, x, mutable=['batch_stats'])
  else:
    twin.apply(twin.params, x)
  assert len(tap.seen) == 4
  for place, t in enumerate(tap.seen):
    t = np.asarray(t, np.float64).reshape(-1, t.shape[-1])
    assert np.abs(t.mean(0)).max() < 1e-4
    # The last layer has one g for all its units: their joint deviation is 1.
    deviation = t.std(0) if place < 3 else np.sqrt((t ** 2).mean())
    assert np.abs(deviation - 1).max() < 1e-4
  after = named(twin.params)
  for name in before:
    if name.endswith('kernel'):
      np.testing.assert_array_equal(before[name], after[name])
    elif not mean_only:
      assert (before[name] != after[name]).all(), name


def test_linen_and_nnx_initialize_alike_inside_jit():
  x = batch((32, 3))
  model = in_linen.WeightNorm(nn.Sequential([nn.Dense(4), nn.tanh,
                                             nn.Dense(2)]))
  variables = model.init(jax.random.key(0), x)
  got = jax.jit(lambda v, x: in_linen.data_dependent_init(model, v, x))(
      variables, x)
  twin = in_nnx.WeightNorm(nnx.Sequential(
      nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.tanh,
      nnx.Linear(4, 2, rngs=nnx.Rngs(0))))
  layers = twin.layer.layers
  for name, layer in (('layers_0', layers[0]), ('layers_2', layers[2])):
    layer.kernel.set_value(variables['params'][name]['kernel'])
  kinds = [type(layer) for layer in layers]
  nnx.jit(in_nnx.data_dependent_init)(twin, x)
  assert [type(layer) for layer in twin.layer.layers] == kinds
  for name, layer in (('layers_0', layers[0]), ('layers_2', layers[2])):
    for leaf in ('kernel_g', 'bias'):
      np.testing.assert_allclose(
          getattr(layer, leaf)[...], got['params'][name][leaf], rtol=1e-5,
          atol=1e-6)
  assert set(named(nnx.as_pure(nnx.state(twin)))) == set(named(got['params']))


def test_initialization_changes_no_other_state():
  x = batch((16, 3))
  model = nnx.Sequential(
      in_nnx.WeightNorm(nnx.Linear(3, 4, use_bias=False, rngs=nnx.Rngs(0))),
      in_nnx.MeanOnlyBatchNorm(4),
      nnx.Dropout(0.5, deterministic=True, rngs=nnx.Rngs(1)))
  others = nnx.Not(nnx.Param)
  before = nnx.state(model, others)
  in_nnx.data_dependent_init(model, x)
  np.testing.assert_array_equal(model.layers[1].mean[...], 0)
  assert jax.tree.structure(before) == jax.tree.structure(
      nnx.state(model, others))
  model = nn.Sequential([in_linen.WeightNorm(nn.Dense(4, use_bias=False)),
                         in_linen.MeanOnlyBatchNorm(True)])
  variables = model.init(jax.random.key(0), x)
  got = in_linen.data_dependent_init(model, variables, x)
  np.testing.assert_array_equal(
      got['batch_stats']['layers_1']['mean'], np.zeros(4))


@pytest.mark.parametrize('side', BOTH)
def test_a_shared_layer_is_initialized_by_its_first_call(side):
  x, tap = batch((32, 3)), Tap()

  def make(p):
    shared = p.wn(p.dense(3, 3))
    return p.seq(shared, tap, shared, tap)

  twin = side(make, x)
  twin.initialize(x)
  tap.seen.clear()
  twin.apply(twin.params, x)
  first = np.asarray(tap.seen[0])
  np.testing.assert_allclose(first.mean(0), 0, atol=1e-4)
  np.testing.assert_allclose(first.std(0), 1, atol=1e-4)
  assert np.abs(np.asarray(tap.seen[1]).mean(0)).max() > 1e-2


@pytest.mark.parametrize('side', BOTH)
def test_what_cannot_be_initialized_is_named(side):
  x = batch((4, 5, 3))
  for make in (lambda p: p.wn(p.rnn(p.cell('SimpleCell', 3, 4))),
               lambda p: p.rnn(p.wn(p.cell('SimpleCell', 3, 4)))):
    with pytest.raises(ValueError, match='serves all steps.*where='):
      side(make, x).initialize(x)
  with pytest.raises(ValueError, match='no weight-normalized'):
    side(lambda p: p.seq(p.dense(3, 4)), x).initialize(x)
  with pytest.raises(ValueError, match='no weight-normalized'):
    side(lambda p: p.wn(p.dense(3, 4)), x).initialize(x, where='*embedding')
  # The recurrent part left out, the dense one is initialized.
  twin = side(lambda p: p.seq(
      p.wn(p.rnn(p.cell('SimpleCell', 3, 4))), p.wn(p.dense(4, 2))), x)
  old = named(twin.params)
  twin.initialize(x, where=['layers_1/*', 'layers/1/*'])
  out = np.asarray(twin.apply(twin.params, x)).reshape(-1, 2)
  np.testing.assert_allclose(out.std(0), 1, atol=1e-4)
  new = named(twin.params)
  assert sum((old[k] != new[k]).any() for k in old) == 2


@pytest.mark.parametrize('side', BOTH)
@pytest.mark.parametrize('whole', [False, True])
def test_fold_gives_the_plain_model(side, whole):
  x = batch((6, 4, 4, 3))

  def make(wrap, p):
    inner = (lambda layer, **k: layer) if whole else wrap
    model = p.seq(inner(p.conv(3, 6)), nn.relu, flat,
                  inner(p.dense(96, 5), log_scale=True))
    return wrap(model) if whole else model

  wrapped = side(lambda p: make(p.wn, p), x)
  params = jax.tree.map(lambda leaf: leaf * 1.3 + .01, wrapped.params)
  if side is Linen:
    wrapped.variables = {'params': params}
  else:
    nnx.update(wrapped.model, params)
  got, folded = wrapped.folded(x)
  np.testing.assert_allclose(
      got, wrapped.apply(params, x), rtol=1e-6, atol=1e-6)
  plain = side(lambda p: make(lambda layer, **k: layer, p), x)
  assert jax.tree.structure(folded) == jax.tree.structure(plain.params)
  if side is Nnx:
    assert nnx.graphdef(in_nnx.fold(wrapped.model)) == nnx.graphdef(plain.model)
    assert 'kernel_g' in str(nnx.state(wrapped.model))


def test_fold_of_code_that_wraps_and_of_scanned_layers():
  class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
      return nn.tanh(in_linen.WeightNorm(nn.Dense(3))(x)), None

  x = batch((6, 3))
  model = nn.scan(Block, variable_axes={'params': 0}, length=4,
                  split_rngs={'params': True})()
  variables = model.init(jax.random.key(0), x, None)
  variables = jax.tree.map(lambda leaf: leaf * 1.3 + .01, variables)
  assert variables['params']['Dense_0']['kernel_g'].shape == (4, 1, 3)
  plain, folded = in_linen.fold(model, variables)
  assert jax.tree.map(jnp.shape, folded) == {
      'params': {'Dense_0': {'bias': (4, 3), 'kernel': (4, 3, 3)}}}
  np.testing.assert_allclose(
      plain.apply(folded, x, None)[0], model.apply(variables, x, None)[0],
      rtol=1e-6, atol=1e-6)
  with pytest.raises(ValueError, match='no weight-normalized layer'):
    in_linen.fold(plain, folded)
  with pytest.raises(ValueError, match='no gradnorm_optax.nnx.WeightNorm'):
    in_nnx.fold(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize('axis', [-1, 1])
def test_mean_only_batch_norm_is_the_papers(axis):
  x = batch((6, 4, 5))
  n, over = (5, (0, 1)) if axis == -1 else (4, (0, 2))
  ref = np.asarray(x, np.float64)
  mean = ref.mean(over, keepdims=True)
  linen = in_linen.MeanOnlyBatchNorm(axis=axis)
  variables = linen.init(jax.random.key(0), x, use_running_average=False)
  twin = in_nnx.MeanOnlyBatchNorm(n, axis=axis)
  np.testing.assert_array_equal(variables['batch_stats']['mean'], np.zeros(n))
  for turn in (1, 2):
    y, state = linen.apply(
        variables, x, use_running_average=False, mutable=['batch_stats'])
    variables = {**variables, **state}
    for got, average in ((y, variables['batch_stats']['mean']),
                         (twin(x), twin.mean[...])):
      np.testing.assert_allclose(got, ref - mean, rtol=0, atol=2e-6)
      np.testing.assert_allclose(
          average, (1 - .9**turn) * mean.ravel(), rtol=1e-5, atol=1e-6)
  stored = (1 - .9**2) * mean
  for got in (linen.apply(variables, x, use_running_average=True),
              twin(x, use_running_average=True)):
    np.testing.assert_allclose(got, ref - stored, rtol=0, atol=2e-6)
  slope = np.cos(ref)
  grads = jax.grad(lambda x: jnp.sum(jnp.cos(batch((6, 4, 5))) * linen.apply(
      variables, x, use_running_average=False, mutable=['batch_stats'])[0]))(x)
  np.testing.assert_allclose(
      grads, slope - slope.mean(over, keepdims=True), rtol=0, atol=2e-6)
  # Masked positions do not count; bfloat16 stays bfloat16.
  mask = jnp.arange(6).reshape(6, 1, 1) < 3
  got = twin(x.astype('bfloat16'), mask=mask)
  assert got.dtype == 'bfloat16'
  np.testing.assert_allclose(
      got.astype('float32'), ref - ref[:3].mean(over, keepdims=True),
      atol=0.06)
  with pytest.raises(ValueError, match='use_running_average'):
    in_nnx.MeanOnlyBatchNorm(n, None)(x)
  # A batch without examples says nothing of the mean, and spoils nothing.
  before = np.asarray(twin.mean[...])
  assert twin(x[:0]).shape == x[:0].shape
  np.testing.assert_allclose(twin.mean[...], 0.9 * before, rtol=1e-6)


def test_mean_only_batch_norm_over_split_batches():
  x = batch((8, 3))
  norm = in_linen.MeanOnlyBatchNorm(False, axis_name='batch')
  variables = norm.init(jax.random.key(0), x)
  y, state = jax.vmap(
      lambda x: norm.apply(variables, x, mutable=['batch_stats']),
      axis_name='batch')(x.reshape(4, 2, 3))
  want = np.asarray(x) - np.asarray(x).mean(0)
  np.testing.assert_allclose(y.reshape(8, 3), want, rtol=0, atol=1e-6)
  np.testing.assert_allclose(
      state['batch_stats']['mean'][0], 0.1 * np.asarray(x).mean(0), rtol=1e-5)
