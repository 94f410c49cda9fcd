"""From single trials to the rows of the template's table."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Iterator

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import bare_optimizer, search_space
from gradnorm_optax.lab.objective import evidence
from gradnorm_optax.lab.objective.rule import Rule
from gradnorm_optax.lab.results import (
  elsewhere,
  forward_cost,
  grids,
  judging,
  stats,
  step_cost,
  verdict,
)
from gradnorm_optax.lab.results.costs import Clock
from gradnorm_optax.lab.results.findings import (
  Confusion,
  Point,
  Row,
  Run,
  Summary,
)
from gradnorm_optax.lab.results.made_with import Basis
from gradnorm_optax.lab.results.trials import Pair, Trials


def summarize(trials: Trials) -> Summary:
  """Judges a finished comparison."""
  config, basis = trials.config, trials.basis
  rows: list[Row] = []
  verdicts = []
  for model in config.models:
    times = step_cost.clocks(trials, model)
    answers = {method: trials.answers(Pair(model, method))
               for method in config.methods_on(model)}
    own = [_row(trials, Pair(model, method), times[method], found)
           for method, found in answers.items()]
    gain = _gain(answers)
    base = verdict.baseline(own, config.compare.baseline)
    rows += [row if base is None or row is base else dataclasses.replace(
        row, difference=gain(row, base)) for row in own]
    verdicts.append(verdict.judge(
        own, config.compare.baseline, gain, basis.measure))
  return Summary(
      config.name, config.title or config.name, basis.description,
      basis.chance, trials.target, config.train.steps,
      config.train.eval_every, config.compare.seeds,
      config.compare.tune_seeds, tuple(rows), tuple(verdicts),
      basis.measure, basis.worst, *_told(trials), classes=basis.classes,
      positive=None if (index := basis.rule.positive) is None
      else basis.classes[index], per_epoch=trials.per_epoch,
      points=config.compare.tried if config.compare.search else None)


def _possible(found: stats.Interval, basis: Basis) -> stats.Interval:
  """Cuts an interval to what a score can be; of a share at most 1."""
  if math.isnan(found.low):  # of one seed
    return found
  best = 1.0 if basis.measure.unit else math.inf
  return found._replace(
      low=max(basis.worst, found.low), high=min(best, found.high))


def _told(trials: Trials) -> tuple[tuple[tuple[str, str, str], ...],
                                   tuple[str, ...]]:
  """What methods act on; which leave out most; how rates were searched, and
  what a cluster could not run."""
  found = [(model, method, scope)
           for model, methods in trials.basis.scopes.items()
           for method, scopes in methods.items() for scope in scopes]
  return (
      tuple((model, method, scope.text()) for model, method, scope in found),
      tuple(f'{method} on {model}: {scope.text()}. `where` and `blocks` say '
            'what it takes.' for model, method, scope in found
            if scope.partial) + tuple(_searched(trials))
      + elsewhere.notes(trials) + _lone(trials))


def _lone(trials: Trials) -> tuple[str, ...]:
  """Where all judged examples belong to one group, of which nobody knows how
  others differ."""
  groups = trials.basis.groups
  return () if groups is None or len(set(groups)) > 1 else (
      'The test part is one group of data.group: intervals are over seeds '
      'alone. Enlarge data.test.',)


def _searched(trials: Trials) -> Iterator[str]:
  """Where grids widened, and which rates stopped early."""
  config = trials.config
  if config.compare.search is not None:
    yield from _space(trials)
  for model in config.models:
    widened = {pair: trials.points(pair)[len(grids.first(config, pair.method)):]
               for pair in trials.pairs() if pair.model == model}
    if any(widened.values()):
      yield (f'{model}: a best rate lay on an edge, and every grid widened: '
             + '; '.join(f'{pair.method} {_listed(rates)}'
                         for pair, rates in widened.items()) + '.')
  if config.compare.halving:
    steps = grids.early(config) * config.train.eval_every
    stopped = {pair: [point for point in trials.points(pair)
                      if point not in trials.lasting(pair)]
               for pair in trials.pairs()}
    yield (f'stopped after {steps} of {config.train.steps} steps, in the lower '
           'half of their methods\' rates: ' + '; '.join(
               f'{pair.method} on {pair.model} {_listed(rates)}'
               for pair, rates in stopped.items() if rates) + '.')


def _space(trials: Trials) -> Iterator[str]:
  """What was searched, what some methods do not have, what was chosen."""
  config = trials.config
  assert config.compare.search is not None
  yield (f'{config.compare.search.points} quasi-random points of every method '
         'were searched: ' + '; '.join(
             f'{method}: rate {_ranged(search_space.rates(config, method))}'
             + ''.join(f', {key} {_ranged(choice)}' for key, choice in
                       config.choices(method).items()
                       if key not in search_space.unknown(config, method))
             for method in config.methods) + '.')
  absent = {method: search_space.unknown(config, method)
            for method in config.methods}
  if any(absent.values()):
    yield ('not varied, for the method has no such key: ' + '; '.join(
        f'{", ".join(keys)} of {method}' for method, keys in absent.items()
        if keys) + '.')
  if any(trials.chosen(pair).settings for pair in trials.pairs()):
    yield ('chosen: ' + '; '.join(
        f'{pair.method} on {pair.model} {trials.chosen(pair)}'
        for pair in trials.pairs()) + '.')


def _ranged(choice: search_space.Choice) -> str:
  """
  >>> _ranged((0.0, 1e-4)), _ranged(schema.Range(low=1e-4, high=0.1))
  ('0, 0.0001', '0.0001 to 0.1')
  """
  if isinstance(choice, schema.Range):
    return f'{choice.low:g} to {choice.high:g}'
  return ', '.join(map(search_space.shown, choice))


def _listed(points: Iterable[search_space.Point]) -> str:
  return ', '.join(map(str, sorted(points, key=lambda point: point.rate)))


def _gain(answers: dict[str, judging.Answers]) -> verdict.Gain:
  """The paired difference of two methods of one model."""
  return lambda row, other: judging.difference(
      answers[row.method], answers[other.method])


def _row(trials: Trials, pair: Pair, clock: Clock,
         answers: judging.Answers) -> Row:
  """Judges one method on one model."""
  basis = trials.basis
  tuned = {point: trials.runs('tune', pair, point) for point in sorted(
      trials.lasting(pair), key=lambda point: point.rate)}
  chosen = trials.chosen(pair)
  runs = trials.runs('final', pair, chosen)
  scores = answers.scores()
  steps = statistics.median([run.steps_to_target for run in runs])
  return Row(
      model=pair.model, method=pair.method, rate=chosen.rate,
      edge=trials.at_edge(pair, chosen),
      trains=stats.trains(
          [run.score for group in (*tuned.values(), runs) for run in group],
          basis.chance, basis.margin),
      score=_possible(judging.interval(answers), basis),
      spread=float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan,
      steps=steps, reached=sum(map(math.isfinite, (
          run.steps_to_target for run in runs))),
      epochs=steps / trials.per_epoch, seconds=steps * clock.step_seconds,
      whole_seconds=trials.config.train.steps * clock.step_seconds,
      forward=forward_cost.of(trials, pair.model),
      diverged=sum(run.diverged for run in runs), seeds=len(runs),
      validation=float(np.mean([run.score for run in runs])),
      train_loss=float(np.mean([run.train_loss for run in runs])),
      step_seconds=clock.step_seconds, bare=clock.bare,
      overhead=clock.overhead,
      sensitivity=tuple(_point(*one) for one in tuned.items()),
      runs=runs,
      plain=bare_optimizer.is_baseline(trials.config.methods[pair.method]),
      tuned=float(np.mean([run.score for run in tuned[chosen]])),
      acted=trials.acted(pair), fault=trials.fault(pair), rounds=clock.rounds,
      confusion=_confusion(basis.rule, answers),
      settings=dict(chosen.settings))


def _confusion(rule: Rule, answers: judging.Answers) -> Confusion | None:
  """What the fresh runs answered to each class."""
  kept = [found for found in answers.evidence if found is not None]
  counts = evidence.confusion(rule, kept) if kept else None
  return None if counts is None else Confusion.of(counts)


def _point(point: search_space.Point, runs: tuple[Run, ...]) -> Point:
  """Summarizes the tuning runs at one point."""
  return Point(point.rate, float(np.mean([run.score for run in runs])),
               sum(run.diverged for run in runs), dict(point.settings))
