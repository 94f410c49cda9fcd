"""The trials of a comparison: which there are, and what the finished ones say.

First every method's learning rate, and what else is searched, is chosen on the
tuning seeds, by validation score: where `compare.halving` says so after the
first steps alone of all points (`early`), then over all steps of those that go
on (`tune`). Then fresh seeds, the same for all methods, are run at the chosen
one (`final`). Only these read the test part, and by it they are judged: its
examples chose nothing.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import search_space
from gradnorm_optax.lab.methods.search_space import Point
from gradnorm_optax.lab.objective import evidence
from gradnorm_optax.lab.results import grids, stats
from gradnorm_optax.lab.results.findings import Profiles, Run
from gradnorm_optax.lab.results.judging import Answers
from gradnorm_optax.lab.results.look import Look
from gradnorm_optax.lab.results.made_with import Basis
from gradnorm_optax.lab.results.store import fingerprint
from gradnorm_optax.lab.support import packed

# Fresh seeds never coincide with tuning seeds, whatever the configuration.
FRESH = 1000
PHASES = ('early', 'tune', 'final')


class Pair(NamedTuple):
  """A model and a method that is run on it."""

  model: str
  method: str


class Trials:
  """Answers from the records of a run folder, without data and models.

  Attributes:
    records: {fingerprint: record}, those that come later included.
    config: What is compared.
    basis: What the trials rest on besides.
  """

  def __init__(self, records: Mapping[str, dict[str, Any]],
               config: schema.Config, basis: Basis):
    """Takes the records as they are; writes nothing."""
    self.records, self.config, self.basis = records, config, basis
    self._bases: dict[tuple[Pair, schema.Settings], str] = {}
    self._grids: dict[str, dict[str, grids.Grid]] = {}  # by model, so far
    self._asked: dict[str, grids.Grid] = {}  # by method, as configured
    self._settled: set[str] = set()  # models whose grids widen no more

  @property
  def target(self) -> float:
    """The validation score to reach; infinite where there is none."""
    given = self.config.compare.target
    if given is not None:
      return given
    return 0.9 if self.basis.measure.unit else math.inf

  @property
  def per_epoch(self) -> float:
    """Steps of an epoch; NaN of a folder that does not tell."""
    examples = self.basis.examples
    return (float(self.config.train.per_epoch(examples)) if examples
            else math.nan)

  def pairs(self) -> list[Pair]:
    """All models with their methods."""
    return [Pair(model, method) for model in self.config.models
            for method in self.config.methods_on(model)]

  def points(self, pair: Pair) -> grids.Grid:
    """What a pair searches; a grid as far as tuning has widened it.

    As often as `compare.extend` allows, once all tuning is finished: where a
    best rate of the model lies on the edge of its grid, and that method is
    better than guessing, the grids of all methods of the model widen by one.
    """
    model = pair.model
    found = self._grids.setdefault(model, {
        method: self._first(method)
        for method in self.config.methods_on(model)})
    pairs = [Pair(model, method) for method in found]
    added = len(found[pair.method]) - len(self._first(pair.method))
    if model in self._settled or added >= self.config.compare.extend or any(
        self._missing('tune', one, found[one.method]) for one in pairs):
      return found[pair.method]
    best = {one: self._best(one, found[one.method]) for one in pairs}
    if not any(grids.at_edge(found[one.method], point)
               and self._trains(self.runs('tune', one, point))
               for one, point in best.items()):
      self._settled.add(model)
      return found[pair.method]
    self._grids[model] = {
        one.method: grids.wider(found[one.method], point)
        for one, point in best.items()}
    return self.points(pair)

  def _first(self, method: str) -> grids.Grid:
    if method not in self._asked:
      self._asked[method] = grids.first(self.config, method)
    return self._asked[method]

  def lasting(self, pair: Pair) -> grids.Grid:
    """Those that are run over all steps; all, until that is known."""
    return self._lasting(pair, self.points(pair))

  def _lasting(self, pair: Pair, grid: grids.Grid) -> grids.Grid:
    if not self.config.compare.halving or self.missing('early', pair):
      return grid
    tried = self._first(pair.method)
    runs = {point: self.runs('early', pair, point) for point in tried}
    kept = grids.better_half(
        tried, lambda point: sum(run.score for run in runs[point]),
        lambda point: self._merit(pair, point, tried, runs[point]),
        lambda point: all(run.diverged for run in runs[point]),
        lambda point: self._trains(runs[point]))
    # Those that came with a wider grid lie beside its best.
    return kept + grid[len(tried):]

  def seeds(self, phase: str) -> range:
    """The seeds of a phase, `early`, `tune` or `final`."""
    compare = self.config.compare
    if phase == 'final':
      return range(FRESH, FRESH + compare.seeds)
    return range(compare.tune_seeds)

  def planned(self, phase: str) -> int:
    """How many trials a phase has, finished or not."""
    return len(self.seeds(phase)) * sum(
        len(self.tried(phase, pair)) for pair in self.pairs())

  def count(self) -> tuple[int, int]:
    """How many trials are finished, and how many there are so far."""
    planned = sum(self.planned(phase) for phase in PHASES)
    lost = sum(len(self.missing(phase, pair)) for phase in PHASES
               for pair in self.pairs())
    return planned - lost, planned

  def key(self, phase: str, pair: Pair, point: Point, seed: int) -> str:
    """The fingerprint of a trial."""
    if phase == 'early':  # of which steps, whatever rule asks for them
      steps = grids.early(self.config) * self.config.train.eval_every
      phase = f'tune, the first {steps} steps'
    return fingerprint(phase=phase, rate=point.rate, seed=seed,
                       pair=self._basis_of(pair, point))

  def _basis_of(self, pair: Pair, point: Point) -> str:
    """The fingerprint of what the trials of a pair share, the rate aside.

    What is searched stands in the tables, as if it had been written there.
    """
    asked = pair, point.settings
    if asked not in self._bases:
      method, train = search_space.at(self.config, pair.method, point)
      self._bases[asked] = fingerprint(
          data=self.basis.data, own=self.basis.user_code(*pair),
          model=self.config.models[pair.model].model_dump(),
          method=method.alone.model_dump(), train=train.model_dump(),
          code=self.basis.code, versions=self.basis.versions,
          arithmetic=self.basis.arithmetic, together=self.basis.together)
    return self._bases[asked]

  def missing(self, phase: str, pair: Pair) -> list[tuple[Point, int]]:
    """Points and seeds that are not finished."""
    return self._missing(phase, pair, (
        () if phase == 'early' else self.points(pair)))

  def _missing(self, phase: str, pair: Pair,
               grid: grids.Grid) -> list[tuple[Point, int]]:
    return [(point, seed) for point, seed in itertools.product(
        self.tried(phase, pair, grid), self.seeds(phase))
            if self._record(phase, pair, point, seed) is None]

  def tried(self, phase: str, pair: Pair,
            grid: grids.Grid | None = None) -> grids.Grid:
    """The points at which a phase trains, of a grid or of the present one."""
    if phase == 'early':
      return self._first(pair.method) if self.config.compare.halving else ()
    grid = self.points(pair) if grid is None else grid
    return self._lasting(pair, grid) if phase == 'tune' else (
        self._best(pair, grid),)

  def _record(self, phase: str, pair: Pair, point: Point,
              seed: int) -> dict[str, Any] | None:
    """The record of a trial; of the first steps a whole one holds them."""
    found = self.records.get(self.key(phase, pair, point, seed))
    if found is not None or phase != 'early':
      return found
    whole = self.records.get(self.key('tune', pair, point, seed))
    return None if whole is None else grids.beginning(self.config, whole)

  def finished(self, phase: str, pair: Pair,
               point: Point) -> list[dict[str, Any]]:
    """The records of the finished seeds of a phase."""
    found = (self._record(phase, pair, point, seed)
             for seed in self.seeds(phase))
    return [record for record in found if record is not None]

  def runs(self, phase: str, pair: Pair, point: Point) -> tuple[Run, ...]:
    """The finished seeds of a phase, judged."""
    return tuple(
        Run.of(record, self.target,
               self.config.train.eval_every, self.basis.worst)
        for record in self.finished(phase, pair, point))

  def chosen(self, pair: Pair) -> Point:
    """The point with the best mean validation score on tuning seeds.

    Of equals the one whose rate is not on the edge, then the one with the lower
    loss, then the first in the list.
    """
    return self._best(pair, self.points(pair))

  def at_edge(self, pair: Pair, point: Point,
              grid: grids.Grid | None = None) -> bool:
    """Whether a best rate lies on the edge of what was searched."""
    return grids.at_edge(self.points(pair) if grid is None else grid, point,
                         grids.edges(self.config, pair.method))

  def _best(self, pair: Pair, grid: grids.Grid) -> Point:
    return max(self._lasting(pair, grid), key=lambda point: self._merit(
        pair, point, grid, self.runs('tune', pair, point)))

  def _merit(self, pair: Pair, point: Point, grid: grids.Grid,
             runs: tuple[Run, ...]) -> tuple[float, bool, float]:
    """What orders points: score, then whether it is no edge, then loss."""
    return (sum(run.score for run in runs),
            not self.at_edge(pair, point, grid),
            -sum(run.final_loss for run in runs))

  def _trains(self, runs: tuple[Run, ...]) -> bool:
    """Whether one of some runs was better than guessing."""
    return stats.trains([run.score for run in runs],
                        self.basis.chance, self.basis.margin)

  def answers(self, pair: Pair) -> Answers:
    """What the fresh runs answered on the test part."""
    return Answers(
        tuple(None if record['diverged'] else packed.unpack(record['evidence'])
              for record in self.finished('final', pair, self.chosen(pair))),
        evidence.score_of(self.basis.rule), self.basis.worst,
        self.basis.groups)

  def acted(self, pair: Pair) -> float | None:
    """The share of the fresh runs' steps in which sampling acted."""
    shares = [share for record in self.finished(
        'final', pair, self.chosen(pair))
              for share in record['history'].get('acted', ())]
    return float(np.mean(shares)) if shares else None

  def lost(self, pair: Pair) -> dict[str, Any] | None:
    """The record of the first fresh run, if not one run stayed finite."""
    runs = [run for phase in ('early', 'tune')
            for point in self.tried(phase, pair)
            for run in self.runs(phase, pair, point)]
    fresh = self.finished('final', pair, self.chosen(pair))
    if not fresh or not all(run.diverged for run in runs) or not all(
        record['diverged'] for record in fresh):
      return None
    return fresh[0]

  def fault_key(self, pair: Pair) -> str:
    """The fingerprint of what is wrong with that run."""
    return self.key('fault', pair, self.chosen(pair), FRESH)

  def fault(self, pair: Pair) -> str | None:
    """Where that run went bad: step and block; None if some stayed finite."""
    found = self.records.get(self.fault_key(pair))
    return found['text'] if found else None

  def look_key(self, pair: Pair) -> str:
    """The fingerprint of a look at a run."""
    return self.key(f'look over {self.config.compare.look}', pair,
                    self.chosen(pair), FRESH)

  def looks(self) -> tuple[Look, ...]:
    """What every method does to the blocks, at its chosen rate."""
    found = (self.records.get(self.look_key(pair)) for pair in self.pairs())
    return tuple(Look.of(record) for record in found if record)

  def profiles(self) -> Profiles:
    """The gradient through time of the first fresh run of every method."""
    found: Profiles = {}
    for pair in self.pairs():
      record = self.records.get(self.key(
          'final', pair, self.chosen(pair), self.seeds('final')[0]))
      if record and record.get('profile'):
        found.setdefault(pair.model, {})[pair.method] = {
            int(step): norms for step, norms in record['profile'].items()}
    return found
