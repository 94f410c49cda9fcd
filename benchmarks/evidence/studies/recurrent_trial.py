"""One training run of a recurrent net on examples that a rule chooses."""

import functools
from typing import Any, NamedTuple

import jax
import optax
from jax import lax, numpy as jnp

from gradnorm_optax import sgr
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import long_dependency
from gradnorm_optax.lab.methods import example_choice
from gradnorm_optax.lab.models import recurrent

WITHIN = (-2.5, 1.0)  # a learned range is kept in, as in the lab


class Setting(NamedTuple):
  """A task, a start, a rule and a length of training."""

  task: str
  length: int
  scale: float              # of the orthogonal start, a step
  steps: int
  width: int = 50
  pool: int = 100
  size: int = 20
  rule: str = 'random'
  low: Any = -2.5
  high: Any = 1.0
  horizon: float = 0.9
  held_out: int = 1000

  def sampling(self) -> schema.Sampling:
    """The lab's table of the rule."""
    if self.rule == 'random':
      return schema.Sampling(rule='random', size=self.size)
    return schema.Sampling(rule='sgr', size=self.size, low=self.low,
                           high=self.high, horizon=self.horizon)


class Found(NamedTuple):
  """What a run ended with.

  Attributes:
    right: Share of `held_out` fresh sequences that are right.
    q: The long-term log norm, mean over the last hundredth of the steps; of
      "random" NaN.
    acted: Share of the steps whose examples the rule changed.
  """

  right: jax.Array
  q: jax.Array
  acted: jax.Array


def trial(setting: Setting, rate: jax.Array, seed: jax.Array) -> Found:
  """Trains one net with momentum 0.9 and the global norm clipped at 1."""
  task = long_dependency.make(setting.task, setting.length)
  net = recurrent.Recurrent(
      task.outputs, task.inputs, setting.width, start='orthogonal',
      scale=setting.scale, readout=task.readout)
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate, 0.9))
  sampling = setting.sampling()
  learner = sgr.learn_range(
      sampling.low, sampling.high, within=WITHIN)
  # The same starts and pools for all rules.
  start, pools, choices, last = jax.random.split(jax.random.key(seed), 4)

  def outputs(params: Any, x: Any, perturb: Any = None) -> Any:
    return net.apply({'params': params}, x, perturb=perturb)

  def loss(params: Any, batch: Any, perturb: Any = None) -> jax.Array:
    return task.losses(outputs(params, batch.x, perturb), batch.y)

  def step(carry: Any, at: jax.Array) -> Any:
    params, state, kept = carry
    pool = task.sample(jax.random.fold_in(pools, at), setting.pool)
    _, slope, choice = example_choice.gradient(
        loss, params, pool, jax.random.fold_in(choices, at), sampling,
        functools.partial(net.perturb_shape, task.steps),
        ends=(kept.low, kept.high))
    _, kept = learner.update(
        slope, kept, params, long_term_log_norm=choice.q)
    updates, state = tx.update(slope, state, params)
    acted = (choice.kept != jnp.arange(setting.size)).any()
    return (optax.apply_updates(params, updates), state, kept), (
        choice.q, acted)

  empty = jnp.zeros((1, task.steps), jnp.int32) if not task.regression else (
      jnp.zeros((1, task.steps, task.inputs)))
  params = net.init(start, empty)['params']
  (params, *_), (q, acted) = lax.scan(
      step, (params, tx.init(params), learner.init(params)),
      jnp.arange(setting.steps, dtype=jnp.int32))
  tested = task.evaluate(lambda x: outputs(params, x),
                         task.sample(last, setting.held_out))
  recent = q[-max(setting.steps // 100, 1):]
  return Found(tested['accuracy'], recent.mean(), acted.mean())


@functools.cache
def compiled(setting: Setting) -> Any:
  """Runs (rates, seeds), one after another: where one is scored, one is."""
  return jax.jit(lambda rates, seeds: lax.map(
      lambda pair: trial(setting, *pair), (rates, seeds)))
