"""Deltas through time and their log norm against the explicit recursion."""

import jax
import numpy as np
import pytest
import srn
from jax import numpy as jnp

from gradnorm_optax import sgr

TOLERANCE = {'float32': 1e-6, 'float64': 1e-12}


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('f', srn.F)
def test_deltas_equal_the_backward_recursion(f, dtype):
  p, u, t = srn.problem()
  with jax.enable_x64(dtype == 'float64'):
    got = sgr.deltas(srn.jax_loss(f), srn.cast(p, dtype),
                     srn.cast((u, t), dtype), (8, 6, 5))
    assert got.dtype == dtype
    got = np.asarray(got, np.float64)
  want = srn.deltas(p, u, t, f)
  for k in range(8):  # each step on its own scale
    error = np.linalg.norm(got[k] - want[k]) / np.linalg.norm(want[k])
    assert error < TOLERANCE[dtype], f'step {k}'


@pytest.mark.parametrize('relative', [False, True])
@pytest.mark.parametrize('horizon', [0, 3, 7])
def test_log_norm(horizon, relative):
  d = srn.deltas(*srn.problem(), 'tanh')
  got = jax.jit(lambda d, h: sgr.long_term_log_norm(d, h, relative=relative))(
      jnp.asarray(d, jnp.float32), horizon)  # a traced horizon
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(
      got, srn.log_norm(d, horizon, relative), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('relative', [False, True])
def test_log_norm_of_a_traced_step_outside_is_nan(relative):
  measure = jax.vmap(lambda h: sgr.long_term_log_norm(
      jnp.ones((4, 2, 3)), h, relative=relative))
  got = measure(jnp.array([-1, 0, 3, 4, 9]))
  np.testing.assert_array_equal(
      np.isnan(got), [True, False, False, True, True])


@pytest.mark.parametrize('size', [1e-35, 1e-23, 1e30])
def test_log_norm_where_squares_leave_the_range(size):
  d = srn.deltas(*srn.problem(), 'tanh')
  scaled = jnp.asarray(d * size / np.abs(d[2]).max(), jnp.float32)
  np.testing.assert_allclose(
      sgr.long_term_log_norm(scaled, 5),
      srn.log_norm(np.asarray(scaled, np.float64), 5), rtol=1e-6)
  slope = jax.grad(lambda d: sgr.long_term_log_norm(d, 5))(scaled)
  # Q rises by log10(e) when all norms rise by the factor e.
  np.testing.assert_allclose(
      np.vdot(np.float64(slope), np.float64(scaled)), np.log10(np.e), rtol=1e-5)


def test_log_norm_of_nothing_is_minus_infinity():
  assert sgr.long_term_log_norm(jnp.zeros((3, 2, 2)), 1) == -jnp.inf


def test_bad_arguments_are_named():
  loss, (p, u, t) = srn.jax_loss('tanh'), srn.problem()
  p, batch = srn.cast(p, 'float32'), srn.cast((u, t), 'float32')
  with pytest.raises(ValueError, match='time first'):
    sgr.long_term_log_norm(jnp.zeros((3, 2)), 1)
  with pytest.raises(ValueError, match='real floating-point, not int32 of'):
    sgr.long_term_log_norm(jnp.zeros((3, 2, 2), jnp.int32), 1)
  with pytest.raises(ValueError, match=r'horizon=8.*0 .*7'):
    sgr.long_term_log_norm(jnp.zeros((8, 2, 2)), 8)
  with pytest.raises(TypeError, match=r'horizon=1.5\): must be an integer'):
    sgr.long_term_log_norm(jnp.zeros((8, 2, 2)), 1.5)
  with pytest.raises(TypeError, match=r'probe=2.5\): must be an integer'):
    sgr.contributions(loss, p, batch, shape=(8, 6, 5), horizon=2, probe=2.5)
  with pytest.raises(ValueError, match=r'\(T, B, H\)'):
    sgr.deltas(loss, p, batch, (8, 6))
  with pytest.raises(ValueError, match='one loss for each example'):
    sgr.deltas(lambda p, b, e: loss(p, b, e).mean(), p, batch, (8, 6, 5))
  with pytest.raises(ValueError, match='losses alone.* not a tuple'):
    sgr.deltas(lambda *a: (loss(*a), 0), p, batch, (8, 6, 5))
  with pytest.raises(ValueError, match='real floating.*got complex64 of'):
    sgr.deltas(lambda *a: loss(*a).astype('complex64'), p, batch, (8, 6, 5))
  for wrap in (lambda f: f, jax.jit):
    forgot = wrap(lambda p, b, e: loss(p, b, jnp.zeros((8, 6, 5))))
    for call in (lambda f: sgr.deltas(f, p, batch, (8, 6, 5)),
                 lambda f: sgr.contributions(
                     f, p, batch, shape=(8, 6, 5), horizon=2)):
      with pytest.raises(ValueError, match='no use of `perturb`.*Add it'):
        call(forgot)
  assert sgr.deltas(jax.jit(loss), p, batch, (8, 6, 5)).any()
  with pytest.raises(TypeError, match="'step' is int32"):
    sgr.deltas(loss, {**p, 'step': jnp.int32(3)}, batch, (8, 6, 5))
  with pytest.raises(ValueError, match="'1' of the batch has shape.*first"):
    sgr.contributions(loss, p, (batch[0], batch[1][:5]), shape=(8, 6, 5),
                      horizon=2)
  with pytest.raises(ValueError, match='probe=7'):
    sgr.contributions(loss, p, batch, shape=(8, 6, 5), horizon=2, probe=7)
