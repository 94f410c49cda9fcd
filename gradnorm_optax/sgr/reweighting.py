"""Weights of a mini-batch that do not push the long-term norm away."""

from typing import Any, NamedTuple

import jax
from jax import lax, numpy as jnp

from gradnorm_optax import _floats
from gradnorm_optax.sgr.selection import check_range

_HALVINGS = 24  # of the unit interval: one unit in the last place of float32


class Weighting(NamedTuple):
  """Weights of the examples of a mini-batch."""

  weights: jax.Array  # shape=(B,), not negative, their sum is 1
  mode: jax.Array  # shape=(), dtype=int32: -1 lowers, 0 equal, +1 raises


def reweight(s: jax.Array, Q: Any, *, low: Any, high: Any) -> Weighting:
  r"""Weights a mini-batch so that a step does not push the norm further away.

  Gentler than `select`: no example is exchanged for another, and equal weights
  change no more than it takes. With the mode, +1 where Q < low, -1 where
  Q > high, and z the scores times the mode, brought to mean 0 and deviation 1,

  .. math:: w_i \propto \max(1 - t + t z_i, 0)

  with the smallest t in [0, 1] for which the predicted change of Q,
  :math:`\sum_i w_i s_i`, has the sign of the mode or is zero; t = 1 where none
  is. As long as no weight reaches 0 these are the weights nearest to equal ones
  (in the sum of squares) with that property. In range (mode 0), or where the
  step would bring Q back anyway, all weights are 1/B.

  Not in the paper, which exchanges examples; see docs/sgr.md for how both did.
  A score that is not finite counts as 0. Where Q is NaN or infinite or every
  score is 0, nothing is known and the weights are equal (mode 0).

  Args:
    s: Scores (B,).
    Q: The long-term log norm.
    low: Lower end of the safe range; may be traced, may be -inf.
    high: Upper end; may be traced, may be inf.

  Returns:
    Weights in the dtype of the scores, and the mode.

  Raises:
    ValueError: `s` has not one axis, or low > high.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> s = jnp.array([-3., -1., 0., 2.])
    >>> weights, mode = gn.sgr.reweight(s, -5., low=-1., high=1.)
    >>> print([f'{w:.3f}' for w in weights], mode)
    ['0.154', '0.231', '0.269', '0.346'] 1
    >>> bool(abs(weights @ s) < 1e-6)
    True

  References:
    After Chernodub, Nowicki, `Sampling-based Gradient Regularization for
    Capturing Long-Term Dependencies in Recurrent Neural Networks
    <https://arxiv.org/abs/1606.07767>`_, 2016
  """
  check_range('reweight', low, high)
  s = jnp.asarray(s)
  if s.ndim != 1 or not s.size:
    raise ValueError(
        f'reweight: s has shape {s.shape}; give one score for each example.')
  wide = _floats.accumulator([s])
  scores = jnp.where(jnp.isfinite(s), s, jnp.zeros_like(s)).astype(wide)
  # A power of two: neither the mean nor the deviation can overflow.
  scores = scores * _floats.inverse_magnitude(jnp.max(jnp.abs(scores)))
  Q, low, high = (jnp.asarray(v).astype(wide) for v in (Q, low, high))
  informed = jnp.isfinite(Q) & (scores != 0).any()
  direction = jnp.where(Q < low, 1, jnp.where(Q > high, -1, 0))
  mode = jnp.where(informed, direction, 0).astype(jnp.int32)
  ahead = scores * mode.astype(wide)
  centered = ahead - ahead.mean()
  spread = jnp.sqrt(jnp.mean(lax.square(centered)))
  level = centered / jnp.where(spread > 0, spread, jnp.ones_like(spread))

  def weights(t: jax.Array) -> jax.Array:
    raw = jnp.maximum(1 - t + t * level, jnp.zeros_like(level))
    total = raw.sum()
    # Equal scores leave nothing to prefer.
    return jnp.where(total > 0, raw / jnp.where(total > 0, total, 1),
                     jnp.full_like(raw, 1 / raw.size))

  def halve(_: Any, bounds: tuple[jax.Array, jax.Array]) -> Any:
    below, above = bounds
    middle = (below + above) / 2
    enough = weights(middle) @ ahead >= 0
    return (jnp.where(enough, below, middle),
            jnp.where(enough, middle, above))

  _, t = lax.fori_loop(
      0, _HALVINGS, halve, (jnp.zeros([], wide), jnp.ones([], wide)))
  t = jnp.where(ahead.mean() >= 0, jnp.zeros_like(t), t)
  return Weighting(weights(t).astype(s.dtype), mode)
