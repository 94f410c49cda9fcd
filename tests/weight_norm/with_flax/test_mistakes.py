"""What modules refuse, and what they leave alone."""

import jax
import numpy as np
import pytest
from flax import linen as nn, nnx
from jax import numpy as jnp
from twins import BOTH, Linen, batch, named

import gradnorm_optax.linen as in_linen
import gradnorm_optax.nnx as in_nnx
from gradnorm_optax.blocks import Blocks


@pytest.mark.parametrize('side', BOTH)
def test_only_modules_are_wrapped(side):
  layers = (nn.Dense, nn.relu) if side is Linen else (nnx.Linear, nnx.relu)
  for layer in layers:
    with pytest.raises(TypeError, match='wraps a module such as'):
      side(lambda p, layer=layer: p.wn(layer), batch((2, 4)))


class Counting(nn.Module):
  """A layer with a parameter that is no number to train."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(x) + self.param('steps', lambda _: jnp.int32(1))


class CountingNnx(nnx.Module):
  """The same, with a key and a Python number among its parameters."""

  def __init__(self):
    self.dense = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    self.steps = nnx.Param(jnp.int32(1))
    self.key, self.rate = nnx.Param(jax.random.key(0)), nnx.Param(0.5)

  def __call__(self, x):
    return self.dense(x) + self.steps[...]


@pytest.mark.parametrize('side', BOTH)
def test_parameters_that_where_leaves_out_are_anything(side):
  x = batch((2, 4))
  made = Counting if side is Linen else CountingNnx
  twin = side(lambda p: p.wn(made()), x)
  plain = side(lambda p: made(), x)
  np.testing.assert_allclose(
      twin.apply(twin.params, x), plain.apply(plain.params, x), rtol=1e-6)
  with pytest.raises(TypeError, match="'steps' has dtype int32.*`where`"):
    side(lambda p: p.wn(made(), where=('*kernel', 'steps')), x)


@pytest.mark.parametrize('side', BOTH)
def test_what_blocks_skip_is_left_alone(side):
  x = batch((2, 4))
  twin = side(lambda p: p.wn(
      p.seq(p.dense(4, 3), p.dense(3, 2)),
      blocks=Blocks('unit', skip=('layers*1/kernel',))), x)
  assert {name for name in named(twin.params) if name.endswith('_g')} == {
      '0/kernel_g'}
  got, folded = twin.folded(x)
  np.testing.assert_allclose(
      got, twin.apply(twin.params, x), rtol=1e-6, atol=1e-6)
  assert len(jax.tree.leaves(folded)) == 4


@pytest.mark.parametrize('hold', [
    nnx.List, nnx.data, lambda parts: nnx.data(dict(enumerate(parts)))])
def test_parameters_without_a_name_have_no_place_for_g(hold):
  class Parts(nnx.Module):
    def __init__(self):
      self.parts = hold([nnx.Param(jnp.ones((4, 4)))])

  with pytest.raises(TypeError, match="'parts/0' is no attribute"):
    in_nnx.WeightNorm(
        Parts(), where='*', blocks=Blocks('unit', units={'*': -1}))


def test_mean_only_batch_norm_names_what_does_not_fit():
  x = batch((8, 6))
  with pytest.raises(ValueError, match=r'axis=3.*\(8, 6\) has no such axis'):
    in_linen.MeanOnlyBatchNorm(False, axis=3).init(jax.random.key(0), x)
  for features in (1, 4):
    with pytest.raises(ValueError, match=r'features \(6,\) on axis -1'):
      in_nnx.MeanOnlyBatchNorm(features)(x)
  # Integers have a mean that is none.
  np.testing.assert_array_equal(
      in_nnx.MeanOnlyBatchNorm(1)(jnp.array([[1], [2], [6]])),
      [[-2.], [-1.], [3.]])


def test_initialization_names_what_is_missing():
  x = batch((8, 4))
  model = in_linen.WeightNorm(nn.Dense(3))
  variables = model.init(jax.random.key(0), x)
  for call in (in_linen.fold,
               lambda *given: in_linen.data_dependent_init(*given, x)):
    with pytest.raises(ValueError, match="no collection 'params'"):
      call(model, variables['params'])
  with pytest.raises(ValueError, match=r'of shape \(0, 3\), is empty'):
    in_linen.data_dependent_init(model, variables, x[:0])
