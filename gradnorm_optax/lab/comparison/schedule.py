"""What a comparison's plan is told, so that it knows how long it will take."""

import math
import statistics
import threading

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison import missing, timing
from gradnorm_optax.lab.comparison.missing import Call, Job
from gradnorm_optax.lab.methods import search_space
from gradnorm_optax.lab.methods.search_space import Point
from gradnorm_optax.lab.results import grids, step_cost
from gradnorm_optax.lab.results.trials import PHASES, Pair, Trials
from gradnorm_optax.lab.support.remaining import Remaining

COMPILE, LOOK = 'compiling', 'looking at the blocks over a run of each method'
FAULT = 'looking for the first bad step and block'
TIME = 'measuring the cost of a step'
SHARE = 0.2  # of the whole, at most, for the cost of a step


class Schedule:
  """A comparison's phases in a plan, all of them from the start.

  The first call of a program tells how long its trials will take; looking at a
  method takes about as long as compiling it, and timing no more than its share.
  """

  def __init__(self, plan: Remaining, trials: Trials, workers: int,
               batch: int):
    """Knows nothing yet."""
    self.plan, self._trials = plan, trials
    self.limit = math.inf  # seconds after which nothing more is timed
    self._workers, self._batch = workers, batch
    self._seconds: dict[tuple[str, str], float] = {}  # of a call, by program
    self._keys: dict[str, set[str]] = {}  # a method's programs
    self._calls: dict[str, list[Call]] = {}
    self._lock = threading.Lock()

  def plan_all(self, jobs: int) -> None:
    """Counts what every phase needs; nothing is measured yet."""
    trials, config = self._trials, self._trials.config
    self.plan.expect(COMPILE, jobs)
    self.count()
    self.plan.expect(LOOK, len(missing.looks(trials)),
                     like=COMPILE if jobs else 'final')
    self.plan.expect(
        TIME, sum(len(step_cost.programs(config, model))
                  for model in missing.untimed(trials))
        * (config.compare.timing_rounds + 1), 2 * timing.LONG,
        share=SHARE / (1 - SHARE))

  def begin(self, phase: str, what: str | None = None) -> None:
    """Begins a phase; of trials, it is known by now which those are."""
    self.plan.begin(phase, what)
    if phase in PHASES:
      self.count()

  def finish(self, phase: str, units: float = 1.0) -> None:
    """Counts what is done of a phase."""
    self.plan.finish(phase, units)

  def compiled(self, job: Job, call: float | None) -> None:
    """Counts a program, a call of which takes so many seconds."""
    with self._lock:
      if call is not None:
        self._seconds[job.model, _key(job.method)] = call
        self._expect_calls()
    self.plan.finish(COMPILE)

  def called(self, call: Call) -> None:
    """Counts the trials of a call."""
    self.plan.finish(call.phase, self._of(call), len(call.seeds))

  def allowed(self) -> float:
    """Seconds that are left for the cost of a step.

    What was run in an earlier session counts, too.
    """
    before = max(self.plan.elapsed() - self.plan.spent(TIME), self.kept())
    most = SHARE / (1 - SHARE) * before - self.plan.spent(TIME)
    return max(0.0, min(most, self.limit - self.plan.elapsed()))

  def kept(self) -> float:
    """Seconds of all trials that are finished, those of other sessions too."""
    return sum(record['seconds'] for record in self._trials.records.values()
               if 'seconds' in record) / self._workers

  def call_seconds(self, pair: Pair) -> float:
    """Seconds that a call of a program takes; 0 where nothing is known."""
    usual = statistics.fmean(self._seconds.values()) if self._seconds else 0.0
    if pair.method not in self._keys:
      self._keys[pair.method] = _keys(self._trials.config, pair.method)
    known = [self._seconds[pair.model, key] for key in self._keys[pair.method]
             if (pair.model, key) in self._seconds]
    return statistics.fmean(known) if known else usual

  def use(self, trials: Trials) -> None:
    """Plans other trials from here on."""
    self._trials = trials
    self._keys.clear()

  def end(self) -> None:
    """Ends the last phase."""
    self.plan.end()

  def count(self) -> None:
    """Counts trials and calls, as far as is known by now.

    Which rates go on, and where grids widen, finished trials tell; which fresh
    ones are run, tuning must.
    """
    trials = self._trials
    planned = sum(map(trials.planned, PHASES))
    self.plan.trials = planned - sum(
        len(trials.missing('early', pair)) + len(trials.missing('tune', pair))
        + missing.final(trials, pair) for pair in trials.pairs()), planned
    early, tune = (list(missing.calls(trials, phase, self._batch))
                   for phase in ('early', 'tune'))
    if tune:
      seeds = tuple(trials.seeds('final'))
      final = [Call('final', pair, (Point(0.0),) * len(seeds), seeds)
               for pair in dict.fromkeys(call.pair for call in tune)]
    else:
      final = list(missing.calls(trials, 'final', self._batch))
    self._calls = {'early': early, 'tune': tune, 'final': final}
    self._expect_calls()

  def _expect_calls(self) -> None:
    """Says how long the calls will take, as far as is known."""
    guess = 1 / self._workers if self._seconds else None
    for phase, calls in self._calls.items():
      self.plan.expect(
          phase, self.plan.done(phase) + sum(map(self._of, calls)), guess,
          like={'final': 'tune', 'tune': 'early'}.get(phase))

  def _of(self, call: Call) -> float:
    """Seconds that a call is expected to take; 1 where nothing is known."""
    calls = -(-len(call.seeds) // self._batch) * (
        grids.share(self._trials.config) if call.phase == 'early' else 1.0)
    return calls * (self.call_seconds(call.pair) if self._seconds else 1.0)


def _keys(config: schema.Config, method: str) -> set[str]:
  """The programs of a method, one for each of its settings."""
  points = {point.settings: point for point in grids.first(config, method)}
  return {_key(search_space.at(config, method, point)[0])
          for point in points.values()}


def _key(method: schema.Method) -> str:
  return method.alone.model_dump_json()
