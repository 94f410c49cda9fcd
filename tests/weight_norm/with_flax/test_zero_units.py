"""Units without a direction under `log_scale`: they can learn."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from twins import BOTH, Linen, batch, named

from gradnorm_optax import _weight_norm_math as math


def test_the_first_log_g_of_a_zero_unit():
  v = jnp.array([[3., 0., 1.], [4., 0., 0.]])
  np.testing.assert_allclose(
      math.first_g(v, (0,), True), np.log([[5, 5 * 2**-10, 1]]), rtol=1e-6)
  np.testing.assert_array_equal(math.first_g(v, (0,), False), [[5, 0, 1]])
  for axes in ((0,), (0, 1)):
    np.testing.assert_allclose(
        math.first_g(0 * v, axes, True), np.log(2**-10), rtol=1e-6)
  assert math.first_g(v[:, :0], (0,), True).shape == (1, 0)


@pytest.mark.parametrize('side', BOTH)
@pytest.mark.parametrize('tx', [optax.sgd(1.), optax.adam(1e-2)],
                         ids=['sgd', 'adam'])
def test_a_zero_unit_learns_with_log_scale(side, tx):
  x = batch((64, 6)) / 2
  target = x[:, :3]
  plain = side(lambda p: p.dense(6, 3, use_bias=False), x)
  params = jax.tree.map(lambda p: p.at[:, 1].set(0), plain.params)
  want = plain.apply(params, x)
  twin = start(side, params, x)
  params = twin.params
  np.testing.assert_allclose(twin.apply(params, x), want, rtol=0, atol=1e-6)

  def loss(params):
    return jnp.mean((twin.apply(params, x) - target)[:, 1] ** 2)

  @jax.jit
  def run(params):
    def body(carry, _):
      params, state = carry
      updates, state = tx.update(jax.grad(loss)(params), state, params)
      return (optax.apply_updates(params, updates), state), None
    return jax.lax.scan(body, (params, tx.init(params)), length=1500)[0][0]

  end = run(params)
  assert loss(end) < loss(params) / 100
  g = np.exp(named(end)['kernel_log_g'])[0, 1]
  assert 0.5 < g < 2


def start(side, params, x):
  """Returns a twin that wraps a layer with these parameters."""
  if side is Linen:
    twin = side(lambda p: p.wn(
        p.dense(6, 3, use_bias=False), log_scale=True), x)
    twin.variables = twin.model.apply({'params': params}, x, mutable=True)[1]
    return twin

  def make(parts):
    layer = parts.dense(6, 3, use_bias=False)
    layer.kernel.set_value(params['kernel'])
    return parts.wn(layer, log_scale=True)

  return side(make, x)
