"""Finds out which step and which block went bad first."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.dataset import Split
from gradnorm_optax.lab.methods import chain
from gradnorm_optax.lab.methods.schedules import schedule
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import steps as steps_lib
from gradnorm_optax.lab.training.block_norms import norms
from gradnorm_optax.lab.training.problem import Problem


class Diverged(LabError):
  """A run whose loss or gradient is no number; exit code 3."""

  code = 3
  agreed = True  # the figures are the same in all processes


def diagnose(problem: Problem, built: chain.Built, runner: Any,
             examples: Split, state: steps_lib.State,
             steps: int, jit: Callable[..., Any] = jax.jit) -> Diverged:
  """Walks again from the last good state, one step at a time.

  Args:
    problem: What is trained.
    built: How.
    runner: `runner(state, examples) -> (state, figures)`, one training step.
    examples: The training part, an argument lest it be copied into a program.
    state: The state before the bad stretch.
    steps: How long the stretch is.
    jit: Compiles for the devices of the state.

  Returns:
    An error that names the first bad step and block, and the mend.
  """
  @jit
  def look(state: steps_lib.State, after: steps_lib.State) -> Any:
    moved = optax.tree.sub(
        built.unwrap(after.params), built.unwrap(state.params))
    return (norms(problem, built.unwrap(after.params)),
            norms(problem, moved))

  one = jax.jit(runner)
  last = ''
  for _ in range(steps):
    after, figures = one(state, examples)
    sizes, moves = look(state, after)
    bad = _bad(sizes)
    if bad or not jnp.isfinite(figures.loss):
      # The figures are those of the parameters before the step.
      if not state.step and not jnp.isfinite(figures.loss):
        first = _bad(norms(problem, built.unwrap(state.params)))
        mend = (f'No step was taken before, and {first} not finite then: look '
                'at the initialization' if first else
                'No step was taken before: look at the data and the loss')
      else:
        mend = ('Lower the learning rate, set clip, normalize, or '
                'run.non_finite = "skip"')
      return Diverged(
          f'step {int(after.step)}: {bad or "the loss is"} not finite any more '
          f'(loss {float(figures.loss):.3g}, gradient norm '
          f'{float(figures.gradient):.3g}){last}. {mend}')
    name, size = max(_flat(moves), key=lambda item: item[1])
    last = f'; the step before moved {name} most, by {size:.3g}'
    state = after
  return Diverged(f'a loss near step {int(state.step)} was not finite, but '
                  'not when its steps were taken again')


def of_trial(problem: Problem, method: schema.Method, train: schema.Train,
             rate: float, seed: int, steps: int) -> str:
  """Says where a trial of a comparison went bad, and how to mend it.

  Args:
    problem: What was trained.
    method: How.
    train: How.
    rate: The learning rate.
    seed: Of the trial.
    steps: After how many steps it was still finite.
  """
  built = chain.build(method, schedule(train, rate), problem.context)
  examples = jax.device_put(problem.dataset.train)

  def one(state: steps_lib.State, examples: Split) -> Any:
    return steps_lib.step(problem, built, train, examples, seed, state)

  @jax.jit
  def reached(count: jax.Array, examples: Split) -> steps_lib.State:
    state = steps_lib.start(problem, built, *problem.init(seed))
    return lax.fori_loop(
        0, count, lambda _, state: one(state, examples)[0], state)

  state = reached(jnp.int32(steps), examples)
  return str(diagnose(
      problem, built, one, examples, state, train.eval_every))


def check_skips(before: steps_lib.State, figures: steps_lib.Figures,
                most: int) -> None:
  """Raises `Diverged` where too many steps in a row had to be skipped.

  Args:
    before: The state before the steps.
    figures: Theirs, stacked.
    most: `run.max_skips`.
  """
  over = np.flatnonzero(np.asarray(figures.skipped) >= most)
  if len(over):
    count = int(figures.skipped[over[0]])
    raise Diverged(
        f'step {int(before.step) + over[0] + 1}: the last {count} '
        f'gradient{"s were" if count > 1 else " was"} not finite '
        f'and were skipped (run.max_skips = {most}). Lower the learning rate, '
        'set clip or normalize')


def _flat(norms: dict[str, Any]) -> list[tuple[str, float]]:
  """All norms with the names of their blocks, stacks by index."""
  found = []
  for name, norm in norms.items():
    values = jnp.ravel(norm)
    for index, value in enumerate(values):
      label = f'{name}[{index}]' if len(values) > 1 else name
      found.append((label, float(value)))
  return found


def _bad(norms: dict[str, Any]) -> str:
  """Names the first block whose norm is not finite; '' if there is none.

  >>> _bad({'a': 1.0, 'b': math.inf, 'c': math.nan}), _bad({'a': 1.0})
  ('block b, with 1 more, is', '')
  """
  blocks = _flat(norms)
  bad = [name for name, value in blocks if not math.isfinite(value)]
  if not bad:
    return ''
  # A loss that is no number spoils all at once: the first is then no culprit.
  others = ('' if len(bad) == 1 else ', as all others,'
            if len(bad) == len(blocks) else f', with {len(bad) - 1} more,')
  return f'block {bad[0]}{others} is'
