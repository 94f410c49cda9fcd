"""From single trials to the rows of the template's table."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradnorm_optax.lab import methods, stats, verdict
from gradnorm_optax.lab.objective import ACCURACY, Measure

if TYPE_CHECKING:
  from gradnorm_optax.lab.comparison import Runner


class Run(NamedTuple):
  """One trial, judged.

  A diverged run counts with the worst score, infinite loss and infinite time.
  """

  seed: int
  diverged: bool
  score: float
  final_loss: float
  steps_to_target: float
  curve: tuple[float, ...]
  test_score: float

  @staticmethod
  def of(record: dict[str, Any], target: float = math.inf,
         every: int = 1, worst: float = 0.0) -> 'Run':
    """Judges a record of the run folder; no score counts below `worst`."""
    curve = tuple(max(worst, value) for value in record['history']['score'])
    if record['diverged']:
      return Run(
          record['seed'], True, worst, math.inf, math.inf, curve, worst)
    test = record.get('test')
    return Run(
        record['seed'], False, curve[-1], record['history']['loss'][-1],
        stats.steps_to_target(curve, target, every), curve,
        max(worst, test['score']) if test else math.nan)


@dataclasses.dataclass(frozen=True)
class Point:
  """A method at one learning rate, over the tuning seeds."""

  rate: float
  score: float
  lowest: float
  highest: float
  diverged: int


@dataclasses.dataclass(frozen=True)
class Row:
  """A method on a model.

  Attributes:
    model, method: Their names.
    rate: The chosen learning rate.
    edge: Whether it lies on the edge of the grid, which voids the row.
    trains: Whether any run was better than guessing.
    score: Final validation score over the fresh seeds.
    spread: Its standard deviation over the seeds.
    steps: Median step at which the target was reached; inf if it was not.
    reached: How many seeds reached it.
    seconds: `steps` times the measured time of a step.
    diverged: How many fresh runs diverged.
    seeds: How many fresh seeds there were.
    test: Score on the test part, read once.
    step_seconds: Median time of a training step.
    bare: The method without clipping and normalization.
    overhead: Quartiles of its step's time over the bare one's, interleaved.
    sensitivity: Every rate that was tried.
    runs: The fresh runs.
    tuned: Mean score on the tuning seeds at the chosen rate.
    plain: Whether it is a baseline: an optimizer of optax, clipped or not.
    difference: Paired difference to the best baseline of the model.
  """

  model: str
  method: str
  rate: float
  edge: bool
  trains: bool
  score: stats.Interval
  spread: float
  steps: float
  reached: int
  seconds: float
  diverged: int
  seeds: int
  test: stats.Interval
  step_seconds: float
  bare: str | None
  overhead: tuple[float, float, float] | None
  sensitivity: tuple[Point, ...]
  runs: tuple[Run, ...]
  tuned: float = math.nan
  plain: bool = True
  difference: stats.Interval | None = None


@dataclasses.dataclass(frozen=True)
class Summary:
  """All rows of a comparison and what they share.

  Attributes:
    chance: The score of guessing.
    target: The score to reach.
    measure: What the score is.
    worst: What a diverged run scores.
  """

  name: str
  title: str
  data: str
  chance: float
  target: float
  steps: int
  every: int
  seeds: int
  tune_seeds: int
  rows: tuple[Row, ...]
  verdicts: tuple[verdict.Verdict, ...] = ()
  measure: Measure = ACCURACY
  worst: float = 0.0


def build(runner: 'Runner') -> Summary:
  """Judges a finished comparison."""
  config, dataset = runner.config, runner.dataset
  rows: list[Row] = []
  verdicts = []
  for model in config.models:
    own = [_row(runner, model, method) for method in config.methods_on(model)]
    base = verdict.baseline(own, config.compare.baseline)
    rows += [row if base is None or row is base else dataclasses.replace(
        row, difference=verdict.paired(row, base)) for row in own]
    verdicts.append(verdict.judge(
        own, config.compare.baseline, dataset.objective.measure))
  return Summary(
      config.name, config.title or config.name, dataset.description,
      dataset.objective.chance, config.compare.target, config.train.steps,
      config.train.eval_every, config.compare.seeds,
      config.compare.tune_seeds, tuple(rows), tuple(verdicts),
      dataset.objective.measure, dataset.objective.worst)


def _row(runner: 'Runner', model: str, method: str) -> Row:
  """Judges one method on one model."""
  config, objective = runner.config, runner.dataset.objective
  target, every = config.compare.target, config.train.eval_every
  rates = sorted(runner.rates(method))
  tuned = {rate: [Run.of(r, worst=objective.worst) for r in runner.records(
      'tune', model, method, rate) if r] for rate in rates}
  rate = runner.chosen(model, method)
  runs = tuple(
      Run.of(r, target, every, objective.worst)
      for r in runner.records('final', model, method, rate) if r)
  scores = [run.score for run in runs]
  steps = stats.median([run.steps_to_target for run in runs])
  clock = runner.timings[model, method]
  return Row(
      model=model, method=method, rate=rate,
      edge=len(rates) > 1 and rate in (rates[0], rates[-1]),
      trains=stats.trains(
          [run.score for group in tuned.values() for run in group] + scores,
          objective.chance, objective.margin),
      score=stats.mean_interval(scores),
      spread=float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan,
      steps=steps, reached=sum(map(math.isfinite, (
          run.steps_to_target for run in runs))),
      seconds=steps * clock.step_seconds,
      diverged=sum(run.diverged for run in runs), seeds=len(runs),
      test=stats.mean_interval([run.test_score for run in runs]),
      step_seconds=clock.step_seconds, bare=clock.bare,
      overhead=clock.overhead,
      sensitivity=tuple(_point(rate, group) for rate, group in tuned.items()),
      runs=runs, plain=methods.is_baseline(config.methods[method]),
      tuned=float(np.mean([run.score for run in tuned[rate]])))


def _point(rate: float, runs: list[Run]) -> Point:
  """Summarizes the tuning runs at one rate."""
  scores = [run.score for run in runs]
  return Point(rate, float(np.mean(scores)), min(scores), max(scores),
               sum(run.diverged for run in runs))


def plain(value: Any) -> Any:
  """Turns a summary into what JSON can hold; NaN and inf become null."""
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    return {f.name: plain(getattr(value, f.name))
            for f in dataclasses.fields(value)}
  if isinstance(value, tuple) and hasattr(value, '_asdict'):
    return {k: plain(v) for k, v in value._asdict().items()}
  if isinstance(value, dict):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [plain(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
