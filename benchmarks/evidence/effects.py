"""The effect of a claim: a difference paired by seed, and its interval.

Measures, each the treated row less the other:

- test: the score on examples that chose nothing. Its interval is the lab's,
  over seeds and examples; of two differences it is over the seeds.
- steps: how many per cent more steps to the configuration's target. A run that
  does not reach it counts as one that needs all steps, of either row: an effect
  is shown too small rather than too large.
- steps to its loss: the same to the other's final validation loss, by seed.
- rates: at how many of the searched rates a run reaches the target, by tuning
  seed.
- value: whatever a study of its own measures; also against a number.

All but the first are Student's intervals over the seeds.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from benchmarks.evidence import results
from benchmarks.evidence.registry import Claim
from benchmarks.evidence.results import Row, Study
from gradnorm_optax.lab.results import judging
from gradnorm_optax.lab.results.stats import Interval

Side = str | tuple[str, str]


class Effect(NamedTuple):
  """What was found.

  Attributes:
    interval: In `unit`.
    unit: "points", "%", "rates" or what a study measures.
    seeds: How many pairs it rests on.
    reached: How many of the treated runs reached what steps are counted to.
    worse: Whether the treated one ended above the other's loss, beyond its
      interval.
  """

  interval: Interval
  unit: str
  seeds: int
  reached: int | None = None
  worse: bool = False


def rows(claim: Claim, study: Study) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """The rows that a claim compares: the treated, and those they are against."""
  against: Side = claim.against
  if constant(claim) is not None:
    return _names(claim.treated), ()
  if against == 'best baseline':
    model = str(claim.treated).split('/')[0]
    against = f'{model}/{study.kept["baselines"][model]}'
  if claim.treated == 'best of the search':
    return (results.best(study, _names(against)),), _names(against)
  return _names(claim.treated), _names(against)


def constant(claim: Claim) -> float | None:
  """The number that a claim compares with, "=1"; None if it is a row."""
  against = claim.against
  return float(against[1:]) if isinstance(
      against, str) and against.startswith('=') else None


def _names(side: Side) -> tuple[str, ...]:
  return (side,) if isinstance(side, str) else side


def effect(claim: Claim, study: Study) -> Effect:
  """Measures a claim on the study that it names."""
  treated, against = rows(claim, study)
  if claim.measure == 'test':
    return _test(study, treated, against)
  a = study.rows[treated[0]]
  if claim.measure == 'value':
    return _value(claim, study, a,
                  study.rows[against[0]] if against else None)
  b = study.rows[against[0]]
  if claim.measure == 'steps to its loss':
    return _to_loss(study, a, b)
  if claim.measure == 'steps':
    found, other = (_steps(study, row) for row in (a, b))
    return Effect(_percent(found, other), '% steps', len(found),
                  sum(step is not None for step in a.kept['steps']))
  return _paired(_trainable(study, a), _trainable(study, b), 'rates')


def _test(study: Study, treated: tuple[str, ...],
          against: tuple[str, ...]) -> Effect:
  scale = study.kept['scale']
  unit = 'points' if study.kept['unit'] else study.kept['measure']
  if len(treated) == 1:
    kept = study.kept['differences']
    name = f'{treated[0]} - {against[0]}'
    sign = 1.0
    if name not in kept:
      name, sign = f'{against[0]} - {treated[0]}', -1.0
    found = [math.nan if value is None else sign * scale * value
             for value in kept[name]]
    mean, low, high = found if sign > 0 else (found[0], found[2], found[1])
    return Effect(Interval(mean, low, high), unit,
                  len(study.rows[treated[0]].kept['test']))
  gain, other = (scale * (_scores(study, pair[0]) - _scores(study, pair[1]))
                 for pair in (treated, against))
  return _paired(gain, other, unit)


def _scores(study: Study, name: str) -> np.ndarray:
  """Test scores by seed; a run that diverged has the worst."""
  found = study.rows[name].kept['test']
  return np.array([0.0 if value is None else value for value in found])


def _steps(study: Study, row: Row) -> list[float]:
  return _numbers(row.kept['steps'], study.kept['steps'])


def _to_loss(study: Study, a: Row, b: Row) -> Effect:
  """Steps to the other's final loss; and whether the losses differ at all."""
  every, whole = study.kept['every'], study.kept['steps']
  aims = [losses[-1] for losses in b.kept['losses']]

  def steps(row: Row) -> list[float | None]:
    return [next(((place + 1) * every for place, loss in enumerate(losses)
                  if loss is not None and loss <= aim), None)
            for losses, aim in zip(row.kept['losses'], aims, strict=True)]
  found = steps(a)
  last = [_last(losses) for losses in a.kept['losses']]
  worse = judging_of(np.subtract(last, aims)).low > 0
  return Effect(
      _percent(_numbers(found, whole), _numbers(steps(b), whole)), '% steps',
      len(found), sum(step is not None for step in found), worse)


def _last(losses: list[float | None]) -> float:
  """The final loss; of a run that diverged the largest that it had."""
  known = [loss for loss in losses if loss is not None]
  if losses and losses[-1] is not None:
    return losses[-1]
  return max(known, default=1e3)


def _trainable(study: Study, row: Row) -> list[float]:
  """How many rates train, by tuning seed."""
  table = np.array([[score is not None and score >= study.kept['target']
                     for score in scores]
                    for scores in row.kept['tuned'].values()])
  return table.sum(0).astype(float).tolist()


def _value(claim: Claim, study: Study, a: Row, b: Row | None) -> Effect:
  """Pairs by seed; a run that diverged counts as the worst one of all."""
  known = [value for row in study.rows.values()
           for value in results.values(row).values() if value is not None]
  worst = min(known) if study.kept['higher'] else max(known)
  found = results.values(a, claim.at)
  other = dict.fromkeys(found, constant(claim)) if b is None else (
      results.values(b, claim.at))
  both = [seed for seed in found if seed in other]
  pairs = [[claim.scale * _known(values[seed], worst) for seed in both]
           for values in (found, other)]
  return _paired(pairs[0], pairs[1], claim.unit)


def _known(value: float | None, worst: float) -> float:
  return worst if value is None else value


def _percent(found: list[float], other: list[float]) -> Interval:
  """The mean ratio of steps, as per cent more."""
  logs = judging_of(np.log(found) - np.log(other))
  return Interval(*(100 * math.expm1(value) for value in logs))


def _paired(found: Any, other: Any, unit: str) -> Effect:
  return Effect(judging_of(np.subtract(found, other)), unit, len(found))


def judging_of(differences: np.ndarray) -> Interval:
  """The lab's interval of one figure for each seed."""
  values = np.asarray(differences, float)
  return judging.of_table(values, values[:, None])


def _numbers(values: list[float | None], instead: float) -> list[float]:
  return [instead if value is None else value for value in values]
