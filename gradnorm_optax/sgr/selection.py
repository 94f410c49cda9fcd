"""The mini-batch that moves the long-term norm into its safe range."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax, numpy as jnp

from gradnorm_optax import _floats
from gradnorm_optax.sgr import norms

AUTO = 'auto'
_POOL = 5  # times as many examples as are taken


class Selection(NamedTuple):
  """Examples chosen from a pool.

  Attributes:
    indices: Their places in the pool, shape (size,), int32.
    mode: Why these: -1 lowers Q, 0 at random, +1 raises it; shape (), int32.
  """

  indices: jax.Array
  mode: jax.Array


def select(
    s: jax.Array, Q: Any, key: jax.Array, *, size: int | str, low: Any,
    high: Any,
) -> Selection:
  """Chooses the examples of a mini-batch by their scores.

  Q < low: the `size` largest scores (mode 1; they raise Q where they are
  positive). Q > high: the smallest (mode -1). Between them: `size` at random
  (mode 0). Equal scores are ordered at random. A score that is not finite
  counts as 0; where Q is NaN or infinite, or every score is 0, nothing is known
  and the choice is random (mode 0).

  Departs from the paper in naming the thresholds: its values are not published.

  Args:
    s: Scores (B,).
    Q: The long-term log norm.
    key: A random key; used in every mode.
    size: Number of examples to choose, at most B; "auto": a fifth of the pool,
      at least 1, the ratio of the study.
    low: Lower end of the safe range; may be traced, may be -inf.
    high: Upper end; may be traced, may be inf.

  Returns:
    Indices without repetition, and the mode.

  Raises:
    TypeError: `size` is no integer and not "auto", a bound or Q no number,
      `key` not one key.
    ValueError: `size` is not from 1 to B, low > high, or `s` is no vector of
      real floating-point numbers.

  Examples:
    >>> import gradnorm_optax as gn, jax, jax.numpy as jnp
    >>> s = jnp.array([.1, -2., 3., 1.])
    >>> chosen = gn.sgr.select(
    ...     s, -5., jax.random.key(0), size=2, low=-1., high=1.)
    >>> print(chosen.indices, chosen.mode)
    [2 3] 1

  References:
    Chernodub, Nowicki, `Sampling-based Gradient Regularization for Capturing
    Long-Term Dependencies in Recurrent Neural Networks
    <https://arxiv.org/abs/1606.07767>`_, 2016
  """
  asked = check_size('select', size)
  check_range('select', low, high)
  s, Q = jnp.asarray(s), check_scalar('select', 'Q', Q)
  check_key('select', key)
  if s.ndim != 1 or not jnp.issubdtype(s.dtype, jnp.floating):
    raise ValueError(
        'select: s must be the scores of a pool, real floating-point of shape'
        f' (B,), not {s.dtype} of shape {s.shape}.')
  Q, low, high = (
      jnp.asarray(v).astype(_floats.accumulator([s])) for v in (Q, low, high))
  size = check_pool('select', s.shape[0], asked)
  s = jnp.where(jnp.isfinite(s), s, jnp.zeros_like(s))
  direction = jnp.where(Q < low, 1, jnp.where(Q > high, -1, 0))
  informed = jnp.isfinite(Q) & (s != 0).any()
  mode = jnp.where(informed, direction, 0).astype(jnp.int32)
  # Examples are shuffled and those of equal rank taken as they come. Zeros lose
  # their sign: sorting would tell -0 from 0.
  order = jax.random.permutation(key, jnp.arange(len(s), dtype=jnp.int32))
  ranked = norms.rows(s, order) * mode.astype(s.dtype)
  ranked = jnp.where(ranked == 0, jnp.zeros_like(ranked), ranked)
  return Selection(order[lax.top_k(ranked, size)[1]], mode)


def check_size(name: str, size: Any) -> int | str:
  """Returns the size as an integer, or "auto"; it shapes the result."""
  if isinstance(size, str) and size == AUTO:
    return size
  if isinstance(size, jax.core.Tracer):
    raise TypeError(
        f'{name}: size is a traced value, but it shapes the result. Under'
        " optax.inject_hyperparams add 'size' to static_args.")
  number = norms.integer(name, 'size', size)
  if number < 1:
    raise ValueError(f'{name}(size={number}): must be at least 1.')
  return number


def check_scalar(name: str, what: str, value: Any) -> Any:
  """Returns the value; raises `TypeError` unless it is one real number."""
  known = hasattr(value, 'dtype') or isinstance(value, int | float)
  shape, dtype = (
      (np.shape(value), jnp.result_type(value)) if known else ((), object))
  if shape or not (jnp.issubdtype(dtype, jnp.floating)
                   or jnp.issubdtype(dtype, jnp.integer)):
    raise TypeError(
        f'{name}: {what} must be a number, not {type(value).__name__}'
        + (f' of shape {shape}.' if shape else '.')
        + (' A schedule goes through optax.inject_hyperparams.'
           if callable(value) else ''))
  return value


def check_key(name: str, key: Any) -> None:
  """Raises `TypeError` unless `key` is one random key, new style or raw."""
  dtype = getattr(key, 'dtype', None)
  typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
  if not (typed or dtype == np.uint32):
    raise TypeError(f'{name}: key must be a random key such as'
                    f' jax.random.key(0), not {key!r}.')
  if np.ndim(key) != (0 if typed else 1):
    raise TypeError(f'{name}: key must be one random key, not an array of them'
                    f' of shape {key.shape}. Take one, or jax.vmap.')


def check_range(name: str, low: Any, high: Any) -> None:
  """Raises where a bound is no number, or they are NaN or crossed."""
  values = [np.asarray(check_scalar(name, what, v), np.float64)
            for what, v in (('low', low), ('high', high))
            if not isinstance(v, jax.core.Tracer)]
  if any(np.isnan(v) for v in values) or (
      len(values) == 2 and values[0] > values[1]):
    raise ValueError(
        f'{name}(low={low}, high={high}): low must not exceed high.')


def check_pool(name: str, pool: int, size: int | str) -> int:
  """Returns how many examples of a pool are taken.

  Raises:
    ValueError: It has fewer.
  """
  if isinstance(size, str):
    return max(1, pool // _POOL)
  if pool < size:
    raise ValueError(
        f'{name}: size={size} examples of a pool of {pool} cannot be taken.'
        ' Enlarge the pool or take fewer.')
  return size
