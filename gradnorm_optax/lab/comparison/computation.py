"""What a comparison computes: the same here and on the worker of a cluster."""

import functools
from collections.abc import Callable
from typing import Any

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison import forward_timing, timing
from gradnorm_optax.lab.comparison.missing import Call
from gradnorm_optax.lab.comparison.model_programs import Bench, Outcome
from gradnorm_optax.lab.data.dataset import Dataset
from gradnorm_optax.lab.methods import search_space
from gradnorm_optax.lab.methods.search_space import Point
from gradnorm_optax.lab.results import grids, step_cost
from gradnorm_optax.lab.results.look import instants
from gradnorm_optax.lab.results.trials import FRESH, Pair
from gradnorm_optax.lab.training import diagnosis, looks
from gradnorm_optax.lab.training.forward import forward


class Computation:
  """The models of a comparison on its data; knows nothing of its folder."""

  def __init__(self, config: schema.Config, dataset: Dataset, batch: int):
    """Takes the data; `batch` trials share a call where it exceeds 1."""
    self.config, self.dataset, self.batch = config, dataset, batch

  @functools.cached_property
  def benches(self) -> dict[str, Bench]:
    """The models on their data."""
    return {name: Bench(model, self.dataset, self.config.train, self.batch)
            for name, model in self.config.models.items()}

  def trials(self, call: Call) -> list[Outcome]:
    """Runs one call; fresh runs read the test part."""
    early = grids.early(self.config) if call.phase == 'early' else None
    method, train = search_space.at(
        self.config, call.pair.method, call.points[0])
    return self.benches[call.pair.model].run(
        method, [point.rate for point in call.points], call.seeds,
        test=call.phase == 'final', evaluations=early, train=train)

  def look(self, pair: Pair, point: Point) -> dict[str, Any]:
    """Trains once more, and sees what a method does to every block."""
    config, bench = self.config, self.benches[pair.model]
    method, train = search_space.at(config, pair.method, point)
    return looks.fresh(
        bench.problem, train, *pair, method, rate=point.rate, seed=FRESH,
        marks=instants(config.train.steps, config.compare.look),
        start=bench.alone.start(FRESH), watch=schema.Watch()).record()

  def fault(self, pair: Pair, point: Point, seed: int, evaluations: int) -> str:
    """Says where a run went bad, after so many finite evaluations."""
    method, train = search_space.at(self.config, pair.method, point)
    return diagnosis.of_trial(
        self.benches[pair.model].problem, method, train, point.rate, seed,
        evaluations * train.eval_every)

  def rounds(self, model: str, allowed: float,
             tick: Callable[[], None] = lambda: None) -> step_cost.Rounds:
    """Times the steps of a model's methods, in so many seconds at most."""
    bench = self.benches[model].alone
    rate = grids.least(self.config)
    return timing.rounds(
        {name: functools.partial(bench.time, table, rate)
         for name, table in step_cost.programs(self.config, model).items()},
        bench.per_epoch, self.config.compare.timing_rounds, allowed, tick)

  def passes(self, model: str) -> list[dict[str, Any]]:
    """Times the forward pass of a model and reads what memory it takes."""
    bench = self.benches[model].alone
    problem = bench.problem
    return [one._asdict() for one in forward_timing.measure(
        forward(problem, *bench.start(FRESH)), problem.dataset.test)]
