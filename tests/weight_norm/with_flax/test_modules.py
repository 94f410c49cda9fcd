"""WeightNorm in Linen and NNX: values, gradients, what moves and what stays."""

import sys

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn, nnx
from jax import numpy as jnp

sys.path.insert(0, str(__import__('pathlib').Path(__file__).parents[1]))

import weight_norm_reference as reference
from twins import BOTH, Linen, NnxParts, batch, named, transplant

import gradnorm_optax.linen as in_linen
import gradnorm_optax.nnx as in_nnx
from gradnorm_optax.blocks import Blocks


def two_layers(parts, **options):
  return parts.seq(parts.wn(parts.dense(4, 6), **options), nn.relu,
                   parts.wn(parts.dense(6, 3), **options))


def loss(twin, params, x):
  return jnp.mean(jnp.sin(twin.apply(params, x)))


@pytest.mark.parametrize('side', BOTH)
@pytest.mark.parametrize('options, axes', [
    ({}, (0,)), ({'blocks': 'leaf'}, (0, 1)), ({'log_scale': True}, (0,)),
    ({'blocks': Blocks('unit', units={'*': 0})}, (1,))])
def test_values_and_gradients_are_the_papers(side, options, axes):
  with jax.enable_x64(True):
    x = batch((5, 4)).astype('float64')
    make = lambda parts: parts.wn(  # noqa: E731
        parts.dense(4, 3, param_dtype='float64'), **options)
    twin = side(make, x)
    name = 'kernel_log_g' if options.get('log_scale') else 'kernel_g'
    params = jax.tree.map(lambda p: p * 1.3 + 0.1, twin.params)
    held = named(params)
    v, g = held['kernel'], held[name]
    g = np.exp(g) if options.get('log_scale') else np.asarray(g)
    w = reference.weight(v, g, axes)
    np.testing.assert_allclose(
        twin.apply(params, x), np.asarray(x) @ w + held['bias'], rtol=1e-12)
    slope = np.asarray(x).T @ np.ones((5, 3))
    by_g, by_v = reference.gradients(slope, v, g, axes)
    grads = named(jax.grad(lambda p: twin.apply(p, x).sum())(params))
    np.testing.assert_allclose(grads['kernel'], by_v, rtol=1e-10, atol=1e-12)
    by_g = by_g * g if options.get('log_scale') else by_g
    np.testing.assert_allclose(grads[name], by_g, rtol=1e-10)
    forward = jax.jvp(lambda p: twin.apply(p, x).sum(), (params,), (params,))[1]
    np.testing.assert_allclose(
        forward, sum((named(params)[k] * grads[k]).sum() for k in grads),
        rtol=1e-10)


def test_linen_and_nnx_train_alike():
  x = batch((8, 4))
  twins = [side(two_layers, x) for side in BOTH]
  tx = optax.adam(1e-2)
  start = twins[0].params
  got = []
  for twin in twins:
    params = transplant(start, twin.params)

    @jax.jit
    def run(params, twin=twin):
      def body(carry, _):
        params, state = carry
        grads = jax.grad(lambda p: loss(twin, p, x))(params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None
      return jax.lax.scan(body, (params, tx.init(params)), length=20)[0][0]

    got.append(named(run(params)))
  assert got[0].keys() == got[1].keys()
  for name in got[0]:
    np.testing.assert_allclose(
        got[0][name], got[1][name], rtol=2e-5, atol=2e-6, err_msg=name)
    if name.endswith('_g'):
      assert np.abs(got[0][name] - named(start)[name]).min() > 1e-3


@pytest.mark.parametrize('side', BOTH)
def test_wrapping_changes_nothing_at_first(side):
  x = batch((7, 4))
  plain = side(lambda parts: parts.seq(
      parts.dense(4, 6), nn.relu, parts.dense(6, 3)), x)
  whole = side(lambda parts: parts.wn(parts.seq(
      parts.dense(4, 6), nn.relu, parts.dense(6, 3))), x)
  each = side(two_layers, x)
  want = plain.apply(plain.params, x)
  for twin in (whole, each):
    np.testing.assert_allclose(
        twin.apply(twin.params, x), want, rtol=0, atol=1e-6)
    weights = {name: leaf for name, leaf in named(twin.params).items()
               if not name.endswith('_g')}
    assert weights.keys() == named(plain.params).keys()
    for name, leaf in named(plain.params).items():
      np.testing.assert_array_equal(weights[name], leaf, err_msg=name)


def test_wrapping_trained_layers_keeps_their_output():
  x, trained = batch((7, 4)), batch((4, 6), 3) / 8
  layer = nnx.Linear(4, 6, rngs=nnx.Rngs(0))
  layer.kernel.set_value(trained)
  want = layer(x)
  wrapped = in_nnx.WeightNorm(layer)
  np.testing.assert_allclose(wrapped(x), want, rtol=0, atol=1e-6)
  np.testing.assert_allclose(nnx.jit(wrapped)(x), want, rtol=0, atol=1e-6)
  np.testing.assert_array_equal(wrapped.layer.kernel[...], trained)

  dense = nn.Dense(6)
  plain = {'params': {'kernel': trained, 'bias': jnp.ones(6)}}
  wrapped = in_linen.WeightNorm(dense)
  got, variables = wrapped.apply(plain, x, mutable=True)
  np.testing.assert_array_equal(got, dense.apply(plain, x))
  np.testing.assert_allclose(
      variables['params']['kernel_g'], reference.norms(trained, (0,)),
      rtol=1e-6)
  np.testing.assert_allclose(
      wrapped.apply(variables, x), got, rtol=0, atol=1e-6)


def _stacked_model():
  @nnx.vmap(in_axes=0)
  def make(key):
    return in_nnx.WeightNorm(nnx.Linear(4, 4, rngs=nnx.Rngs(key)))

  class Stack(nnx.Module):
    def __init__(self):
      self.blocks = make(jax.random.split(jax.random.key(0), 3))

    def __call__(self, x):
      @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
      def run(block, x):
        return jnp.tanh(block(x))
      return run(self.blocks, x)

  return Stack()


@pytest.mark.parametrize('kind', ['plain', 'jit', 'scan', 'rnn'])
def test_nnx_calls_only_read_and_training_moves_g(kind):
  x = batch((5, 4))
  if kind == 'rnn':
    x = batch((5, 3, 4))
    model = in_nnx.WeightNorm(nnx.RNN(nnx.GRUCell(4, 4, rngs=nnx.Rngs(0))))
  elif kind == 'scan':
    model = _stacked_model()
  else:
    model = two_layers(NnxParts(nnx.Rngs(0)))
  call = nnx.jit(lambda m, x: m(x)) if kind == 'jit' else lambda m, x: m(x)
  # A recurrent net counts the keys it draws for its carry; all else stays.
  rest = nnx.Not(nnx.RngState)
  before = nnx.state(model, rest)
  kept = jax.tree.map(np.asarray, before)
  np.testing.assert_array_equal(call(model, x), call(model, x))
  after = nnx.state(model, rest)
  assert jax.tree.structure(after) == jax.tree.structure(before)
  jax.tree.map(np.testing.assert_array_equal, kept, after)
  params = nnx.state(model, nnx.Param)
  optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
  grads = nnx.grad(lambda m: jnp.mean(jnp.sin(m(x))))(model)
  want = jax.tree.map(lambda p, g: p - 0.1 * g, nnx.as_pure(params),
                      nnx.as_pure(grads))
  optimizer.update(model, grads)
  now = nnx.as_pure(nnx.state(model, nnx.Param))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-6, atol=1e-7), now, want)
  lengths = [np.abs(leaf).max() for name, leaf in named(
      nnx.as_pure(grads)).items() if name.endswith('_g')]
  assert lengths and min(lengths) > 0


class Held(nn.Module):
  """A Linen module with a weight-normalized layer in a field of its own."""

  inner: nn.Module

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3, name='head')(jnp.tanh(self.inner(x)))


def test_a_linen_wrapper_held_in_a_field():
  """Made outside or by a submodule, named by the field, without a level."""
  x = batch((5, 4))
  nested = Held(Held(in_linen.WeightNorm(nn.Dense(6))))
  plain = Held(Held(nn.Dense(6)))
  variables = nested.init(jax.random.key(0), x)
  want = plain.init(jax.random.key(0), x)
  inner = variables['params']['inner']['inner']
  assert set(inner) == {'kernel', 'bias', 'kernel_g'}
  bare = jax.tree.map(lambda p: p, variables)
  del bare['params']['inner']['inner']['kernel_g']
  assert jax.tree.structure(bare) == jax.tree.structure(want)
  np.testing.assert_allclose(
      nested.apply(variables, x), plain.apply(bare, x), rtol=0, atol=1e-6)
  grads = jax.grad(lambda v: jnp.sum(jnp.sin(nested.apply(v, x))))(variables)
  assert np.abs(grads['params']['inner']['inner']['kernel_g']).min() > 0
  # All kernels but those that have a g already.
  outer = in_linen.WeightNorm(
      Held(Held(in_linen.WeightNorm(nn.Dense(6)))), where='*head/kernel')
  params = outer.init(jax.random.key(0), x)['params']
  assert {name for name in named(params) if name.endswith('_g')} == {
      'head/kernel_g', 'inner/head/kernel_g', 'inner/inner/kernel_g'}
  got = outer.apply({'params': params}, x)
  for layer in (params['head'], params['inner']['head'],
                params['inner']['inner']):
    del layer['kernel_g']
  np.testing.assert_allclose(
      got, plain.apply({'params': params}, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize('names, want', [
    (('data', 'model'), (None, 'model')), (('data', None), (None, None)),
    (None, None)])
def test_g_is_sharded_as_the_units_of_v(names, want):
  draw = nnx.initializers.lecun_normal()
  mesh = jax.make_mesh((2, 2), ('data', 'model'), axis_types=(
      jax.sharding.AxisType.Auto,) * 2)
  with jax.set_mesh(mesh):
    made = in_nnx.WeightNorm(nnx.Linear(
        4, 6, rngs=nnx.Rngs(0),
        kernel_init=nnx.with_partitioning(draw, names) if names else draw))
    g = made.layer.kernel_g
    assert g.get_metadata().get('out_sharding') == want
    if want and want[1]:
      assert g[...].sharding.spec == jax.P(*want)
    x = batch((5, 4))
    np.testing.assert_allclose(
        nnx.jit(made)(x), made.layer(x), rtol=0, atol=1e-6)
    spec = nnx.get_partition_spec(nnx.state(made))
    assert spec['layer']['kernel_g'].get_value() == jax.P(*(want or ()))


@pytest.mark.parametrize('side', BOTH)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_a_zero_column_is_finite_and_can_leave_zero(side, dtype):
  x = batch((5, 4)).astype(dtype)
  twin = side(lambda parts: parts.wn(
      parts.dense(4, 3, param_dtype=dtype, dtype=dtype)), x)
  params = jax.tree_util.tree_map_with_path(
      lambda keys, p: p.at[:, 1].set(0) if p.ndim == 2 else p, twin.params)
  out = twin.apply(params, x)
  np.testing.assert_array_equal(out[:, 1], 0)
  grads = named(jax.grad(
      lambda p: twin.apply(p, x).astype('float32').sum())(params))
  for name, leaf in grads.items():
    assert np.isfinite(np.asarray(leaf, np.float32)).all(), name
  np.testing.assert_allclose(
      np.asarray(grads['kernel'][:, 1], float),
      np.asarray(x, float).sum(0), rtol=2e-2)


@pytest.mark.parametrize('side', BOTH)
def test_dtypes_of_g_and_of_the_weights(side):
  x = batch((5, 4)).astype('bfloat16')
  twin = side(lambda parts: parts.wn(
      parts.dense(4, 3, param_dtype='bfloat16')), x)
  held = named(twin.params)
  assert held['kernel'].dtype == 'bfloat16'
  assert held['kernel_g'].dtype == 'float32'
  np.testing.assert_array_equal(
      twin.apply(twin.params, x), x @ held['kernel'] + held['bias'])
  twin = side(lambda parts: parts.wn(
      parts.dense(4, 3), dtype='bfloat16', param_dtype='float16'), x)
  assert named(twin.params)['kernel_g'].dtype == 'float16'
  assert twin.apply(twin.params, x.astype('float32')).dtype == 'float32'


@pytest.mark.parametrize('side', BOTH)
def test_mistakes_are_named(side):
  x = batch((5, 4))
  with pytest.raises(ValueError, match='matches no path.*kernel'):
    side(lambda parts: parts.wn(parts.dense(4, 3), where='*kernle'), x)
  with pytest.raises(ValueError, match='is weight-normalized already'):
    side(lambda parts: parts.wn(parts.wn(parts.dense(4, 3))), x)
  with pytest.raises(ValueError, match='by "unit".*not by .layer.'):
    side(lambda parts: parts.wn(parts.dense(4, 3), blocks='layer'), x)


def test_linen_names_a_missing_g():
  twin = Linen(lambda parts: parts.wn(two_layers_plain(parts)), batch((2, 4)))
  del twin.params['layers_0']['kernel_g']
  with pytest.raises(ValueError, match="'layers_0/kernel' has no 'kernel_g'"):
    twin.apply(twin.params, batch((2, 4)))


def two_layers_plain(parts):
  return parts.seq(parts.dense(4, 6), nn.relu, parts.dense(6, 3))


@pytest.mark.parametrize('shape', [(3,), (3, 5)])
def test_layers_without_a_bias_have_a_length_for_each_output(shape):
  """The wrapper holds the layer: nothing about its kernel is in doubt."""
  x = jnp.ones((1, *(8,) * len(shape), 3))
  linen = in_linen.WeightNorm(nn.Conv(6, shape, use_bias=False))
  params = linen.init(jax.random.key(0), x)['params']
  (g,) = (leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)
          if 'kernel_g' in str(path))
  model = in_nnx.WeightNorm(
      nnx.Conv(3, 6, shape, use_bias=False, rngs=nnx.Rngs(0)))
  want = (1,) * (len(shape) + 1) + (6,)
  assert g.shape == model.layer.kernel_g.shape == want
