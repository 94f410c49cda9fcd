"""The gradient of the examples that hold the long-term norm in its range."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax, numpy as jnp

from gradnorm_optax import sgr
from gradnorm_optax.lab import schema


class Choice(NamedTuple):
  """What a step was trained on.

  Attributes:
    q: The long-term log norm on the first examples of the pool; NaN where the
      rule needs none.
    mode: -1 lowers, 0 as they come, +1 raises.
    kept: Places in the pool; (size,), int32.
    weights: Of those examples; (size,), their sum is 1.
  """

  q: jax.Array
  mode: jax.Array
  kept: jax.Array
  weights: jax.Array


def gradient(
    loss: sgr.norms.PerExampleLoss, params: Any, pool: Any, key: jax.Array,
    sampling: schema.Sampling, shape: Callable[[int], tuple[int, int, int]],
) -> tuple[jax.Array, Any, Choice]:
  """Computes the loss and the gradient of the chosen examples of a pool.

  One backward pass over the first `size` examples gives their gradient and, by
  the way, the long-term norm. Only where that lies outside its range are the
  examples scored, chosen or weighted, and their gradient taken anew.

  Args:
    loss: `loss(params, examples, perturb) -> (B,)`.
    params: The parameters.
    pool: A tree of arrays with examples along the first axis, in random order.
    key: Of a choice at random, where nothing is known.
    sampling: How to choose.
    shape: `shape(examples)` is the shape of `perturb`.

  Returns:
    The mean loss of the first `size` examples, the gradient, and the choice.
  """
  size = sampling.size
  few = jax.tree.map(lambda a: a[:size], pool)
  equal = jnp.full(size, 1 / size, jnp.float32)
  first = jnp.arange(size, dtype=jnp.int32)
  nothing = jnp.zeros([], jnp.int32)
  still = jnp.zeros(shape(size))
  if sampling.rule == 'random':
    value, slope = jax.value_and_grad(
        lambda w: loss(w, few, still).mean())(params)
    return value, slope, Choice(
        jnp.full([], jnp.nan, jnp.float32), nothing, first, equal)

  # Of the sum, so that each example's own delta is seen.
  total, (slope, found) = jax.value_and_grad(
      lambda w, e: loss(w, few, e).sum(), (0, 1))(params, still)
  slope = jax.tree.map(lambda g: g / size, slope)
  horizon = round(sampling.horizon * (len(still) - 1))
  q = sgr.long_term_log_norm(found, horizon, relative=sampling.relative)

  def mend() -> tuple[Any, Choice]:
    many = few if sampling.rule == 'reweight' else pool
    count = len(jax.tree.leaves(many)[0])
    s, value = sgr.contributions(
        loss, params, many, shape=shape(count), horizon=horizon, probe=size,
        relative=sampling.relative)
    limits = {'low': sampling.low, 'high': sampling.high}
    if sampling.rule == 'reweight':
      weights, mode = sgr.reweight(s, value, **limits)
      choice = Choice(value, mode, first, weights.astype(jnp.float32))
    else:
      kept, mode = sgr.select(s, value, key, size=size, **limits)
      choice = Choice(value, mode, kept, equal)
    chosen = jax.tree.map(lambda a: a[choice.kept], many)
    return jax.grad(lambda w: choice.weights @ loss(w, chosen, still))(
        params), choice

  inside = (q >= sampling.low) & (q <= sampling.high)
  slope, choice = lax.cond(
      inside, lambda: (slope, Choice(q, nothing, first, equal)), mend)
  return total / size, slope, choice


def lines(step: int, pools: Any, choices: Choice) -> list[dict[str, Any]]:
  """Makes the lines of `selection.jsonl`, one for each step.

  Args:
    step: The number of the first step, from 1.
    pools: Rows of the training set; (steps, pool).
    choices: Stacked along the first axis.

  Returns:
    Step, mode, Q (None where it is not finite), and rows of the training set in
    ascending order: those trained on and those left out; where examples were
    weighted, `weights` of the kept ones.
  """
  found = jax.tree.map(np.asarray, choices)
  made = []
  for i, pool in enumerate(np.asarray(pools)):
    used = found.weights[i] > 0
    kept, weights = pool[found.kept[i][used]], found.weights[i][used]
    order = np.argsort(kept)
    q = float(found.q[i])
    line = {'step': step + i, 'mode': int(found.mode[i]),
            'q': round(q, 4) if np.isfinite(q) else None,
            'kept': kept[order].tolist(),
            'left': np.setdiff1d(pool, kept).tolist()}
    if np.ptp(weights):
      line['weights'] = [round(float(w), 4) for w in weights[order]]
    made.append(line)
  return made
