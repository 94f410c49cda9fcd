"""The safe range that is learned, beside its definition in NumPy."""

import math

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradnorm_optax as gn
from gradnorm_optax import sgr

INF = math.inf
W = jnp.zeros(2)


def reference(values, learn, tail, margin, within):
  """Sorts the first finite readings; float64."""
  first = np.sort([v for v in values if math.isfinite(v)][:learn])
  if len(first) < learn:
    return -INF, INF
  k = math.floor(tail * learn)
  low, high = (min(max(q, within[0] + margin), within[1] - margin)
               for q in (first[k], first[-1 - k]))
  return low - margin, high + margin


@pytest.mark.parametrize('learn, tail, margin, within', [
    (1, 0.0, 0.0, (-INF, INF)), (7, 0.0, 1.0, (-INF, INF)),
    (40, 0.1, 0.5, (-INF, INF)), (100, 0.05, 1.5, (-2.5, 1.0)),
    (100, 0.05, 1.5, (-INF, 1.0)), (1000, 0.06, 1.0, (-INF, INF))])
@pytest.mark.parametrize('centre', [-9.0, -0.8, 6.0])
def test_matches_its_definition(learn, tail, margin, within, centre):
  rng = np.random.default_rng(learn)
  values = rng.normal(centre, 1.0, 300)
  values[[3, 50]] = np.nan, -INF  # nothing is learned from these
  with jax.enable_x64(True):
    tx = sgr.learn_range(learn=learn, tail=tail, margin=margin, within=within)
    start = tx.init(np.zeros(2))

    def step(state, value):
      same, new = tx.update(W, state, long_term_log_norm=value)
      del same
      return new, (new.low, new.high)

    state, (lows, highs) = jax.jit(
        lambda values: jax.lax.scan(step, start, values))(values)
    for count in (learn - 1, learn + 1, 300):
      if count > 300:
        continue
      wanted = reference(values[:count], learn, tail, margin, within)
      got = (-INF, INF) if count == 0 else (lows[count - 1], highs[count - 1])
      np.testing.assert_allclose(got, wanted, rtol=1e-13)
  assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, start)
  if within == (-2.5, 1.0):
    assert -2.5 <= float(state.low) <= -2 and 0.5 <= float(state.high) <= 1


@pytest.mark.parametrize('low, high, wanted', [
    (-1.0, 'auto', (-1.0, -1.0)), ('auto', -6.0, (-6.0, -6.0)),
    (-9.0, 'auto', (-9.0, -2.0)), ('auto', INF, (-5.0, INF))])
def test_an_end_that_is_given_stays(low, high, wanted):
  tx = sgr.learn_range(low, high, learn=2, tail=0.0, margin=1.0)
  state = tx.init(W)
  assert (state.low, state.high) == (
      -INF if low == 'auto' else low, INF if high == 'auto' else high)
  for value in (-4.0, -3.0, 5.0):
    _, state = tx.update(W, state, long_term_log_norm=value)
  assert (state.low, state.high) == wanted


@pytest.mark.parametrize('options, error, match', [
    ({'learn': 0}, ValueError, 'learn=0'),
    ({'tail': 0.5}, ValueError, 'tail=0.5'),
    ({'margin': -1.0}, ValueError, 'margin=-1.0'),
    ({'within': (-1.0, 1.0)}, ValueError, 'twice the margin'),
    ({'learn': 2000}, ValueError, '64 are the most'),
    ({'low': 'automatic'}, TypeError, 'low must be a number, not str'),
    ({'low': 1.0, 'high': 0.0}, ValueError, 'low must not exceed high')])
def test_bad_options_are_named(options, error, match):
  with pytest.raises(error, match=match):
    sgr.learn_range(**options)


def test_update_needs_the_norm():
  tx = sgr.learn_range()
  with pytest.raises(ValueError, match='long_term_log_norm='):
    tx.update(W, tx.init(W))


def test_a_chain_learns_its_range_and_then_acts():
  """As with numbers: nobody is preferred, then those that raise Q."""
  g = jnp.array([[1.0, 0.0], [3.0, 1.0], [-1.0, 5.0], [-3.0, 0.0], [0.0, 0.0]])
  slope = jnp.array([-1.0, 0.0])
  keys = jax.random.split(jax.random.key(0), 101)
  values = jnp.concatenate([jnp.linspace(-3.0, -2.0, 100), jnp.array([-9.0])])
  tx = optax.chain(gn.regularize_by_sampling(
      'auto', low='auto', high='auto'), optax.scale(1.0))

  def step(state, given):
    updates, state = tx.update(
        g, state, W, long_term_log_norm=given[0], long_term_grad=slope,
        key=given[1])
    return state, updates

  state, updates = jax.jit(lambda: jax.lax.scan(
      step, tx.init(W), (values, keys)))()
  inner = state[0]
  assert (inner.safe_count, inner.raised_count) == (100, 1)
  # A fifth of five examples: the one of the largest score.
  np.testing.assert_array_equal(updates[-1], g[1])
  assert len(np.unique(updates[:100, 0])) == 5
  low, high = reference(np.asarray(values), 100, 0.05, 1.5, (-INF, INF))
  np.testing.assert_allclose(
      (inner.safe_range.low, inner.safe_range.high), (low, high), rtol=1e-6)
  same = optax.tree.map_params(tx, lambda leaf: leaf, state)
  assert jax.tree.structure(same) == jax.tree.structure(state)
  # Numbers give the state of before, without a range.
  plain = gn.regularize_by_sampling(1, low=-1.0, high=1.0).init(W)
  assert type(plain) is sgr.RegularizeBySamplingState and len(plain) == 5


def test_the_automatic_horizon_and_size():
  deltas = jnp.exp(jnp.arange(21.0))[:, None, None] * jnp.ones((1, 2, 3))
  assert sgr.long_term_log_norm(deltas, 'auto') == sgr.long_term_log_norm(
      deltas, 18)
  chosen = sgr.select(jnp.arange(12.0), -5.0, jax.random.key(0), size='auto',
                      low=-1.0, high=1.0)
  assert sorted(chosen.indices.tolist()) == [10, 11]
  with pytest.raises(TypeError, match='must be an integer'):
    sgr.long_term_log_norm(deltas, 'far')
