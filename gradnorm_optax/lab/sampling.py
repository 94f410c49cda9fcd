"""Training on mini-batches chosen from a pool, with a log of the choice."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

from gradnorm_optax import sgr
from gradnorm_optax.lab.recurrent import Recurrent, losses
from gradnorm_optax.lab.tasks import Batch, Task


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How a mini-batch is chosen.

  Attributes:
    rule: `sgr`, `random` (as many from the same pool) or `all` (the pool).
    pool: Examples drawn from the training set in every step.
    size: Examples chosen from the pool.
    probe: Examples of the pool on which Q and its gradient are taken.
    horizon: Share of the sequence over which the gradient is followed back:
      .9 measures it at a tenth of the sequence.
    low: Lower end of the safe range of Q.
    high: Upper end.
    relative: Whether Q is measured against the norm at the last step.
  """

  rule: Literal['sgr', 'random', 'all'] = 'sgr'
  pool: int = 100
  size: int = 20
  probe: int = 20
  horizon: float = 0.9
  low: float = -1.0
  high: float = 1.0
  relative: bool = True


class State(NamedTuple):
  """What a step passes on."""

  params: Any
  opt_state: Any
  step: jax.Array  # shape=(), dtype=int32


class Record(NamedTuple):
  """What a step did; `pool` and `kept` are rows of the training set.

  Attributes:
    loss: Mean loss of the chosen examples, before the step.
    q: The long-term log norm on the probe; NaN where the rule needs none.
    mode: -1 lowers, 0 random, +1 raises.
    pool: (pool,), int32.
    kept: Positions in the pool (size,), int32.
  """

  loss: jax.Array
  q: jax.Array
  mode: jax.Array
  pool: jax.Array
  kept: jax.Array


def start(model: Recurrent, tx: optax.GradientTransformation,
          seed: int) -> State:
  """Draws parameters; the same for every rule."""
  params = model.init_params(jax.random.key(seed))
  return State(params, tx.init(params), jnp.zeros([], jnp.int32))


def make_step(
    model: Recurrent, task: Task, tx: optax.GradientTransformation,
    sampling: Sampling,
) -> Callable[[State, Batch, jax.Array], tuple[State, Record]]:
  """Builds `step(state, train, key)`, to be jitted or scanned.

  The pool of a step depends on the key and the step's number alone, so that all
  rules see the same pools.
  """
  loss = losses(model, task)
  count = sampling.pool

  def choose(params: Any, pool: Batch, key: jax.Array) -> Any:
    nothing = jnp.float32(jnp.nan)
    if sampling.rule == 'all':
      return sgr.Selection(
          jnp.arange(count, dtype=jnp.int32), jnp.int32(0)), nothing
    if sampling.rule == 'random':
      order = jax.random.permutation(key, jnp.arange(count, dtype=jnp.int32))
      return sgr.Selection(order[:sampling.size], jnp.int32(0)), nothing
    s, q = sgr.contributions(
        loss, params, pool, shape=model.shape(task.steps, count),
        horizon=round(sampling.horizon * task.steps), probe=sampling.probe,
        relative=sampling.relative)
    return sgr.select(s, q, key, size=sampling.size, low=sampling.low,
                      high=sampling.high), q

  def step(state: State, train: Batch,
           key: jax.Array) -> tuple[State, Record]:
    draw, pick = jax.random.split(jax.random.fold_in(key, state.step))
    rows = jax.random.choice(
        draw, len(train.x), (count,), replace=False).astype(jnp.int32)
    pool = jax.tree.map(lambda a: a[rows], train)
    chosen, q = choose(state.params, pool, pick)
    batch = pool if sampling.rule == 'all' else jax.tree.map(
        lambda a: a[chosen.indices], pool)
    value, gradient = jax.value_and_grad(
        lambda w: loss(w, batch).mean())(state.params)
    updates, opt_state = tx.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return (State(params, opt_state, state.step + 1),
            Record(value, q, chosen.mode, rows, chosen.indices))

  return step


def delta_profile(loss: Any, params: Any, batch: Batch,
                  shape: tuple[int, int, int]) -> jax.Array:
  """Computes log10 of the mean norm of delta(k) for every step k: (T,)."""
  found = sgr.deltas(loss, params, batch, shape)
  measure = functools.partial(sgr.long_term_log_norm, found)
  return jax.lax.map(measure, jnp.arange(shape[0] - 1, -1, -1))


def append_log(path: pathlib.Path, first: int, records: Record) -> None:
  """Appends one line for each step of stacked records to `selection.jsonl`.

  A line holds the step, the mode, Q (null where it is not finite) and the rows
  of the training set that were kept and left out, in ascending order.
  """
  found = jax.tree.map(np.asarray, records)
  with path.open('a') as file:
    for i, pool in enumerate(found.pool):
      kept = np.zeros(len(pool), bool)
      kept[found.kept[i]] = True
      q = float(found.q[i])
      file.write(json.dumps({
          'step': first + i, 'mode': int(found.mode[i]),
          'q': round(q, 4) if np.isfinite(q) else None,
          'kept': sorted(pool[kept].tolist()),
          'left': sorted(pool[~kept].tolist())}, separators=(',', ':')) + '\n')
