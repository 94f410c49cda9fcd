"""What a comparison still needs: calls, programs, looks and timings."""

from collections.abc import Iterator
from typing import NamedTuple

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import search_space
from gradnorm_optax.lab.methods.search_space import Point
from gradnorm_optax.lab.results import forward_cost, step_cost
from gradnorm_optax.lab.results.trials import Pair, Trials


class Call(NamedTuple):
  """The trials of one call of a compiled program.

  Their points differ in nothing but the rate, which is an argument of it.
  """

  phase: str
  pair: Pair
  points: tuple[Point, ...]
  seeds: tuple[int, ...]


class Job(NamedTuple):
  """A program to be compiled.

  Attributes:
    model: Whose.
    method: Of which method.
    train: How it trains.
    where: What a message calls it.
    timed: Whether it is compiled to be timed, for one trial in a call.
  """

  model: str
  method: schema.Method
  train: schema.Train
  where: str
  timed: bool


def calls(trials: Trials, phase: str, batch: int) -> Iterator[Call]:
  """The calls that a phase still needs, the slowest models first.

  Args:
    trials: Those that are finished.
    phase: `early`, `tune` or `final`.
    batch: How many trials share a call.
  """
  asked: set[str] = set()
  for model in reversed(list(trials.config.models)):
    for method in trials.config.methods_on(model):
      pair = Pair(model, method)
      todo: dict[schema.Settings, list[tuple[Point, int]]] = {}
      for point, seed in trials.missing(phase, pair):
        key = trials.key(phase, pair, point, seed)
        if key not in asked:  # of equal methods one is run
          asked.add(key)
          todo.setdefault(point.settings, []).append((point, seed))
      for some in todo.values():
        for at in range(0, len(some), batch):
          points, seeds = zip(*some[at:at + batch], strict=True)
          yield Call(phase, pair, points, seeds)


def final(trials: Trials, pair: Pair) -> int:
  """How many fresh runs a pair still needs; all as long as tuning goes on."""
  return len(trials.seeds('final') if trials.missing('tune', pair)
             else trials.missing('final', pair))


def jobs(trials: Trials) -> list[Job]:
  """The programs that are still needed, those of the slowest models first."""
  found = []
  for model in reversed(list(trials.config.models)):
    for name in trials.config.methods_on(model):
      pair = Pair(model, name)
      needed = trials.missing('tune', pair) or trials.missing('final', pair)
      # One program for all rates.
      for point in {point.settings: point for point, _ in needed}.values():
        found.append(Job(
            model, *search_space.at(trials.config, name, point),
            f'[methods.{name}] on [models.{model}]', timed=False))
  for model in untimed(trials):
    found += [Job(model, table, trials.config.train,
                  f'{name} on [models.{model}]', timed=True)
              for name, table in step_cost.programs(
                  trials.config, model).items()]
  return found


def looks(trials: Trials) -> list[Pair]:
  """The pairs whose blocks are still to be looked at."""
  if not trials.config.compare.look:
    return []
  return [pair for pair in trials.pairs() if trials.missing('tune', pair)
          or trials.look_key(pair) not in trials.records]


def faults(trials: Trials) -> list[Pair]:
  """The pairs of which no run stayed finite, and nobody looked why."""
  return [pair for pair in trials.pairs() if trials.lost(pair)
          and trials.fault_key(pair) not in trials.records]


def unserved(trials: Trials) -> list[str]:
  """The models whose forward passes are not measured yet."""
  return [model for model in trials.config.models
          if forward_cost.key(trials, model) not in trials.records]


def untimed(trials: Trials) -> list[str]:
  """The models whose steps are not timed yet."""
  return [model for model in trials.config.models
          if step_cost.key(trials, model) not in trials.records]
