"""What an effect says of a claim, by a rule that knows no method's name."""

import math
from typing import Literal, NamedTuple

from benchmarks.evidence import effects
from benchmarks.evidence.effects import Effect
from benchmarks.evidence.registry import Claim
from benchmarks.evidence.results import Study

Kind = Literal['holds', 'no difference', 'does not hold', 'not decided']
FEWEST = 4  # pairs of seeds

RULE = """A claim **holds** where the 95% interval of the effect lies on its
side of zero. It **does not hold** where the interval lies on the other side;
or where it contains zero, excludes the smallest effect that would matter on
the claimed side, and does not exclude it on the other. (That smallest effect
was set with the claim: one point of a score, 10% of the steps, half a rate, 5%
of the steps of a language model.) There is **no difference** where it contains
zero and nothing that would matter. A claim that two are the same holds where
the whole interval would not matter. **Not decided**: the interval contains
zero and effects that would matter on the claimed side; or no statement is
allowed, as in the lab: a best rate on the edge of what was searched, nothing
that trains, too few seeds, or another rate of the loser that looked better in
tuning by more than the effect."""


class Verdict(NamedTuple):
  """A claim, judged.

  Attributes:
    effect: None where nothing was measured.
    why: Where it is not decided: what is in the way.
  """

  claim: Claim
  kind: Kind
  effect: Effect | None = None
  why: str = ''


def judge(claim: Claim, study: Study | None) -> Verdict:
  """Judges a claim by the study that it names; None if that was not run."""
  if study is None:
    return Verdict(claim, 'not decided', why='not run')
  treated, against = effects.rows(claim, study)
  missing = [name for name in (*treated, *against) if name not in study.rows]
  if missing:
    return Verdict(claim, 'not decided', why=(
        f'not run: {", ".join(missing)}' if all(missing) else 'not finished'))
  rows = [study.rows[name] for name in (*treated, *against)]
  if not study.lab and not all(row.trains for row in rows):
    return Verdict(claim, 'not decided', why='not finished')
  if not any(row.trains for row in rows):
    return Verdict(claim, 'not decided', why='nothing trained')
  found = effects.effect(claim, study)
  if claim.measure != 'rates':  # of which no rate was chosen
    for name, row in zip((*treated, *against), rows, strict=True):
      if row.edge and row.trains:
        return Verdict(claim, 'not decided', found,
                       f'the best rate of {name} lies on an edge')
  if found.seeds < FEWEST or math.isnan(found.interval.low):
    return Verdict(claim, 'not decided', found, 'too few seeds')
  return _judged(claim, study, found)


def _judged(claim: Claim, study: Study, found: Effect) -> Verdict:
  _, low, high = found.interval
  if claim.claim == 'same':
    if -claim.size < low and high < claim.size:
      return Verdict(claim, 'holds', found)
    if low > claim.size or high < -claim.size:
      return Verdict(claim, 'does not hold', found)
    return Verdict(claim, 'not decided', found, 'too wide')
  sign = 1 if claim.claim == 'more' else -1
  low, high = sorted((sign * low, sign * high))
  low, high = low - claim.least, high - claim.least
  if found.reached is not None and claim.measure == 'steps to its loss' and (
      2 * found.reached < found.seeds):
    told = f'{found.reached} of {found.seeds} runs reach it'
    return Verdict(claim, 'does not hold' if found.worse else 'not decided',
                   found, told)
  if claim.measure == 'steps' and not any(
      step is not None for side in effects.rows(claim, study) for name in side
      for step in study.rows[name].kept['steps']):
    return Verdict(claim, 'not decided', found, 'none reaches the target')
  if low > 0 or high < 0:
    unlucky = _unlucky(claim, study, low > 0)
    if max(low, -high) <= unlucky:
      return Verdict(claim, 'not decided', found,
                     'another rate of the loser looked better in tuning')
    return Verdict(claim, 'holds' if low > 0 else 'does not hold', found)
  if -claim.size < low and high < claim.size:
    return Verdict(claim, 'no difference', found)
  if high < claim.size:
    return Verdict(claim, 'does not hold', found)
  return Verdict(claim, 'not decided', found, 'too wide')


def _unlucky(claim: Claim, study: Study, gains: bool) -> float:
  """How much better the loser's rate might have been chosen, where known."""
  if claim.measure != 'test' or not study.lab:
    return 0.0
  treated, against = effects.rows(claim, study)
  if len(treated) > 1:
    return 0.0
  better = gains == (claim.claim == 'more')  # the treated one scores more
  loser = against[0] if better else treated[0]
  return study.kept['scale'] * (study.rows[loser].regret or 0.0)
