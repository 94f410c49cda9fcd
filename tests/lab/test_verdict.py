"""When a comparison recommends, and when it says that it cannot."""

import dataclasses
import math

import numpy as np
import pytest

from gradnorm_optax.lab.objective import evidence, quality
from gradnorm_optax.lab.results import judging, summary, verdict


def answers(accuracies):
  """Runs that answered one example each, so well."""
  return judging.Answers(
      tuple(np.array([[score, 1.0]]) for score in accuracies), evidence.mean)


def difference(row, other):
  return judging.difference(*(
      answers([run.test_score for run in one.runs]) for one in (row, other)))


def judge(rows, named=None):
  return verdict.judge(rows, named, difference)


def row(method, accuracies, **changes):
  runs = tuple(summary.Run(seed, False, accuracy, 1.0, 10.0, (), accuracy)
               for seed, accuracy in enumerate(accuracies))
  interval = judging.interval(answers(accuracies))
  return summary.Row(**{
      'model': 'm', 'method': method, 'rate': 0.1, 'edge': False,
      'trains': True, 'score': interval, 'spread': 0.0, 'steps': 10.0,
      'reached': 1, 'seconds': 1.0, 'diverged': 0, 'seeds': len(runs),
      'validation': interval.mean, 'train_loss': 1.0,
      'step_seconds': 0.01, 'bare': None, 'overhead': None,
      'sensitivity': (), 'runs': runs, 'tuned': interval.mean,
      'plain': not method.startswith('new'), **changes})


def test_difference_is_paired():
  # Seeds differ by 0.5, methods by 0.1 on every seed: the pairs see the 0.1.
  found = difference(row('new', [0.2, 0.7, 0.4]), row('old', [0.1, 0.6, 0.3]))
  assert found == pytest.approx((0.1, 0.1, 0.1))


@pytest.mark.parametrize('new, kind, choice, words', [
    ([0.6, 0.7, 0.8], 'gain', 'new',
     'new beats old, the best baseline of tuning: +20.0 points'),
    ([0.3, 0.4, 0.5], 'loss', 'old', 'new is worse than old'),
    ([0.3, 0.5, 0.8], 'none', 'old', 'No difference between new and old'),
])
def test_kinds(new, kind, choice, words):
  found = judge([row('old', [0.4, 0.5, 0.6]), row('new', new)])
  assert found.kind == kind and words in found.text
  assert (found.method, found.baseline) == ('new', 'old')
  # What to do is said, and is what the card and the bold row show.
  assert found.choice == choice and found.sure
  advice = 'Use' if kind == 'gain' else 'Keep'
  assert found.text.endswith(f'. {advice} {choice}.')


def test_what_weakens_a_difference_is_said_with_it():
  old, new = [0.4, 0.5, 0.6, 0.5, 0.4], [0.6, 0.7, 0.8, 0.7, 0.6]
  rates = (summary.Point(0.1, 0.5, 0),)
  one = judge([row('old', old), row('new', new, sensitivity=rates)])
  assert 'Not sure: only one learning rate was tried.' in one.text
  assert not one.sure
  sure = judge([row('old', old), row('new', new)])
  assert sure.text.endswith('points [+20.0, +20.0]. Use new.') and sure.sure


def test_a_gain_must_hold_against_every_baseline():
  """Tuning may nominate a baseline that is not the best on fresh seeds."""
  rows = [row('old', [0.4, 0.5, 0.6], tuned=0.9, rounds=(1.0, 1.0, 1.0)),
          row('older', [0.6, 0.8, 0.7], rounds=(1.0, 2.0, 4.0)),
          row('new', [0.6, 0.7, 0.8], rounds=(1.5, 3.0, 4.0))]
  found = judge(rows)
  assert (found.method, found.baseline, found.kind) == ('new', 'old', 'none')
  assert found.text == (
      'No difference between new and older: +0.0 points [-24.8, +24.8], at '
      '1.50 [1.00, 1.50] times the time of a step. Against old, the best '
      'baseline of tuning, it is +20.0 points [+20.0, +20.0]. Keep older.')
  # Who names a baseline asks about that one.
  assert judge(rows, 'old').kind == 'gain'


@pytest.mark.parametrize('better, loser, kinds', [
    ([0.62, 0.72, 0.82, 0.72, 0.62], 'old', ('gain', 'none')),
    ([0.22, 0.32, 0.42, 0.32, 0.22], 'new', ('loss', 'none'))])
def test_a_difference_must_exceed_what_an_unlucky_rate_explains(
    better, loser, kinds):
  """Tuning saw the loser better at a rate that it passed over than its fresh
  seeds are at the chosen one, by a point less or more than the difference."""
  def said(regret):
    rows = [row('old', [0.4, 0.5, 0.6, 0.5, 0.4]), row('new', better)]
    rows = [dataclasses.replace(one, sensitivity=(
        summary.Point(0.01, one.validation - 0.3, 0),
        summary.Point(0.1, 0.99, 0),  # the chosen one, then lucky
        summary.Point(0.3, one.validation + regret, 0)))
            if one.method == loser else one for one in rows]
    return judge(rows)
  # The interval of a constant difference is a point.
  shift = 0.22 if loser == 'old' else -0.18
  assert said(0).difference.low == pytest.approx(shift)
  assert said(abs(shift) - 0.01).kind == kinds[0]
  found = said(abs(shift) + 0.01)
  assert found.kind == kinds[1] and not found.sure and found.choice == 'old'
  assert f'on tuning, {loser} at another rate was' in found.text
  assert found.text.endswith('raise compare.tune_seeds. Keep old.')


def test_numbers_are_told_in_their_own_unit():
  """Of labels with deviation 50: R² 0.64 leaves 60% of it, 0.91 30%."""
  rows = [row('old', [0.64] * 5), row('new', [0.91] * 5)]
  found = verdict.judge(
      rows, None, difference, quality.VARIANCE._replace(deviation=50.0))
  assert ('+27.0 points [+27.0, +27.0], a root mean square error of 15 instead '
          "of 30 in the label's unit.") in found.text
  assert 'error' not in judge(rows).text


def test_a_baseline_that_was_not_searched_wide_enough_is_named():
  rows = [row('old', [0.4, 0.5, 0.6, 0.5, 0.4]),
          row('older', [0.3, 0.3, 0.3, 0.3, 0.3], edge=True),
          row('new', [0.6, 0.7, 0.8, 0.7, 0.6])]
  found = judge(rows)
  assert found.kind == 'gain' and not found.sure and found.text.endswith(
      '[+20.0, +20.0]. Not sure: the best rate of older lies on the edge of '
      'its grid; it may do better beyond. Use new.')
  assert 'edge' not in judge(rows, 'old').text


def test_nominated_by_tuning_not_by_the_result():
  rows = [row('old', [0.1, 0.2]), row('older', [0.8, 0.9], tuned=0.0),
          row('new', [0.4, 0.5]), row('newer', [0.9, 0.9], tuned=0.0)]
  found = judge(rows)
  assert (found.method, found.baseline) == ('new', 'old')
  assert judge(rows, 'older').baseline == 'older'
  assert judge(rows, 'older').kind == 'loss'


@pytest.mark.parametrize('rows, words', [
    ([row('old', [0.1, 0.2])], 'no method besides'),
    ([row('new', [0.1, 0.2])], 'no baseline'),
    ([row('old', [0.1, 0.2]), row('new', [0.3, 0.4], edge=True)],
     'rate of new lies on the edge'),
    ([row('old', [0.1, 0.2], trains=False), row('new', [0.1], trains=False)],
     'nothing was better than guessing'),
    ([row('old', [0.1]), row('new', [0.4])], 'one seed has no interval'),
])
def test_void(rows, words):
  found = judge(rows)
  assert found.kind == 'void' and words in found.text
  assert found.difference is None or not math.isinf(found.difference.mean)
