"""What the parameters stand for: v and g in them, in every dtype."""

import jax
import numpy as np
import optax
import pytest
import weight_norm_reference as reference
from jax import numpy as jnp

from gradnorm_optax.weight_norm import weight_normalized

COARSE = [('bfloat16', 2.0**-8), ('float16', 2.0**-11)]


def start(shape=(64, 8), dtype='float32', seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def walk(tx, p, grads):
  """Takes a step for each of the gradients."""
  def body(carry, grad):
    params, state = carry
    updates, state = tx.update({'kernel': grad}, state, params)
    with jax.numpy_dtype_promotion('standard'):
      return (optax.apply_updates(params, updates), state), updates

  return jax.jit(lambda p: jax.lax.scan(
      body, (p, tx.init(p)), grads))({'kernel': p})


def expected(p, grads, rate, decay=0.):
  """Returns v and g of modules fed the same gradients, in float64."""
  v, g = np.asarray(p, float), reference.norms(p, (0,))
  traces = [np.zeros(g.shape), np.zeros(v.shape)]
  for grad in np.asarray(grads, float):
    v, g, traces = reference.momentum_step(
        grad, v, g, traces, (0,), rate, decay)
  return v, g


def kept(params, state):
  """Returns v and g as parameters and state stand for them, in float64."""
  w = np.asarray(state.weights['kernel'].w if state.weights
                 else params['kernel'], float)
  scale = np.asarray(state.scale['kernel'], float)
  return w / scale, np.sign(scale) * reference.norms(w, (0,))


def test_nothing_piles_up_over_thousands_of_steps():
  # Gradients that do not depend on w, so that no error mends itself. A float32
  # module's own v and g end as far away, but for a factor of two.
  p = start((16, 4))
  grads = np.random.default_rng(1).normal(size=(3000, 16, 4)).astype('float32')
  (params, state), _ = walk(
      weight_normalized(optax.sgd(0.01, momentum=0.9)), p, jnp.asarray(grads))
  v, g = expected(p, grads, 0.01, 0.9)
  w, got = reference.weight(v, g, (0,)), np.asarray(params['kernel'], float)
  assert np.linalg.norm(got - w) < 2e-5 * np.linalg.norm(w)
  np.testing.assert_allclose(
      kept(params, state)[0], v, rtol=0, atol=2e-5 * np.abs(v).max())


@pytest.mark.parametrize('dtype, unit', COARSE)
def test_coarse_parameters_stand_beside_float32_weights(dtype, unit):
  # Steps that bfloat16 cannot show add up.
  p = start(dtype=dtype)
  grads = start((100, 64, 8), dtype, 1)
  (params, state), updates = walk(weight_normalized(optax.sgd(1e-3)), p, grads)
  assert params['kernel'].dtype == updates['kernel'].dtype == dtype
  assert state.weights['kernel'].w.dtype == 'float32'
  v, g = expected(p, grads, 1e-3)
  for got, want in zip(kept(params, state), (v, g), strict=True):
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5)
  gap = np.asarray(params['kernel'], float) - reference.weight(v, g, (0,))
  assert (reference.norms(gap, (0,)) <= 3 * unit * np.abs(g)).all()


def test_tiny_float16_parameters_are_not_taken_for_edited_ones():
  # Among subnormal numbers the rounding is no longer relative.
  p = (1e-6 * start()).astype('float16')
  grads = 1e-6 * start((20, 64, 8), seed=1)
  (params, state), _ = walk(weight_normalized(optax.sgd(1e-2)), p, grads)
  v, _ = expected(p, grads, 1e-2)
  np.testing.assert_allclose(kept(params, state)[0], v, rtol=0, atol=1e-11)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_edited_units_are_the_new_weights_and_others_stay(dtype):
  p, grads = start(dtype=dtype), start((5, 64, 8), dtype, 1)
  tx = weight_normalized(optax.sgd(0.1))
  (params, state), _ = walk(tx, p, grads)
  v, g = kept(params, state)
  edited = {'kernel': params['kernel'].at[:, 1].mul(1.5).at[:, 2].set(0)}
  updates, after = tx.update(
      {'kernel': jnp.zeros_like(p)}, state, edited)
  # Neither without a gradient moves, and an edited unit keeps g/||v||.
  size = np.abs(np.asarray(params['kernel'], float)).max()
  np.testing.assert_allclose(
      np.asarray(updates['kernel'], float), 0, atol=0.02 * size)
  moved = optax.apply_updates(edited, updates)
  new_v, new_g = kept(moved, after)
  np.testing.assert_allclose(new_v[:, 3:], v[:, 3:], rtol=1e-5)
  np.testing.assert_allclose(new_g[:, 3:], g[:, 3:], rtol=1e-5)
  w = np.asarray(edited['kernel'], float)
  np.testing.assert_allclose(
      np.abs(new_g[0, 1:3]), reference.norms(w, (0,))[0, 1:3], rtol=1e-5)
  np.testing.assert_allclose(
      after.scale['kernel'][0, [0, 1, 3]], state.scale['kernel'][0, [0, 1, 3]],
      rtol=1e-5)
  assert after.scale['kernel'][0, 2] == 1 and (new_v[:, 2] == 0).all()


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('poison', [np.nan, np.inf])
def test_a_step_that_is_not_finite_leaves_no_trace_in_the_state(dtype, poison):
  p = start(dtype=dtype)
  tx = weight_normalized(optax.sgd(0.1))
  (params, state), _ = walk(tx, p, jnp.full((1, 64, 8), poison, dtype))
  assert not np.isfinite(np.asarray(params['kernel'], float)).any()
  updates, after = tx.update(
      {'kernel': jnp.zeros_like(p)}, state, {'kernel': p})
  np.testing.assert_allclose(np.asarray(updates['kernel'], float), 0, atol=1e-6)
  np.testing.assert_allclose(after.scale['kernel'], 1, rtol=1e-6)


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_a_length_crosses_zero_and_the_direction_stays(dtype):
  # Gradients along w turn nothing: g walks down the line, through zero or onto
  # it, where w is 0 and tells nothing of v.
  with jax.enable_x64(True):
    unit = float(jnp.finfo(dtype).eps) / 2
    v = start((16, 4), dtype)
    lengths = jnp.linalg.norm(v, axis=0, keepdims=True)
    # By step and unit: one far beyond zero, onto zero and off again after two
    # steps there, near zero, and past it by as much as before.
    parts = jnp.asarray([[.5, 1, .9999, 2], [.4, 0, 0, 0], [.3, 0, 0, 0],
                         [.2, -.5, -.5, -.5]], dtype)
    grads = parts[:, None] * v[None]
    tx = weight_normalized(optax.sgd(1.))
    (params, state), _ = walk(tx, v, grads)
    g = np.asarray(lengths * (1 - parts.sum(0, keepdims=True)))
    slack = 8 * unit**0.5
    got_v, got_g = kept(params, state)
    np.testing.assert_allclose(got_g, g, rtol=0, atol=slack * 4)
    turned = got_v / reference.norms(got_v, (0,)) - np.asarray(v / lengths)
    np.testing.assert_allclose(turned, 0, atol=slack)
    np.testing.assert_allclose(
        reference.norms(got_v, (0,)), lengths, rtol=slack)


def test_a_length_held_at_zero_keeps_its_direction():
  # As under `optax.keep_params_nonnegative`: for as long as it likes.
  at_zero = optax.GradientTransformation(
      lambda params: optax.EmptyState(),
      lambda u, s, p: ({'v': jax.tree.map(jnp.zeros_like, u['v']),
                        'g': jax.tree.map(lambda g: -g, p['g'])}, s))
  p = start()
  (params, state), _ = walk(
      weight_normalized(at_zero), p, jnp.zeros((40, 64, 8)))
  v, g = kept(params, state)
  assert (np.abs(g) < 1e-12 * reference.norms(p, (0,))).all()
  np.testing.assert_allclose(v, p, rtol=0, atol=2e-2)


@pytest.mark.parametrize('params, grads, want', [
    ('float32', 'bfloat16', 'float32'), ('float32', 'float16', 'float32'),
    ('bfloat16', 'float32', 'float32'), ('bfloat16', 'bfloat16', 'bfloat16')])
def test_updates_have_the_wider_dtype(params, grads, want):
  tree = {'kernel': start((4, 3), params), 'bias': start((3,), params)}
  slopes = jax.tree.map(lambda x: x.astype(grads), tree)
  with jax.numpy_dtype_promotion('standard'):
    tx = weight_normalized(optax.sgd(0.1))
    updates, _ = tx.update(slopes, tx.init(tree), tree)
  assert updates['kernel'].dtype == updates['bias'].dtype == want


def test_the_state_of_float32_parameters_is_one_number_by_unit():
  tree = {'a': {'kernel': start(), 'bias': jnp.zeros(8)}}
  state = weight_normalized(optax.sgd(0.1)).init(tree)
  assert jax.tree.map(jnp.shape, state._asdict()) == {
      'scale': {'a/kernel': (1, 8)}, 'weights': {},
      'inner': (optax.EmptyState(), optax.EmptyState())}
