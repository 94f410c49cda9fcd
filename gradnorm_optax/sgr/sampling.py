"""Sampling-based gradient regularization as a gradient transformation."""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

from gradnorm_optax import _floats, _tree
from gradnorm_optax.sgr import norms, safe_range
from gradnorm_optax.sgr.selection import (
    check_key,
    check_pool,
    check_scalar,
    check_size,
    select,
)

_NAME = 'regularize_by_sampling'


class RegularizeBySamplingState(NamedTuple):
  """Counts the modes and keeps the last long-term log norm.

  Attributes:
    raised_count: Steps with Q < low; shape (), int32, as the other counts.
    safe_count: Steps at random, Q in range.
    lowered_count: Steps with Q > high.
    blind_count: Steps at random, nothing known.
    log_norm: The last Q, shape (), float32 or float64.
  """

  raised_count: jax.Array
  safe_count: jax.Array
  lowered_count: jax.Array
  blind_count: jax.Array
  log_norm: jax.Array


class RegularizeBySamplingAutoState(NamedTuple):
  """Counts the modes, keeps the last log norm, and learns its safe range.

  Attributes:
    raised_count: As in `RegularizeBySamplingState`, like the four that follow.
    safe_count: While the range is learned, too.
    lowered_count: Steps with Q > high.
    blind_count: Steps at random, nothing known.
    log_norm: The last Q.
    safe_range: The `SafeRange`.
  """

  raised_count: jax.Array
  safe_count: jax.Array
  lowered_count: jax.Array
  blind_count: jax.Array
  log_norm: jax.Array
  safe_range: safe_range.SafeRange


State = RegularizeBySamplingState | RegularizeBySamplingAutoState


def regularize_by_sampling(
    size: int | str, *, low: Any, high: Any
) -> optax.GradientTransformationExtraArgs:
  r"""Averages the per-example gradients that hold the long-term norm in range.

  With :math:`g_i` the gradient of example i and Q the long-term log norm,

  .. math:: s_i = -\langle \nabla_w Q, g_i \rangle, \qquad
            u = \frac{1}{m} \sum_{i \in S} g_i

  where S holds the m = `size` largest scores if Q < low, the smallest if
  Q > high, m examples at random between them (see `gn.sgr.select`).

  Must come first in the chain, on the whole tree: `updates` are per-example
  gradients with a leading axis B on every leaf, as in
  `optax.contrib.differentially_private_aggregate`; what comes out is shaped
  like the parameters. Under `optax.masked` and `optax.partition` each part
  would choose for itself by a part of the scores. Wrong under
  `optax.MultiSteps` and `optax.apply_every`, which add up its input over steps
  whose examples are not the same, and under `optax.apply_if_finite`, which
  expects outputs shaped like inputs; put them behind it, around the rest.

  It needs pool x parameters of memory. Where that is too much, use
  `gn.sgr.contributions` and `gn.sgr.select`, and take the gradient of the
  selected examples alone.

  `update` takes three extra arguments: `long_term_log_norm=` Q and
  `long_term_grad=` its gradient (both from `gn.sgr.long_term_gradient`), and
  `key=`, a fresh random key. Scores are taken in float32 (float64 where a leaf
  is), scaled by powers of two so that none overflows; one that is not finite
  counts as 0. Where Q or its gradient is not finite the choice is random and
  `blind_count` rises. A non-finite gradient of an example that is not chosen
  does no harm. Under `optax.inject_hyperparams`, `size` belongs in
  `static_args`.

  Departs from the paper in naming the thresholds, whose values it does not
  give, and in taking whole per-example gradients, where it composes batches.

  Args:
    size: Number of examples to average, m; "auto": a fifth of the pool.
    low: Lower end of the safe range of Q; "auto": learned from the first 100
      steps, in which examples are chosen at random (see `gn.sgr.learn_range`).
    high: Upper end, or "auto".

  Returns:
    A transformation with a `RegularizeBySamplingState`, or, where an end is
    learned, a `RegularizeBySamplingAutoState` that holds the range as well.
    Each output leaf keeps its dtype. `init` and `update`
    raise a TypeError that names a leaf that is not real floating-point, and
    `update` a ValueError where an extra argument is missing, a leading axis is
    not that of the others, or the trees do not fit together.

  Raises:
    TypeError: `size` is no integer, or a bound no number, and not "auto".
    ValueError: `size` is less than 1, or low > high.

  Examples:
    >>> import gradnorm_optax as gn, jax, jax.numpy as jnp
    >>> tx = gn.regularize_by_sampling(2, low=-1., high=1.)
    >>> w, per_example = jnp.zeros(2), jnp.array([[1., 0], [3., 1], [-1., 5]])
    >>> updates, state = tx.update(
    ...     per_example, tx.init(w), w, long_term_log_norm=-4.,
    ...     long_term_grad=jnp.array([-1., 0.]), key=jax.random.key(0))
    >>> print(updates, state.raised_count)
    [2.  0.5] 1

    Nothing known of the range:

    >>> tx = gn.regularize_by_sampling('auto', low='auto', high='auto')
    >>> state = tx.init(w)
    >>> for i in range(100):
    ...   _, state = tx.update(
    ...       per_example, state, w, long_term_log_norm=-1. - i / 99,
    ...       long_term_grad=jnp.array([-1., 0.]), key=jax.random.key(i))
    >>> print(state.safe_count, f'{state.safe_range.low:.2f}')
    100 -3.45

  References:
    Chernodub, Nowicki, `Sampling-based Gradient Regularization for Capturing
    Long-Term Dependencies in Recurrent Neural Networks
    <https://arxiv.org/abs/1606.07767>`_, 2016
  """
  size = check_size(_NAME, size)
  given = safe_range.rules(_NAME, low, high)
  learned = safe_range.is_auto(low) or safe_range.is_auto(high)

  def init_fn(params: Any) -> State:
    wide = norms.widest(params, _NAME)
    wide = _floats.accumulator([jnp.zeros([], wide)])
    raised, safe, lowered, blind = (
        jnp.zeros([], jnp.int32) for _ in range(4))
    fields = raised, safe, lowered, blind, jnp.zeros([], wide)
    return RegularizeBySamplingAutoState(
        *fields, safe_range.start(given, wide)) if learned else (
            RegularizeBySamplingState(*fields))

  def update_fn(
      updates: Any, state: State, params: Any = None, *,
      long_term_log_norm: Any = None, long_term_grad: Any = None,
      key: Any = None, **extra_args: Any,
  ) -> tuple[Any, State]:
    del extra_args
    _require_extra(long_term_log_norm=long_term_log_norm,
                   long_term_grad=long_term_grad, key=key)
    check_scalar(_NAME, 'long_term_log_norm', long_term_log_norm)
    check_key(_NAME, key)
    leaves, treedef, pool = _examples(updates)
    if params is not None:
      _tree.require_same(_NAME, _one(updates), params, 'parameters')
    _tree.require_same(_NAME, _one(updates), long_term_grad, 'long_term_grad')
    if pool is None:  # a tree without leaves
      return updates, state
    number = check_pool(_NAME, pool, size)
    ends: tuple[Any, Any] = low, high
    if isinstance(state, RegularizeBySamplingAutoState):
      ends = state.safe_range.low, state.safe_range.high
    dtype = state.log_norm.dtype
    value = jnp.asarray(long_term_log_norm).astype(dtype)
    slopes = _tree.by_path(long_term_grad)
    pairs = [(leaf, jnp.asarray(slopes[path])) for path, leaf in zip(
        _tree.paths(updates), leaves, strict=True) if not _tree.is_hole(leaf)]
    scores, known = _scores(pairs, pool)
    known &= jnp.isfinite(value)
    scores = jnp.where(known, scores, jnp.zeros_like(scores))
    chosen = select(
        scores, value, key, size=number, low=ends[0], high=ends[1])
    new = [leaf if _tree.is_hole(leaf)
           else _mean(norms.rows(leaf, chosen.indices)) for leaf in leaves]
    inside = ((value >= jnp.asarray(ends[0]).astype(dtype))
              & (value <= jnp.asarray(ends[1]).astype(dtype)))
    state = _count(state, chosen.mode, inside & known, value)
    if isinstance(state, RegularizeBySamplingAutoState):
      state = state._replace(safe_range=safe_range.step(
          given, state.safe_range, value))
    return jax.tree.unflatten(treedef, new), state

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _require_extra(**given: Any) -> None:
  missing = [name + '=' for name, value in given.items() if value is None]
  if missing:
    raise ValueError(
        f'{_NAME}: update needs {", ".join(missing)}. Call update(updates,'
        ' state, params, long_term_log_norm=Q, long_term_grad=grad_Q, key=key)'
        ' with Q, grad_Q = gn.sgr.long_term_gradient(...) and a fresh random'
        ' key.')


def _examples(updates: Any) -> tuple[list[Any], Any, int | None]:
  """Returns leaves, structure and the size of the leading axis, checked."""
  leaves, treedef = _tree.flatten(updates)
  pool, first = None, ''
  for i, path in enumerate(_tree.paths(updates)):
    if _tree.is_hole(leaves[i]):
      continue
    norms.require_real(leaves[i], path, _NAME)
    shape = np.shape(leaves[i])
    if not shape or (pool is not None and shape[0] != pool):
      other = '' if pool is None else f' {pool} as in {first!r}'
      raise ValueError(
          f'{_NAME}: leaf {path!r} has shape {shape}; its leading'
          f' axis must run over the examples{other}. Give per-example gradients'
          ' (jax.vmap(jax.grad(loss), (None, 0))(params, batch)) and put this'
          ' transformation first in the chain.')
    leaves[i], pool, first = jnp.asarray(leaves[i]), shape[0], path
  return leaves, treedef, pool


def _one(updates: Any) -> Any:
  """Returns the tree with leaves as one example's, shapes alone."""
  return jax.tree.map(
      lambda leaf: leaf if _tree.is_hole(leaf) else jax.ShapeDtypeStruct(
          np.shape(leaf)[1:], jnp.result_type(leaf)),
      updates, is_leaf=_tree.is_hole)


def _scores(
    pairs: list[tuple[jax.Array, jax.Array]], pool: int
) -> tuple[jax.Array, jax.Array]:
  """Returns scores up to a common factor, and whether the slopes are finite."""
  dtype = _floats.accumulator([leaf for pair in pairs for leaf in pair])
  # The order of scores is all that counts, so one factor may scale them all.
  by, by_slope = (
      _floats.inverse_magnitude(_largest(leaves, dtype))
      for leaves in zip(*pairs, strict=True))
  total, known = jnp.zeros((pool,), dtype), jnp.array(True)
  for leaf, slope in pairs:
    known &= jnp.isfinite(slope).all()
    # No matrix product: axes may be cut over devices, whatever their number.
    products = leaf.astype(dtype) * by * (slope.astype(dtype) * by_slope)[None]
    total -= products.sum(axis=tuple(range(1, leaf.ndim)))
  return total, known


def _largest(leaves: Any, dtype: Any) -> jax.Array:
  """Returns the largest finite magnitude."""
  result = jnp.zeros([], dtype)
  for leaf in leaves:
    size = jnp.abs(leaf).astype(dtype)
    finite = jnp.where(jnp.isfinite(size), size, jnp.zeros_like(size))
    result = jnp.maximum(result, jnp.max(finite, initial=0))
  return result


def _mean(rows: jax.Array) -> jax.Array:
  """Averages over the first axis in at least float32."""
  wide = rows.astype(_floats.accumulator([rows]))
  return wide.mean(axis=0).astype(rows.dtype)


def _count(
    state: State, mode: jax.Array, safe: jax.Array, value: jax.Array
) -> State:
  def add(count: jax.Array, hit: jax.Array) -> jax.Array:
    return jnp.where(hit, optax.safe_increment(count), count)

  return state._replace(
      raised_count=add(state.raised_count, mode > 0),
      safe_count=add(state.safe_count, (mode == 0) & safe),
      lowered_count=add(state.lowered_count, mode < 0),
      blind_count=add(state.blind_count, (mode == 0) & ~safe), log_norm=value)
