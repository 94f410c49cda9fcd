"""Weights that change no more than they must."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradnorm_optax as gn


def nearest_weights(s):
  """The weights nearest to equal ones that change nothing: least squares."""
  rows = np.stack([np.ones(len(s)), s])
  return 1 / len(s) + np.linalg.pinv(rows) @ [0.0, -s.mean()]


@pytest.mark.parametrize('q, sign', [(-5.0, 1), (5.0, -1)])
def test_weights_are_the_nearest_to_equal_ones(q, sign):
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    for _ in range(5):
      s = rng.normal(0.0, 1.0, 20)
      s = s - s.mean() - 0.2 * sign
      weights, mode = gn.sgr.reweight(
          jnp.asarray(s, jnp.float64), q, low=-1.0, high=1.0)
      expected = nearest_weights(s)
      assert int(mode) == sign
      assert expected.min() > 0  # or the two rules part
      np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_predicted_change_has_the_right_sign_also_where_weights_vanish():
  rng = np.random.default_rng(1)
  s = np.concatenate([rng.normal(-2.0, 1.0, 15), [0.4, 0.6, 3.0]])
  weights, _ = gn.sgr.reweight(
      jnp.asarray(s, jnp.float32), -3.0, low=-1.0, high=1.0)
  weights = np.asarray(weights, np.float64)
  assert (weights == 0).any() and weights.min() >= 0
  assert abs(weights.sum() - 1) < 1e-6
  assert -1e-6 < weights @ s < 1e-4
  assert (np.diff(weights[np.argsort(s)]) >= 0).all()


def test_hopeless_scores_lean_as_far_as_the_family_goes():
  s = np.array([-4.0, -3.0, -2.0, -1.0])
  weights, mode = gn.sgr.reweight(
      jnp.asarray(s, jnp.float32), -3.0, low=-1.0, high=1.0)
  z = (s - s.mean()) / s.std()
  expected = np.maximum(z, 0) / np.maximum(z, 0).sum()
  np.testing.assert_allclose(weights, expected, atol=1e-6)
  assert int(mode) == 1


@pytest.mark.parametrize('s, q', [
    ([1.0, -2.0, 0.5], 0.0),  # in range
    ([1.0, 2.0, -0.5], -4.0),  # raises Q by itself
    ([0.0, 0.0, 0.0], -4.0),  # nothing known
    ([1.0, -2.0, 0.5], float('nan')),
    ([-1.0, -1.0, -1.0], -4.0),  # nothing to prefer
    ([float('nan'), 0.0, 0.0], -4.0),
])
def test_equal_weights_where_nothing_is_to_be_mended(s, q):
  weights, _ = gn.sgr.reweight(
      jnp.asarray(s, jnp.float32), q, low=-1.0, high=1.0)
  np.testing.assert_allclose(weights, np.full(3, 1 / 3), atol=1e-7)


@pytest.mark.parametrize('size', [1e-35, 1.0, 1e35])
def test_scale_of_the_scores_changes_nothing(size):
  s = jnp.array([-3.0, -1.0, 0.0, 2.0], jnp.float32)
  plain, _ = gn.sgr.reweight(s, -5.0, low=-1.0, high=1.0)
  scaled, _ = jax.jit(lambda s: gn.sgr.reweight(s, -5.0, low=-1.0, high=1.0))(
      s * jnp.float32(size))
  np.testing.assert_allclose(scaled, plain, atol=1e-6)


def test_bad_arguments_are_named():
  with pytest.raises(ValueError, match='low must not exceed high'):
    gn.sgr.reweight(jnp.ones(3), 0.0, low=1.0, high=-1.0)
  with pytest.raises(ValueError, match='one score for each example'):
    gn.sgr.reweight(jnp.ones((3, 2)), 0.0, low=-1.0, high=1.0)
