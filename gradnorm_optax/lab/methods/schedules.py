"""Learning-rate schedules with a traced peak rate."""

from typing import Any

import jax.numpy as jnp

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
  marks = sorted(round(share * train.steps) for share in train.decay_at)

  def rate(step: Any) -> Any:
    step = jnp.asarray(step, jnp.float32)
    shape = jnp.float32(1.0)
    if train.schedule == 'step':
      for mark in marks:
        shape *= jnp.where(step >= mark, train.decay_factor, 1.0)
    elif train.schedule == 'linear':
      left = (train.steps - step) / max(train.steps - marks[0], 1)
      shape = jnp.clip(left, 0.0, 1.0)
    elif train.schedule == 'cosine':
      part = (step - warm) / max(train.steps - warm, 1)
      shape = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(part, 0.0, 1.0)))
    if warm:
      shape = jnp.where(step < warm, (step + 1) / warm, shape)
    return peak * shape

  return rate
