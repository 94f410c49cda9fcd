"""One training run of a recurrent net on examples that a rule chooses."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import lax, numpy as jnp

from gradnorm_optax import sgr
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import long_dependency
from gradnorm_optax.lab.methods import example_choice
from gradnorm_optax.lab.models import recurrent

WITHIN = (-2.5, 1.0)  # a learned range is kept in, as in the lab
OPEN = (-np.inf, np.inf)  # nothing is selected: the first of a random pool


class Setting(NamedTuple):
  """What one compiled program runs: a task, a start, a pool, a horizon."""

  task: str
  length: int
  scale: float              # of the orthogonal start, a step
  steps: int
  width: int
  pool: int = 60
  size: int = 20
  horizon: float = 0.9
  held_out: int = 500


class Case(NamedTuple):
  """What differs between runs of a program.

  Attributes:
    rate: Of momentum 0.9, after clipping the global norm at 1.
    seed: Of start, pools and test sequences.
    low, high: The range of Q.
    auto: Whether both ends are learned from the first 100 steps instead.
  """

  rate: Any
  seed: Any
  low: Any
  high: Any
  auto: Any


class Found(NamedTuple):
  """What a run ended with.

  Attributes:
    right: Share of fresh sequences that are right.
    q: The relative long-term log norm at a quarter, half, three quarters and
      the end of training, each the mean of 20 steps; (4,).
    acted: Share of the steps whose examples the rule changed.
  """

  right: Any
  q: Any
  acted: Any


def trial(setting: Setting, case: Case) -> Found:
  """Trains one net; starts and pools of a seed are the same for all rules."""
  task = long_dependency.make(setting.task, setting.length)
  net = recurrent.Recurrent(
      task.outputs, task.inputs, setting.width, start='orthogonal',
      scale=setting.scale, readout=task.readout)
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(case.rate, 0.9))
  sampling = schema.Sampling(size=setting.size, horizon=setting.horizon)
  learner = sgr.learn_range(within=WITHIN)
  start, pools, choices, last = jax.random.split(jax.random.key(case.seed), 4)

  def outputs(params: Any, x: Any, perturb: Any = None) -> Any:
    return net.apply({'params': params}, x, perturb=perturb)

  def loss(params: Any, batch: Any, perturb: Any = None) -> jax.Array:
    return task.losses(outputs(params, batch.x, perturb), batch.y)

  def step(carry: Any, at: jax.Array) -> Any:
    params, state, kept = carry
    pool = task.sample(jax.random.fold_in(pools, at), setting.pool)
    ends = tuple(jnp.where(case.auto, learned, given) for learned, given in (
        (kept.low, case.low), (kept.high, case.high)))
    _, slope, choice = example_choice.gradient(
        loss, params, pool, jax.random.fold_in(choices, at), sampling,
        lambda count: net.perturb_shape(task.steps, count),
        ends=(ends[0], ends[1]))
    _, kept = learner.update(slope, kept, params, long_term_log_norm=choice.q)
    updates, state = tx.update(slope, state, params)
    acted = (choice.kept != jnp.arange(setting.size)).any()
    return (optax.apply_updates(params, updates), state, kept), (
        choice.q, acted)

  first = jax.eval_shape(lambda: task.sample(jax.random.key(0), 1)).x
  params = net.init(start, jnp.zeros(first.shape, first.dtype))['params']
  begin: Any = params, tx.init(params), learner.init(params)
  (params, *_), (q, acted) = lax.scan(
      step, begin, jnp.arange(setting.steps, dtype=jnp.int32))
  test = task.sample(last, setting.held_out)
  right = task.right(outputs(params, test.x), test.y)
  quarter = setting.steps // 4
  looked = [q[max(i * quarter - 20, 0):i * quarter].mean()
            for i in range(1, 5)]
  return Found(right.mean(dtype=jnp.float32), jnp.stack(looked),
               acted.mean(dtype=jnp.float32))


@functools.cache
def compiled(setting: Setting) -> Any:
  """Runs stacked cases one after another: a step is scored where it must be."""
  return jax.jit(lambda cases: lax.map(
      lambda case: trial(setting, case), cases))
