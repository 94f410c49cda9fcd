"""Whether a run may go on for more steps than it was begun with."""

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods.schedules import schedule

# What may differ, as long as the rates of the steps that were planned do not.
FREE = {'train.steps', 'train.warmup', 'train.decay_at'}


def refusal(was: schema.Train, now: schema.Train) -> str | None:
  """Says why a run of `was` is not the beginning of one of `now`.

  It is where every step that was planned has the same learning rate in both:
  with a constant rate, with a warm-up of as many steps, with steps down at the
  same places. All else about them is equal but `FREE`.

  Returns:
    The keys that differ, why that matters, and a mend if there is one; None
    where the run may go on.

  >>> from gradnorm_optax.lab.schema import Train
  >>> refusal(Train(steps=100), Train(steps=200))
  >>> refusal(Train(steps=100, schedule='cosine'),
  ...         Train(steps=200, schedule='cosine'))
  'train.steps: 100 there, 200 here, and under schedule = "cosine" step 2 ...'
  """
  steps = f'train.steps: {was.steps} there, {now.steps} here'
  if now.steps < was.steps:
    return f'{steps}; a run can be made longer, not shorter'
  first = _differ(was, now)
  if first is None:
    return None
  cause = (f'schedule = "{now.schedule}"' if now.schedule != 'constant'
           else 'warmup')
  return (f'{steps}, and under {cause} step {first + 1} would have had another '
          f'learning rate{_mend(was, now)}')


def _differ(was: schema.Train, now: schema.Train) -> int | None:
  """The first planned step whose rate is another; None if none is."""
  rates = []
  for train in (was, now):
    shape = schedule(train, 1.0)
    every = np.arange(was.steps, dtype=np.float32)
    rates.append(np.asarray(shape(every)) if callable(shape) else np.full(
        was.steps, shape, np.float32))
  other = np.flatnonzero(rates[0] != rates[1])
  return int(other[0]) if len(other) else None


def _mend(was: schema.Train, now: schema.Train) -> str:
  """The same numbers of steps, as shares of the longer run; '' if no help."""
  ratio = was.steps / now.steps
  shares: dict[str, object] = {}
  if was.warmup:
    shares['warmup'] = float(f'{was.warmup * ratio:.9g}')
  if now.schedule == 'step':
    shares['decay_at'] = [float(f'{at * ratio:.9g}') for at in was.decay_at]
  if not shares or _differ(was, now.model_copy(update=shares)) is not None:
    return ''
  return '; as many steps as before are ' + ' '.join(
      f"--set 'train.{key}={value}'" for key, value in shares.items())
