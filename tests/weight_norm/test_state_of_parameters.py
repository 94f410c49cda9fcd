"""What `weight_normalized` takes for edited parameters, where dtypes differ."""

import jax
import numpy as np
import optax
import pytest
import weight_norm_reference as reference
from jax import numpy as jnp

from gradnorm_optax.weight_norm import weight_normalized

RATE = 0.05


def gradients(dtype, scale):
  rng = np.random.default_rng(1)
  return jnp.asarray(rng.normal(size=(100, 64, 8)) * scale, dtype)


@pytest.mark.parametrize('dtype, scale', [
    ('bfloat16', 1.), ('float16', 1.), ('float16', 1e-4)])
def test_updates_narrower_than_the_parameters_restart_nothing(dtype, scale):
  # What the update loses by its rounding is no edit from outside, and the next
  # one makes up for it: v and g are those of modules fed the same gradients.
  # (1e-4: updates among float16's subnormal numbers.)
  start = np.random.default_rng(0).normal(size=(64, 8)).astype('float32')
  grads = gradients(dtype, scale)
  tx = weight_normalized(optax.sgd(RATE))
  params = {'kernel': jnp.asarray(start)}

  def body(carry, slope):
    params, state = carry
    updates, state = tx.update({'kernel': slope}, state, params)
    assert updates['kernel'].dtype == dtype
    params = {'kernel': params['kernel'] + updates['kernel'].astype('float32')}
    return (params, state), None

  run = jax.jit(lambda p: jax.lax.scan(body, (p, tx.init(p)), grads)[0])
  params, state = run(params)
  v, g = np.asarray(start, float), reference.norms(start, (0,))
  traces = [0, 0]
  for slope in np.asarray(grads, float):
    v, g, traces = reference.momentum_step(
        slope, v, g, traces, (0,), RATE, 0)
  np.testing.assert_allclose(state.v['kernel'], v, rtol=0, atol=2e-5)
  np.testing.assert_allclose(state.g['kernel'], g, rtol=0, atol=2e-5)
  # The parameters are at w but for the rounding of one update.
  gap = np.asarray(params['kernel']) - reference.weight(v, g, (0,))
  last = RATE * reference.norms(grads[-1], (0,))
  allowed = float(jnp.finfo(dtype).eps) * last + 2.**-24 * 8 + 1e-5
  assert (reference.norms(gap, (0,)) <= allowed).all()
  # An edit of a hundredth is more than that.
  edited = {'kernel': params['kernel'].at[:, 3].mul(1.01)}
  after = tx.update({'kernel': 0 * grads[0]}, state, edited)[1]
  np.testing.assert_array_equal(
      after.v['kernel'][:, 3], edited['kernel'][:, 3])
  np.testing.assert_array_equal(
      after.v['kernel'][:, :3], state.v['kernel'][:, :3])
