"""Learning-rate schedules with a traced peak rate."""

from typing import Any

import jax.numpy as jnp
import optax

from gradnorm_optax.lab import schema


def schedule(train: schema.Train, peak: Any) -> Any:
  """Shapes the learning rate over a run.

  Args:
    train: Gives `schedule`, `warmup` (a share of the steps, linear from 0),
      `decay_at` and `decay_factor` ("step"; "linear" falls to 0 from the first
      of `decay_at` on) and the number of steps.
    peak: The highest rate, a number or a traced scalar.

  Returns:
    `peak` itself for a constant rate without warm-up, otherwise a function of
    the step.

  >>> train = schema.Train(steps=100, schedule='step')
  >>> rate = schedule(train, 1.0)
  >>> [round(float(rate(step)), 3) for step in (0, 49, 50, 75)]
  [1.0, 1.0, 0.1, 0.01]
  """
  warm = round(train.warmup * train.steps)
  if train.schedule == 'constant' and not warm:
    return peak
  shape = _shape(train, warm)

  def rate(step: Any) -> Any:
    step = jnp.asarray(step, jnp.float32)
    share = jnp.asarray(shape(step), jnp.float32)
    # optax's begins at 0, and would waste the first step.
    return peak * (jnp.where(step < warm, (step + 1) / warm, share)
                   if warm else share)

  return rate


def _shape(train: schema.Train, warm: int) -> optax.Schedule:
  """The share of the peak at a step, warm-up left aside."""
  marks = sorted(round(share * train.steps) for share in train.decay_at)
  if train.schedule == 'step':
    factors: dict[int, float] = {}
    for mark in marks:  # two shares of a few steps may be one
      factors[mark] = factors.get(mark, 1.0) * train.decay_factor
    return optax.piecewise_constant_schedule(1.0, factors)
  if train.schedule == 'linear':
    return optax.linear_schedule(
        1.0, 0.0, max(train.steps - marks[0], 1), marks[0])
  if train.schedule == 'cosine':
    decay = optax.cosine_decay_schedule(1.0, max(train.steps - warm, 1))
    return lambda step: decay(step - warm)
  return optax.constant_schedule(1.0)
