"""First batches with nothing to measure, and models that say it otherwise."""

import jax
import numpy as np
import pytest
from flax import linen as nn, nnx
from jax import numpy as jnp
from twins import BOTH, Linen, batch, named

import gradnorm_optax as gn
import gradnorm_optax.linen as in_linen
import gradnorm_optax.nnx as in_nnx
from gradnorm_optax import _weight_norm_init as start


@pytest.mark.parametrize('side', BOTH)
def test_constant_units_keep_a_g_of_one(side):
  # The mean of 100 equal numbers is not exactly that number.
  x = jnp.full((100, 5), .3)
  twin = side(lambda p: p.wn(p.dense(5, 6)), x)
  twin.initialize(x)
  params = named(twin.params)
  np.testing.assert_array_equal(params['kernel_g'], 1)
  np.testing.assert_allclose(twin.apply(twin.params, x), 0, atol=1e-6)


@pytest.mark.parametrize('dtype, size, steady', [
    ('float32', 1e-4, False), ('float32', 1e-7, True),
    ('bfloat16', 0.1, False), ('bfloat16', 3e-3, True)])
def test_deviations_of_the_size_of_rounding_are_none(dtype, size, steady):
  t = 3 + size * batch((400, 2))
  t = t.at[:, 1].set(batch((400,), 2)).astype(dtype)
  for shape in ((1, 2), (1, 1)):
    mean, deviation = start.moments(t, shape, (2,), 'layer')
    assert mean.dtype == deviation.dtype == 'float32'
    whole = np.asarray(t, np.float64)
    want = whole.std(0)
    if shape == (1, 1):
      want = np.sqrt(np.mean(want ** 2))
    elif steady:
      want[0] = 0
    np.testing.assert_allclose(
        deviation, np.reshape(want, shape), rtol=1e-3)


class Named(nn.Module):
  """Calls a norm with its input by name, over a mesh axis."""

  @nn.compact
  def __call__(self, x):
    x = in_linen.WeightNorm(nn.Dense(3, use_bias=False))(x)
    return in_linen.MeanOnlyBatchNorm(False, axis_name='batch')(x=x)


class NamedNnx(nnx.Module):
  """The same in NNX."""

  def __init__(self):
    self.layer = in_nnx.WeightNorm(nnx.Linear(
        4, 3, use_bias=False, rngs=nnx.Rngs(0)))
    self.norm = in_nnx.MeanOnlyBatchNorm(3, axis_name='batch')

  def __call__(self, x):
    return self.norm(x=self.layer(x))


@pytest.mark.parametrize('side', BOTH)
def test_the_pass_is_of_the_whole_batch(side):
  # A mapped axis is not bound here, and not needed.
  x = batch((32, 4))
  twin = side(lambda p: Named() if side is Linen else NamedNnx(), x)
  twin.initialize(x)
  if side is Linen:
    assert 'mean' in twin.variables['batch_stats']['MeanOnlyBatchNorm_0']
  else:
    assert twin.model.norm.axis_name == 'batch'
  out = jax.vmap(
      lambda x: one_shard(twin, x), axis_name='batch')(x.reshape(4, 8, 4))
  out = np.asarray(out, np.float64).reshape(32, 3)
  np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(out.std(0), 1, atol=1e-4)


def one_shard(twin, x):
  if isinstance(twin, Linen):
    return twin.model.apply(twin.variables, x, mutable=['batch_stats'])[0]
  return nnx.clone(twin.model)(x)


def test_layers_inside_a_linen_vmap_are_refused():
  class Member(nn.Module):
    @nn.compact
    def __call__(self, x):
      return in_linen.WeightNorm(nn.Dense(3))(x)

  model = nn.vmap(Member, variable_axes={'params': 0}, axis_size=2,
                  split_rngs={'params': True}, in_axes=None)()
  x = batch((8, 4))
  variables = model.init(jax.random.key(0), x)
  with pytest.raises(ValueError, match='nn.vmap.*where='):
    in_linen.data_dependent_init(model, variables, x)


def test_linen_jit_keeps_no_trace_of_another_layer():
  # Flax keeps one trace for all layers of one kind, and between calls.
  class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.tanh(in_linen.WeightNorm(nn.Dense(4))(x))

  class Net(nn.Module):
    kind: type

    @nn.compact
    def __call__(self, x):
      for place in range(2):
        x = self.kind(name=f'block{place}')(x)
      return x

  x = batch((16, 4))
  variables = Net(Block).init(jax.random.key(0), x)
  lifted = nn.jit(Block)
  for where in ('block0/*', '*'):
    got, want = (in_linen.data_dependent_init(
        Net(kind), variables, x, where=where) for kind in (lifted, Block))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(
        a, b, rtol=1e-5, atol=1e-6), got, want)


@pytest.mark.parametrize('side', BOTH)
def test_units_that_share_a_length_have_one_deviation(side):
  # (in, 2, 3), with one g for each of the last three, as Flax's own has it.
  x = batch((64, 4))
  twin = side(lambda p: p.wn(
      nn.DenseGeneral((2, 3)) if side is Linen
      else nnx.LinearGeneral(4, (2, 3), rngs=nnx.Rngs(0)),
      blocks=gn.Blocks('unit', units={'*kernel': -1})), x)
  assert named(twin.params)['kernel_g'].shape == (1, 1, 3)
  twin.initialize(x)
  t = np.asarray(twin.apply(twin.params, x), np.float64)
  np.testing.assert_allclose(t.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose((t ** 2).mean((0, 1)), 1, rtol=1e-5)


@pytest.mark.parametrize('how', ['nnx.scan', 'lax.scan'])
def test_a_layer_that_steps_share_is_refused_in_nnx(how):
  class Walk(nnx.Module):
    def __init__(self):
      self.layer = in_nnx.WeightNorm(nnx.Linear(4, 4, rngs=nnx.Rngs(0)))

    def __call__(self, x):
      if how == 'lax.scan':
        return jax.lax.scan(
            lambda h, _: (self.layer(h), None), x, length=3)[0]
      return nnx.scan(
          lambda layer, h: layer(h), in_axes=(None, nnx.Carry),
          out_axes=nnx.Carry, length=3)(self.layer, x)

  x, model = batch((8, 4)), Walk()
  before = model(x)
  with pytest.raises(ValueError, match="'layer/layer/kernel' runs inside a"):
    in_nnx.data_dependent_init(model, x)
  np.testing.assert_array_equal(model(x), before)
