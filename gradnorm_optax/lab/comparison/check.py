"""`gradnorm check`: finds all mistakes, and tells what a comparison needs."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison import preflight, timing
from gradnorm_optax.lab.comparison.parallelism import placement
from gradnorm_optax.lab.comparison.schedule import SHARE
from gradnorm_optax.lab.comparison.time_budget import REPORT
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.methods import chain
from gradnorm_optax.lab.methods.schedules import schedule
from gradnorm_optax.lab.reporting import plan as page
from gradnorm_optax.lab.results import grids, step_cost
from gradnorm_optax.lab.results.plan import Plan, Planned, Speed
from gradnorm_optax.lab.results.trials import Pair
from gradnorm_optax.lab.training import output_check, steps
from gradnorm_optax.lab.training.marginal import marginal
from gradnorm_optax.lab.training.problem import Problem


class Checked(NamedTuple):
  """A configuration without mistakes.

  Attributes:
    plan: What its comparison will do and need.
  """

  plan: Plan

  def table(self) -> Any:
    """The plan, as rich shows it on a terminal."""
    return page.render(self.plan)


def run(config: schema.Config, measure: bool = True) -> Checked:
  """Reads the data, builds every model and method; writes nothing.

  Args:
    config: What is to be compared.
    measure: Also compile one method of every model and time its steps.

  Raises:
    LabError: All mistakes that were found, a line for each.
  """
  dataset = sources.load(config.data, config.train)
  found = preflight.look(config, dataset, whole=True)
  compare, train = config.compare, config.train
  workers, together = placement(
      compare, compare.tried * compare.tune_seeds)
  speeds = tuple(
      _measured(name, problem, config) for name, problem in (
          found.problems.items() if measure else ()))
  planned = tuple(_planned(config, pair, found) for pair in found.states)
  plan = Plan(
      config.title or config.name, dataset.description, planned,
      _bytes(dataset[:3]), train.steps, train.steps // train.eval_every,
      workers, together, speeds, grids.share(config),
      len(planned) * bool(compare.look),
      points=compare.tried if compare.search else None)
  return Checked(plan._replace(
      timing=_timing(config, plan), report=REPORT) if speeds else plan)


def _timing(config: schema.Config, plan: Plan) -> float:
  """Seconds of measuring what steps cost: rounds, but no more than a share."""
  def of(rounds: int) -> float:  # each a short call and one that lasts
    return sum(len(step_cost.programs(config, one.model)) * (rounds + 4) * (
        2 * one.step + 2 * timing.LONG) for one in plan.speeds)
  return max(of(timing.LEAST), min(
      of(config.compare.timing_rounds), SHARE / (1 - SHARE) * plan.seconds))


def _planned(config: schema.Config, pair: Pair,
             found: preflight.Sound) -> Planned:
  """One row of the plan."""
  state = found.states[pair]
  counts = grids.counts(config)
  params, extra = jax.eval_shape(found.problems[pair.model].init, 0)
  scopes = found.scopes[pair.model][pair.method]
  return Planned(
      *pair, tuple(scope.text() for scope in scopes),
      any(scope.partial for scope in scopes),
      counts.whole,
      sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)),
      _bytes((params, extra)), _bytes(state.opt_state), counts.short,
      counts.added, len({point.settings for point in grids.first(
          config, pair.method)}))


def _bytes(tree: Any) -> int:
  """The size of a tree of arrays or shapes."""
  return sum(math.prod(leaf.shape) * leaf.dtype.itemsize
             for leaf in jax.tree.leaves(tree))


def _measured(name: str, problem: Problem, config: schema.Config) -> Speed:
  """Compiles one method of a model, and times its steps."""
  method = next(iter(config.methods_on(name)))
  train, parts = config.train, jax.device_put(problem.dataset[:2])
  built = chain.build(
      config.methods[method], schedule(
          train, grids.least(config)), problem.context)
  params, extra = jax.jit(problem.init)(0)
  output_check.check(problem, train, params, extra)
  state = jax.jit(lambda params, extra: steps.start(
      problem, built, params, extra))(params, extra)

  def walk(state: steps.State, examples: Any, count: jax.Array) -> steps.State:
    return lax.fori_loop(0, count, lambda _, state: steps.step(
        problem, built, train, examples, 0, state)[0], state)

  began = time.perf_counter()
  walked = jax.jit(walk).lower(state, parts[0], 0).compile()
  judged = jax.jit(problem.evaluate).lower(params, extra, parts[1]).compile()
  compiling = time.perf_counter() - began
  evaluation = min(_seconds(lambda: judged(params, extra, parts[1]))
                   for _ in range(3))
  return Speed(name, method, marginal(
      lambda count: _seconds(lambda: walked(state, parts[0], count))),
               evaluation, compiling)


def _seconds(call: Callable[[], Any]) -> float:
  """The time of a call, until its result is there."""
  began = time.perf_counter()
  jax.block_until_ready(call())
  return time.perf_counter() - began
