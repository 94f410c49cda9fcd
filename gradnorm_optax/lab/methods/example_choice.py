"""The gradient of the examples that hold the long-term norm in its range."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax, numpy as jnp

from gradnorm_optax import sgr
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.support.json_safe import finite


class Choice(NamedTuple):
  """What a step was trained on.

  Attributes:
    q: The long-term log norm on the first examples of the pool; NaN where the
      rule needs none.
    mode: -1 lowers, 0 as they come, +1 raises.
    kept: Places in the pool; (size,), int32.
  """

  q: jax.Array
  mode: jax.Array
  kept: jax.Array


def gradient(
    loss: sgr.norms.PerExampleLoss, params: Any, pool: Any, key: jax.Array,
    sampling: schema.Sampling, shape: Callable[[int], tuple[int, int, int]],
    trials: str | None = None,
    ends: tuple[Any, Any] | None = None,
) -> tuple[jax.Array, Any, Choice]:
  """Computes the loss and the gradient of the chosen examples of a pool.

  One backward pass over the first `size` examples gives their gradient and, by
  the way, the long-term norm. Only where that lies outside its range is the
  pool scored, and the gradient of the selected examples taken. Trials that
  share a call score together: where one norm lies outside, the pools of all
  are scored, and each trial keeps what is its own.

  Args:
    loss: `loss(params, examples, perturb) -> (B,)`.
    params: The parameters.
    pool: A tree of arrays with examples along the first axis, in random order.
    key: Of a choice at random, where nothing is known.
    sampling: How to choose.
    shape: `shape(examples)` is the shape of `perturb`.
    trials: The mapped axis of trials that share a call; None for one trial.
    ends: Low and high where they were learned.

  Returns:
    The mean loss of the first `size` examples, the gradient, and the choice.

  Raises:
    LabError: The pool holds fewer examples than are to be chosen.
  """
  count = len(jax.tree.leaves(pool)[0])
  size = sampling.taken(count)
  if count < size:
    raise LabError(
        f'sampling.size = {size} of batches of {count}: the training part '
        'holds no more. Take fewer, or more training examples')
  few = jax.tree.map(lambda a: a[:size], pool)
  first = jnp.arange(size, dtype=jnp.int32)
  nothing = jnp.zeros([], jnp.int32)
  still = jnp.zeros(shape(size))
  if sampling.rule == 'random':
    value, slope = jax.value_and_grad(
        lambda w: loss(w, few, still).mean())(params)
    return value, slope, Choice(
        jnp.full([], jnp.nan, jnp.float32), nothing, first)

  # Of the sum, so that each example's own delta is seen.
  total, (slope, found) = jax.value_and_grad(
      lambda w, e: loss(w, few, e).sum(), (0, 1))(params, still)
  slope = jax.tree.map(lambda g: g / size, slope)
  horizon = sampling.back(len(still))
  low: Any
  high: Any
  low, high = ends or (sampling.low, sampling.high)
  q = sgr.long_term_log_norm(found, horizon, relative=sampling.relative)

  plain = slope, Choice(q, nothing, first)
  outside = ~((q >= low) & (q <= high))

  def mend() -> tuple[Any, Choice]:
    s, value = sgr.contributions(
        loss, params, pool, shape=shape(count), horizon=horizon, probe=size,
        relative=sampling.relative)
    kept, mode = sgr.select(
        s, value, key, size=size, low=low, high=high)
    chosen = jax.tree.map(lambda a: a[kept], pool)
    mended = jax.grad(lambda w: loss(w, chosen, still).mean())(
        params), Choice(value, mode, kept)
    return mended if trials is None else jax.tree.map(
        lambda a, b: jnp.where(outside, a, b), mended, plain)

  # Not mapped over the trials, or both branches would run in every step.
  anywhere = outside if trials is None else lax.pmax(
      outside.astype(jnp.int32), trials) > 0
  slope, choice = lax.cond(anywhere, mend, lambda: plain)
  return total / size, slope, choice


def acted(choices: Choice) -> Any:
  """Whether a choice differs from the first examples of the pool."""
  return (choices.kept != np.arange(choices.kept.shape[-1])).any(-1)


def lines(step: int, pools: Any, choices: Choice) -> list[dict[str, Any]]:
  """Makes the lines of `selection.jsonl`, one for each step.

  Args:
    step: The number of the first step, from 1.
    pools: Rows of the training set; (steps, pool).
    choices: Stacked along the first axis.

  Returns:
    Step, mode, Q (None where it is not finite), and rows of the training set in
    ascending order: those trained on and those left out.
  """
  found = jax.tree.map(np.asarray, choices)
  made = []
  for i, pool in enumerate(np.asarray(pools)):
    kept = pool[found.kept[i]]
    made.append({
        'step': step + i, 'mode': int(found.mode[i]),
        'q': finite(found.q[i], 4),
        'kept': sorted(kept.tolist()),
        'left': np.setdiff1d(pool, kept).tolist()})
  return made
