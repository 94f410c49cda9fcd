"""From single trials to the rows of the template's table."""

import dataclasses
import math
import statistics

import numpy as np

from gradnorm_optax.lab.comparison.runner import Runner
from gradnorm_optax.lab.methods import baselines
from gradnorm_optax.lab.results import stats, verdict
from gradnorm_optax.lab.results.records import Clock, Point, Row, Run, Summary


def summarize(runner: Runner,
          timings: dict[tuple[str, str], Clock]) -> Summary:
  """Judges a finished comparison."""
  config, dataset = runner.config, runner.dataset
  rows: list[Row] = []
  verdicts = []
  for model in config.models:
    own = [_row(runner, model, method, timings[model, method])
           for method in config.methods_on(model)]
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


def _row(runner: Runner, model: str, method: str, clock: Clock) -> Row:
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
  steps = statistics.median([run.steps_to_target for run in runs])
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
      runs=runs, plain=baselines.is_baseline(config.methods[method]),
      tuned=float(np.mean([run.score for run in tuned[rate]])),
      acted=runner.acted(model, method), rounds=clock.rounds)


def _point(rate: float, runs: list[Run]) -> Point:
  """Summarizes the tuning runs at one rate."""
  return Point(rate, float(np.mean([run.score for run in runs])),
               sum(run.diverged for run in runs))
