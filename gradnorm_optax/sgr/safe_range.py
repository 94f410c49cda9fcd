"""The safe range of the long-term norm, learned from the first steps."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import lax, numpy as jnp

from gradnorm_optax import _floats, _recorded
from gradnorm_optax.sgr import norms
from gradnorm_optax.sgr.selection import AUTO, check_range, check_scalar

_NAME = 'learn_range'
_MOST = 64  # extreme readings kept for each side


class SafeRange(NamedTuple):
  """A range of Q, and what it is learned from; always of one size.

  Attributes:
    readings: Finite ones learned from so far; shape (), int32.
    least: The least of them, ascending; shape (k,), float32 or float64, as all
      that follow.
    largest: The largest, descending; shape (k,).
    low: -inf as long as it is not known; shape ().
    high: inf as long as it is not known; shape ().
  """

  readings: jax.Array
  least: jax.Array
  largest: jax.Array
  low: jax.Array
  high: jax.Array


class Rules(NamedTuple):
  """How a range is learned, checked; see `learn_range`."""

  low: Any
  high: Any
  learn: int
  kept: int
  margin: float
  within: tuple[float, float]


def rules(name: str, low: Any, high: Any, learn: int = 100, tail: float = 0.05,
          margin: float = 1.5,
          within: tuple[float, float] = (-math.inf, math.inf)) -> Rules:
  """Checks the arguments of `learn_range`."""
  numbers = {what: value for what, value in (('low', low), ('high', high))
             if not is_auto(value)}
  check_range(name, numbers.get('low', -math.inf),
              numbers.get('high', math.inf))
  _recorded.require_static(name, learn=learn, tail=tail, margin=margin)
  learn = norms.integer(name, 'learn', learn)
  if learn < 1:
    raise ValueError(f'{name}(learn={learn}): must be at least 1.')
  if not 0 <= tail < 0.5:
    raise ValueError(f'{name}(tail={tail!r}): a share in [0, 0.5).')
  if not 0 <= margin < math.inf:
    raise ValueError(f'{name}(margin={margin!r}): decades, at least 0.')
  if len(within) != 2 or not within[0] + 2 * margin <= within[1]:
    raise ValueError(
        f'{name}(within={within!r}): a pair of at least twice the margin'
        f' ({margin:g}) apart.')
  kept = math.floor(tail * learn) + 1
  if kept > _MOST:
    raise ValueError(
        f'{name}(learn={learn}, tail={tail}): the {kept} least and largest'
        f' readings would be kept, and {_MOST} are the most. Take a smaller'
        ' tail, or learn from fewer.')
  return Rules(low, high, learn, kept, float(margin),
               (float(within[0]), float(within[1])))


def is_auto(value: Any) -> bool:
  """Whether a bound is to be learned."""
  return isinstance(value, str) and value == AUTO


def start(given: Rules, dtype: Any) -> SafeRange:
  """Returns the range before the first reading: open where it is learned."""
  low, high = (jnp.asarray(
      np.inf * sign if is_auto(end) else end).astype(dtype)
               for end, sign in ((given.low, -1), (given.high, 1)))
  return SafeRange(
      jnp.zeros([], jnp.int32), jnp.full(given.kept, jnp.inf, dtype),
      jnp.full(given.kept, -jnp.inf, dtype), low, high)


def step(given: Rules, state: SafeRange, value: Any) -> SafeRange:
  """Takes one reading of Q into the range."""
  x = jnp.asarray(value).astype(state.low.dtype)
  number = jnp.asarray(given.learn, jnp.int32)
  learning = jnp.isfinite(x) & (state.readings < number)
  readings = state.readings + learning.astype(jnp.int32)
  done = learning & (readings == number)
  least = _insert(state.least, x, learning)
  largest = -_insert(-state.largest, -x, learning)
  floor, ceiling = (jnp.asarray(end, x.dtype) for end in given.within)
  margin = jnp.asarray(given.margin, x.dtype)

  def end(quantile: jax.Array, by: jax.Array) -> jax.Array:
    return jnp.clip(quantile, floor + margin, ceiling - margin) + by

  low, high = (
      kept if is_auto(known) else jnp.asarray(known).astype(x.dtype)
      for known, kept in ((given.low, state.low), (given.high, state.high)))
  if is_auto(given.low):  # a given end is never crossed
    low = jnp.where(done, jnp.minimum(end(least[-1], -margin), high), low)
  if is_auto(given.high):
    high = jnp.where(done, jnp.maximum(end(largest[-1], margin), low), high)
  return SafeRange(readings, least, largest, low, high)


def _insert(least: jax.Array, x: jax.Array, where: jax.Array) -> jax.Array:
  """Inserts x into ascending least values, where it is among them."""
  x = jnp.where(where, x, jnp.full_like(x, jnp.inf))
  before = jnp.concatenate([jnp.full_like(least[:1], -jnp.inf), least[:-1]])
  return jnp.maximum(before, jnp.minimum(least, x))


def learn_range(
    low: Any = AUTO, high: Any = AUTO, *, learn: int = 100, tail: float = 0.05,
    margin: float = 1.5, within: tuple[float, float] = (-math.inf, math.inf),
) -> optax.GradientTransformationExtraArgs:
  r"""Learns the safe range of the long-term norm; changes no update.

  From the first `learn` finite readings of Q, sorted
  :math:`Q_{(1)} \le .. \le Q_{(n)}`, with :math:`k = \lfloor \text{tail} \cdot
  n \rfloor + 1` and both quantiles clipped to [`within[0]` + margin,
  `within[1]` - margin],

  .. math:: \text{low} = Q_{(k)} - \text{margin}, \qquad
            \text{high} = Q_{(n+1-k)} + \text{margin}

  Before that the range is open: nothing is selected. Afterwards it stays. The
  quantiles are exact; the state keeps the k least and the k largest readings,
  so that its size is constant. What is wrong in those first steps is taken for
  normal, unless `within` says what a safe range may be at most: of relative
  norms (-2.5, 1) did best in the study.

  Put it anywhere in a chain, and give `update` the extra argument
  `long_term_log_norm=` Q. Its state, a `SafeRange`, holds `low` and `high` for
  `gn.sgr.select`: take them before the update.

  Departs from the paper, which publishes neither thresholds nor a rule.

  Args:
    low: A number instead, if this end is known. May be -inf.
    high: The same for the upper end. May be inf.
    learn: From how many readings.
    tail: Share of them beyond either quantile, in [0, 0.5).
    margin: Decades by which the range is wider than the quantiles.
    within: What a learned range is kept in.

  Returns:
    A transformation whose `update` returns the updates as they are.

  Raises:
    ValueError: An option is out of range, low > high, or `update` lacks Q.
    TypeError: A bound is no number and not "auto"; a parameter is not real
      floating-point.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> tx = gn.sgr.learn_range(learn=3, tail=0.0, margin=1.0)
    >>> w = jnp.zeros(2)
    >>> state = tx.init(w)
    >>> for Q in (-1.0, -2.0, -1.5, -9.0):
    ...   _, state = tx.update(w, state, w, long_term_log_norm=Q)
    >>> print(state.low, state.high)
    -3.0 0.0
  """
  given = rules(_NAME, low, high, learn, tail, margin, within)

  def init(params: Any) -> SafeRange:
    wide = norms.widest(params, _NAME)
    return start(given, _floats.accumulator([jnp.zeros([], wide)]))

  def update(
      updates: Any, state: SafeRange, params: Any = None, *,
      long_term_log_norm: Any = None, **extra_args: Any,
  ) -> tuple[Any, SafeRange]:
    del params, extra_args
    if long_term_log_norm is None:
      raise ValueError(
          f'{_NAME}: update needs long_term_log_norm=, the Q of this step.')
    check_scalar(_NAME, 'long_term_log_norm', long_term_log_norm)
    return updates, step(given, state, lax.stop_gradient(long_term_log_norm))

  return optax.GradientTransformationExtraArgs(init, update)
