"""What can be found wrong with a comparison before anything is compiled."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison import refusals
from gradnorm_optax.lab.data.dataset import Dataset
from gradnorm_optax.lab.methods import chain, search_space
from gradnorm_optax.lab.objective.quality import Measure
from gradnorm_optax.lab.results import grids
from gradnorm_optax.lab.results.trials import Pair
from gradnorm_optax.lab.support.errors import LabError, lines
from gradnorm_optax.lab.training import make_problem, steps
from gradnorm_optax.lab.training.problem import Problem
from gradnorm_optax.lab.training.watcher import Watcher


class Sound(NamedTuple):
  """What nothing was found wrong with.

  Attributes:
    problems: {model: the model on its data}.
    scopes: {model: {method: what its parts act on}}.
    states: {pair: shapes of what a run holds}, where they were asked for.
  """

  problems: dict[str, Problem]
  scopes: refusals.Scopes
  states: dict[Pair, steps.State]


def look(config: schema.Config, dataset: Dataset,
         whole: bool = False) -> Sound:
  """Traces models and methods on the examples; compiles nothing.

  Args:
    config: What is to be compared.
    dataset: Its examples.
    whole: Also trace a whole step of every method on every model.

  Raises:
    LabError: All that was found wrong, a line for each.
  """
  found = _target(config, dataset.objective.measure) + _unknown(config)
  problems: dict[str, Problem] = {}
  for name, model in config.models.items():
    problem = _kept(
        functools.partial(_joined, model, dataset, config.train),
        f'[models.{name}] ', found)
    if problem is not None:
      problems[name] = problem
  scopes, refused = refusals.look(config, problems)
  found += refused
  if config.compare.search is not None:
    found += _searched(config, problems, scopes)
  states: dict[Pair, steps.State] = {}
  for pair in _pairs(scopes) if whole else ():
    method = config.methods[pair.method]
    state = _kept(
        functools.partial(_state, problems[pair.model], method, config.train),
        f'[methods.{pair.method}] on [models.{pair.model}]: ', found)
    if state is not None:
      states[pair] = state
  if whole:
    found += _watch(config, problems)
  if found:
    raise LabError('\n'.join(found))
  return Sound(problems, scopes, states)


def _target(config: schema.Config, measure: Measure) -> list[str]:
  """A share above 1 is never reached."""
  target = config.compare.target
  if not measure.unit or target is None or target <= 1:
    return []
  return [f'[compare] target: {target:g} is above 1, the best {measure.name}; '
          f'write a share, such as {target / 100 if target <= 100 else 0.9:g}']


def _unknown(config: schema.Config) -> list[str]:
  """What is searched, and no method has."""
  every = {key for name in config.methods for key in config.choices(name)}
  return [f'[compare.search] {key}: no method has it' for key in sorted(every)
          if all(key in search_space.unknown(config, name)
                 or key not in config.choices(name)
                 for name in config.methods)]


def _searched(config: schema.Config, problems: dict[str, Problem],
              scopes: refusals.Scopes) -> Iterator[str]:
  """What an optimizer refuses of its points, on the first of its models."""
  seen: set[str] = set()
  for model, name in _pairs(scopes):
    if name in seen:
      continue
    seen.add(name)
    problem = problems[model]
    points = {point.settings: point for point in grids.first(config, name)}
    for settings, point in points.items():
      why = chain.refusal(search_space.at(config, name, point)[0],
                          problem.context, problem.init)
      if why is not None:
        yield (f'[methods.{name}] at {search_space.told(settings)} of the '
               f'search: {why}')
        break


def _pairs(scopes: refusals.Scopes) -> list[Pair]:
  return [Pair(model, method) for model in scopes for method in scopes[model]]


def _watch(config: schema.Config, problems: dict[str, Problem]) -> list[str]:
  """What `gradnorm train` would find wrong with `[run.watch]`."""
  problem = problems.get(config.run.model or next(iter(config.models)))
  found: list[str] = []
  if problem is not None and config.run.watch.every:
    _kept(lambda: jax.eval_shape(lambda: Watcher(
        problem, config.run.watch).start(problem.init(0)[0])), '', found)
  return found


def _kept(make: Callable[[], Any], where: str, found: list[str]) -> Any:
  """What `make` gives; None if it complains, and then `found` says so."""
  try:
    return make()
  except LabError as error:
    found += [where + line.removeprefix('[models] ') for line in lines(error)]
  return None


def _joined(model: schema.Model, dataset: Dataset,
            train: schema.Train) -> Problem:
  """Joins a model with the data, and traces its answers."""
  problem = make_problem.join(model, dataset, train.dtype)
  jax.eval_shape(problem.evaluate, *jax.eval_shape(problem.init, 0),
                 dataset.validation)
  return problem


def _state(problem: Problem, method: schema.Method,
           train: schema.Train) -> steps.State:
  """Traces a step from the start; gives the shapes of what a run holds."""
  built = chain.build(method, 1e-3, problem.context)
  state: steps.State = jax.eval_shape(lambda: steps.start(
      problem, built, *problem.init(0)))
  jax.eval_shape(lambda state, examples: steps.step(
      problem, built, train, examples, 0, state)[0],
                 state, problem.dataset.train)
  return state
