"""What Linen does with a module beside calling it: tables, lifting, folding."""

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax.core import FrozenDict
from jax import numpy as jnp
from twins import batch

import gradnorm_optax.linen as in_linen


class Model(nn.Module):
  """A layer whose wrapper is itself lifted."""

  lift: object = staticmethod(lambda kind: kind)

  @nn.compact
  def __call__(self, x):
    wrap = self.lift(in_linen.WeightNorm)
    return nn.Dense(2)(jnp.tanh(wrap(nn.Dense(3, name='first'))(x)))


def test_a_model_with_wrappers_can_be_tabulated():
  x = batch((2, 4))
  for model in (in_linen.WeightNorm(nn.Dense(3)), Model()):
    table = model.tabulate(jax.random.key(0), x)
    assert 'WeightNorm' in table and 'kernel_g' in table


@pytest.mark.parametrize('lift', [nn.remat, nn.jit])
def test_a_lifted_wrapper_is_the_wrapper(lift):
  x = batch((5, 4))
  plain, lifted = Model(), Model(lift)
  variables = lifted.init(jax.random.key(0), x)
  # (nn.jit draws other numbers, from any module.)
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
      jnp.shape, plain.init(jax.random.key(0), x))

  def loss(model):
    return lambda v: jnp.sum(jnp.sin(model.apply(v, x)))

  got, want = (jax.value_and_grad(loss(m))(variables) for m in (lifted, plain))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-5, atol=1e-6), got, want)
  top = lift(in_linen.WeightNorm)(nn.Dense(3))
  assert set(top.init(jax.random.key(0), x)['params']) == {
      'kernel', 'bias', 'kernel_g'}
  held = Held(lift(in_linen.WeightNorm)(nn.Dense(3)))
  variables = held.init(jax.random.key(0), x)
  assert set(variables['params']['inner']) == {'kernel', 'bias', 'kernel_g'}
  np.testing.assert_allclose(
      held.apply(variables, x),
      Held(in_linen.WeightNorm(nn.Dense(3))).apply(variables, x), rtol=1e-6)


class Held(nn.Module):
  """A wrapper in a field."""

  inner: nn.Module

  @nn.compact
  def __call__(self, x):
    return nn.Dense(2)(self.inner(x))


class Heads(nn.Module):
  """Makes parameters in every call that names a new head."""

  @nn.compact
  def __call__(self, x, head):
    return nn.Dense(2, name=head)(jnp.tanh(nn.Dense(3, name='body')(x)))


class Calls(nn.Module):
  """Calls one module for two heads, and beside it a parameter of its own."""

  base: nn.Module

  def setup(self):
    nn.share_scope(self, self.base)

  @nn.compact
  def __call__(self, x):
    scale = self.param('scale', nn.initializers.ones, (2,))
    return scale * (self.base(x, 'a') + 2 * self.base(x, 'b'))


@pytest.mark.parametrize('options', [
    {}, {'log_scale': True, 'where': ['*kernel', '*bias']}])
def test_a_layer_may_make_parameters_in_a_later_call(options):
  x = batch((5, 4))
  plain = Calls(Heads()).init(jax.random.key(0), x)['params']
  model = Calls(in_linen.WeightNorm(Heads(), **options))
  got, variables = model.init_with_output(jax.random.key(0), x)
  want = Calls(Heads()).apply({'params': plain}, x)
  for out in (got, model.apply(variables, x)):
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-6)
  params = variables['params']
  assert len(jax.tree.leaves(params)) == len(jax.tree.leaves(plain)) + (
      6 if options else 3)
  for name in ('body', 'a', 'b'):
    np.testing.assert_array_equal(
        params[name]['kernel'], plain[name]['kernel'])


@pytest.mark.parametrize('held', [False, True])
def test_linen_folds_to_the_dtype_that_the_layer_got(held):
  x = batch((4, 50))
  wrap = lambda n, **k: in_linen.WeightNorm(  # noqa: E731
      nn.Dense(n), **k)
  model = wrap(6, dtype='bfloat16')
  if held:
    model = in_linen.WeightNorm(
        nn.Sequential([nn.Dense(6), model, wrap(3), nn.Sequential([
            wrap(2, dtype='float16')])]),
        where='layers_0/kernel', dtype='bfloat16')
  variables = model.init(jax.random.key(0), x)
  variables = jax.tree.map(lambda leaf: leaf * 1.1, variables)
  plain, folded = in_linen.fold(model, variables)
  np.testing.assert_allclose(
      plain.apply(folded, x), model.apply(variables, x), rtol=1e-6, atol=1e-6)
  assert {leaf.dtype for leaf in jax.tree.leaves(folded)} == {
      jnp.dtype('float32')}


class Two(NamedTuple):
  a: nn.Module
  b: nn.Module


class Contained(nn.Module):
  """Layers in a container of its choice."""

  parts: Any

  @nn.compact
  def __call__(self, x):
    values = getattr(self.parts, 'values', None)
    for part in values() if values else self.parts:
      x = part(x)
    return x


@pytest.mark.parametrize('contain', [
    tuple, list, lambda two: dict(zip('ab', two, strict=True)),
    lambda two: FrozenDict(zip('ab', two, strict=True)), lambda two: Two(*two)])
def test_fold_takes_wrappers_out_of_every_container(contain):
  x = batch((4, 5))
  model = Contained(contain([in_linen.WeightNorm(nn.Dense(n)) for n in (3, 2)]))
  variables = model.init(jax.random.key(0), x)
  plain, folded = in_linen.fold(model, variables)
  assert 'WeightNorm' not in repr(plain)
  assert type(plain.parts) is type(model.parts)
  np.testing.assert_allclose(
      plain.apply(folded, x), model.apply(variables, x), rtol=1e-6, atol=1e-6)
