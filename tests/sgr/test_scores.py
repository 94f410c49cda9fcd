"""Contributions against explicit inner products and real steps."""

import functools
import math

import jax
import nets
import numpy as np
import pytest
import srn
from jax import numpy as jnp

from gradnorm_optax import sgr
from gradnorm_optax.lab.data import long_dependency


def differences(function, p, step=1e-6):
  """Returns central differences of a NumPy function by every parameter."""
  columns = []
  for name in sorted(p):
    for at in np.ndindex(p[name].shape):
      values = []
      for sign in (1, -1):
        moved = {k: v.copy() for k, v in p.items()}
        moved[name][at] += sign * step
        values.append(function(moved))
      columns.append((values[0] - values[1]) / (2 * step))
  return np.stack(columns, -1)


@pytest.mark.parametrize(('probe', 'relative'), [(None, False), (2, True)])
def test_contributions_equal_inner_products(probe, relative):
  p, u, t = srn.problem()
  n = probe or 6
  slope = differences(lambda p: srn.log_norm(
      srn.deltas(p, u[:n], t[:n], 'tanh'), 5, relative), p)
  gradients = differences(lambda p: srn.losses(p, u, t, 'tanh'), p)
  want = -gradients @ slope
  got, value = jax.jit(lambda p, b: sgr.contributions(
      srn.jax_loss('tanh'), p, b, shape=(8, 6, 5), horizon=5, probe=probe,
      relative=relative))(srn.cast(p, 'float32'), srn.cast((u, t), 'float32'))
  assert got.shape == (6,)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * abs(want).max())
  np.testing.assert_allclose(value, srn.log_norm(
      srn.deltas(p, u[:n], t[:n], 'tanh'), 5, relative), rtol=1e-5)


def scalar_loss(w, batch, perturb):
  """The linear net of one unit with fixed input weight 1."""
  u, t = batch
  z, _ = jax.lax.scan(lambda z, a: (a + w * z, None), jnp.zeros(len(t)),
                      u.T + perturb[..., 0])
  return (z - t) ** 2 / 2


def test_scalar_example():
  """T = 3, w = .5: norm w^2 = .25, predicted +.075, in fact +.080625."""
  w, batch = jnp.array(0.5), (jnp.array([[1., 0, 0]]), jnp.array([1.]))
  s, value = sgr.contributions(scalar_loss, w, batch, shape=(3, 1, 1),
                               horizon=2, relative=True)
  norm = 10 ** float(value)
  assert norm == pytest.approx(0.25, rel=1e-6)
  assert 0.1 * float(s[0]) * math.log(10) * norm == pytest.approx(
      0.075, rel=1e-5)
  moved = w - 0.1 * jax.grad(
      lambda w: scalar_loss(w, batch, jnp.zeros((3, 1, 1))).sum())(w)
  after = sgr.long_term_log_norm(
      sgr.deltas(scalar_loss, moved, batch, (3, 1, 1)), 2, relative=True)
  assert 10 ** float(after) - norm == pytest.approx(0.080625, rel=1e-5)


def net(steps, width=100, task='temporal_order', **options):
  task = long_dependency.make(task, steps)
  model = nets.of(task, width=width, **options)
  return task, model, nets.losses(model, task)


@functools.cache
def prediction(name):
  """Returns jitted functions: scores of a pool of 400, and Q after a step."""
  task, model, loss = net(100, task=name)
  shape = model.perturb_shape(100, 400)

  @jax.jit
  def score(params, pool):
    return sgr.contributions(loss, params, pool, shape=shape, horizon=90)

  @jax.jit
  def moved(params, pool, rows, rate):
    few = jax.tree.map(lambda a: a[rows], pool)
    gradient = jax.grad(lambda w: loss(w, few).mean())(params)
    new = jax.tree.map(lambda w, g: w - rate * g, params, gradient)
    return sgr.long_term_log_norm(sgr.deltas(loss, new, pool, shape), 90)

  return task, model, score, moved


@pytest.mark.parametrize(('name', 'scale', 'rate', 'seed'), [
    ('temporal_order', 0.7, 1e-2, 0), ('temporal_order', 0.7, 1e-2, 1),
    ('temporal_order', 1.0, 1e-4, 0), ('temporal_order', 1.0, 1e-4, 1),
    ('adding', 0.7, 3e-4, 1)])
def test_predicted_change_is_the_measured_one(name, scale, rate, seed):
  """The top, bottom and random 20 of a pool of 400, T = 100, 100 units."""
  task, model, score, moved = prediction(name)
  model = model.clone(scale=scale)
  params = nets.params(model, jax.random.key(seed))
  pool = task.sample(jax.random.key(seed + 100), 400)
  s, before = score(params, pool)
  ranges = {1: (90.0, 99.0), -1: (-99.0, -90.0), 0: (-99.0, 99.0)}
  for want, (low, high) in ranges.items():
    rows, mode = sgr.select(
        s, before, jax.random.key(2), size=20, low=low, high=high)
    assert int(mode) == want
    predicted = rate * float(s[rows].mean())
    measured = float(moved(params, pool, rows, rate) - before)
    assert measured == pytest.approx(predicted, rel=0.15)
    assert want == 0 or np.sign(measured) == want


@pytest.mark.parametrize(('scale', 'depth'), [(0.7, -15), (0.45, -38)])
def test_starts_below_the_range_of_float32(scale, depth):
  """T = 150: squares, then the deltas themselves, underflow in float32."""
  task, model, loss = net(150, width=30, scale=scale)
  params = nets.params(model, jax.random.key(0))
  pool = task.sample(jax.random.key(1), 50)
  score = jax.jit(lambda p: sgr.contributions(
      loss, p, pool, shape=model.perturb_shape(150, 50), horizon=149, probe=10))
  s, value = score(params)
  with jax.enable_x64(True):
    wide = jax.tree.map(
        lambda a: jnp.asarray(np.asarray(a), jnp.float64), params)
    want, norm = (np.asarray(a) for a in score(wide))
  assert norm < depth
  np.testing.assert_allclose(value, norm, rtol=1e-5)
  np.testing.assert_allclose(s, want, rtol=1e-3, atol=1e-4 * abs(want).max())


def test_explosion_beyond_the_range_is_measured():
  """Deltas of 1e50: Q is known, its gradient is not, and nothing is scored."""
  p, u, t = srn.problem(steps=60, scale=7.0)
  p['b'] *= 0
  want = srn.log_norm(srn.deltas(p, u * 0, t, 'linear'), 59)
  s, value = sgr.contributions(
      srn.jax_loss('linear'), srn.cast(p, 'float32'),
      srn.cast((u * 0, t), 'float32'), shape=(60, 6, 5), horizon=59)
  assert want > 40
  np.testing.assert_allclose(value, want, rtol=1e-5)
  np.testing.assert_array_equal(s, np.zeros(6))


def test_float64_of_numpy_is_float32_to_jax():
  """Norms of 1e-50: the range is that of the dtype that is computed in."""
  p, u, t = srn.problem(steps=60, scale=0.2)
  got = [sgr.contributions(
      srn.jax_loss('tanh'), srn.cast(p, 'float32') if cast else p,
      srn.cast((u, t), 'float32'), shape=(60, 6, 5), horizon=59)
      for cast in (False, True)]
  assert got[0][1] < -45 and got[0][0].all()
  jax.tree.map(np.testing.assert_array_equal, *got)
  tx = sgr.regularize_by_sampling(2, low=-1.0, high=1.0)
  assert tx.init(p).log_norm.dtype == 'float32'


@pytest.mark.parametrize('poison', ['vanished', 'nan'])
def test_what_stays_nonfinite_scores_zero(poison):
  p, u, t = srn.problem(steps=60)
  p['rec'] *= 1e-9 if poison == 'vanished' else np.nan
  s, value = jax.jit(lambda p: sgr.contributions(
      srn.jax_loss('tanh'), p, srn.cast((u, t), 'float32'), shape=(60, 6, 5),
      horizon=59))(srn.cast(p, 'float32'))
  assert not np.isfinite(value)
  np.testing.assert_array_equal(s, np.zeros(6))


def test_one_bad_example_scores_zero_alone():
  p, u, t = srn.problem()
  u[4] = np.nan
  s, value = sgr.contributions(
      srn.jax_loss('tanh'), srn.cast(p, 'float32'),
      srn.cast((u, t), 'float32'), shape=(8, 6, 5), horizon=5, probe=4)
  assert np.isfinite(value) and s[4] == 0
  assert (np.delete(np.asarray(s), 4) != 0).all()


def test_memory_does_not_grow_with_pool_times_parameters():
  """A pool of 400, T = 100, 100 units: scoring against vmap(grad)."""
  task, model, loss = net(100)
  shapes = jax.eval_shape(
      lambda key: nets.params(model, key), jax.random.key(0))
  pool = jax.eval_shape(lambda key: task.sample(key, 400), jax.random.key(0))

  def scores(params, pool):
    return sgr.contributions(loss, params, pool, horizon=90, probe=20,
                             shape=model.perturb_shape(100, 400))[0]

  def per_example(params, pool):
    one = lambda w, row: loss(w, jax.tree.map(lambda a: a[None], row))[0]  # noqa: E731
    return jax.vmap(jax.grad(one), (None, 0))(params, pool)

  def megabytes(function):
    memory = jax.jit(function).lower(shapes, pool).compile().memory_analysis()
    return (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 1e6

  size = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  products = 4 * 400 * size / 1e6
  ours, theirs = megabytes(scores), megabytes(per_example)
  states = 4 * 100 * 400 * 100 / 1e6  # one float for each state of the pool
  assert theirs > products
  assert ours < states
  # Twice the width, four times the parameters: scoring doubles, as its states.
  assert ours < 0.8 * theirs
