"""Convolutions whose gradient is written in the form of a convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn, nnx
from jax import lax

from gradnorm_optax.lab.models import convolution

KEY = jax.random.key(0)


@pytest.mark.parametrize('size, kernel, strides, padding', [
    ((8, 8), (3, 3), 1, 'SAME'), ((8, 7), (3, 3), 2, 'SAME'),
    ((8, 8), (1, 1), 2, 'SAME'), ((9, 6), (4, 2), 3, 'VALID'),
    ((7, 5), (3, 2), (1, 2), ((2, 0), (0, 1))), ((11,), (5,), 2, 'SAME'),
    ((7, 6), (3, 3), 2, 'VALID'), ((5, 4, 4), (2, 3, 1), 1, 'SAME')])
def test_values_and_gradients_are_those_of_flax(size, kernel, strides, padding):
  x = jax.random.normal(KEY, (3, *size, 2))
  found = []
  for layer in (nn.Conv, convolution.Conv):
    net = layer(4, kernel, strides, padding)
    params = net.init(KEY, x)

    def value(params, x, net=net):
      return (net.apply(params, x) ** 3).sum()

    found.append((net.apply(params, x), jax.jit(jax.grad(value, (0, 1)))(
        params, x)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=1e-4 * float(abs(a).max())), *found)


def test_layers_of_nnx_take_it_too():
  x = jax.random.normal(KEY, (2, 6, 6, 3))
  found = []
  for options in ({}, {'conv_general_dilated': convolution.convolve}):
    net = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0), **options)
    graph, params = nnx.split(net)
    found.append(jax.make_jaxpr(jax.grad(
        lambda params, graph=graph: nnx.merge(graph, params)(x).sum()))(params))
  counts = [len({str(one['dimension_numbers']) for one in convolutions(
      jaxpr.jaxpr)}) for jaxpr in found]
  assert counts == [2, 1]


def convolutions(jaxpr):
  """All of them, also those of programs that are called."""
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == 'conv_general_dilated':
      yield eqn.params
    for value in eqn.params.values():
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        yield from convolutions(inner)


@pytest.mark.parametrize('layer, others', [
    (convolution.Conv, 0), (nn.Conv, 2)])
def test_all_have_the_form_that_is_fast_in_a_loop(layer, others):
  net, x = layer(4, (3, 3)), jnp.ones((2, 6, 6, 3))
  slopes = jax.make_jaxpr(jax.grad(
      lambda params, x: net.apply(params, x).sum(), (0, 1)))(
          net.init(KEY, x), x)
  found = [params['dimension_numbers'] for params in convolutions(slopes.jaxpr)]
  assert len(found) >= 2
  assert sum(dims != found[0] for dims in found) == others
  assert found[0] == lax.conv_dimension_numbers(
      x.shape, (3, 3, 3, 4), ('NHWC', 'HWIO', 'NHWC'))


def test_others_are_left_as_they_are():
  x = jnp.ones((2, 6, 6, 4))
  for options in ({'feature_group_count': 2}, {'kernel_dilation': 2},
                  {'input_dilation': 2, 'padding': ((1, 1), (1, 1))}):
    net, own = (layer(4, (3, 3), **options)
                for layer in (nn.Conv, convolution.Conv))
    params = net.init(KEY, x)
    np.testing.assert_array_equal(net.apply(params, x), own.apply(params, x))
    assert not any('custom_vjp' in str(eqn.primitive) for eqn in (
        jax.make_jaxpr(own.apply)(params, x).eqns))
