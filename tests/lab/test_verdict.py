"""When a comparison recommends, and when it says that it cannot."""

import math

import pytest

from gradnorm_optax.lab.results import stats, summary, verdict


def row(method, accuracies, **changes):
  runs = tuple(summary.Run(seed, False, accuracy, 1.0, 10.0, (), accuracy)
               for seed, accuracy in enumerate(accuracies))
  interval = stats.mean_interval(accuracies)
  return summary.Row(**{
      'model': 'm', 'method': method, 'rate': 0.1, 'edge': False,
      'trains': True, 'score': interval, 'spread': 0.0, 'steps': 10.0,
      'reached': 1, 'seconds': 1.0, 'diverged': 0, 'seeds': len(runs),
      'test': interval, 'step_seconds': 0.01, 'bare': None, 'overhead': None,
      'sensitivity': (), 'runs': runs, 'tuned': interval.mean,
      'plain': not method.startswith('new'), **changes})


def test_difference_is_paired():
  # Seeds differ by 0.5, methods by 0.1 on every seed: the pairs see the 0.1.
  found = verdict.paired(row('new', [0.2, 0.7, 0.4]),
                         row('old', [0.1, 0.6, 0.3]))
  assert found == pytest.approx((0.1, 0.1, 0.1))


@pytest.mark.parametrize('new, kind, words', [
    ([0.6, 0.7, 0.8], 'gain',
     'new beats old, the best baseline of tuning: +20.0 points'),
    ([0.3, 0.4, 0.5], 'loss', 'new is worse than old'),
    ([0.3, 0.5, 0.8], 'none', 'No difference between new and old'),
])
def test_kinds(new, kind, words):
  found = verdict.judge([row('old', [0.4, 0.5, 0.6]), row('new', new)], None)
  assert found.kind == kind and words in found.text
  assert (found.method, found.baseline) == ('new', 'old')


def test_what_weakens_a_difference_is_said_with_it():
  old, new = [0.4, 0.5, 0.6, 0.5, 0.4], [0.6, 0.7, 0.8, 0.7, 0.6]
  rates = (summary.Point(0.1, 0.5, 0),)
  few = verdict.judge([row('old', old[:3]), row('new', new[:3])], None)
  assert few.text.endswith(
      '. Not sure: of equals, 25% would differ so with 3 seeds.')
  one = verdict.judge([row('old', old), row('new', new, sensitivity=rates)],
                      None)
  assert one.text.endswith('. Only one learning rate was tried.')
  sure = verdict.judge([row('old', old), row('new', new)], None)
  assert sure.text.endswith('points [+20.0, +20.0].')


def test_a_gain_must_hold_against_every_baseline():
  """Tuning may nominate a baseline that is not the best on fresh seeds."""
  rows = [row('old', [0.4, 0.5, 0.6], tuned=0.9, rounds=(1.0, 1.0, 1.0)),
          row('older', [0.6, 0.8, 0.7], rounds=(1.0, 2.0, 4.0)),
          row('new', [0.6, 0.7, 0.8], rounds=(1.5, 3.0, 4.0))]
  found = verdict.judge(rows, None)
  assert (found.method, found.baseline, found.kind) == ('new', 'old', 'none')
  assert found.text == (
      'No difference between new and older: +0.0 points [-10.0, +10.0], at '
      '1.50 times the time of a step. Against old, the best baseline of '
      'tuning, it is +20.0 points [+20.0, +20.0].')
  # Who names a baseline asks about that one.
  assert verdict.judge(rows, 'old').kind == 'gain'


def test_a_baseline_that_was_not_searched_wide_enough_is_named():
  rows = [row('old', [0.4, 0.5, 0.6, 0.5, 0.4]),
          row('older', [0.3, 0.3, 0.3, 0.3, 0.3], edge=True),
          row('new', [0.6, 0.7, 0.8, 0.7, 0.6])]
  found = verdict.judge(rows, None)
  assert found.kind == 'gain' and found.text.endswith(
      '[+20.0, +20.0]. The best rate of older lies on the edge of its grid; it '
      'may do better beyond.')
  assert 'edge' not in verdict.judge(rows, 'old').text


def test_nominated_by_tuning_not_by_the_result():
  rows = [row('old', [0.1, 0.2]), row('older', [0.8, 0.9], tuned=0.0),
          row('new', [0.4, 0.5]), row('newer', [0.9, 0.9], tuned=0.0)]
  found = verdict.judge(rows, None)
  assert (found.method, found.baseline) == ('new', 'old')
  assert verdict.judge(rows, 'older').baseline == 'older'
  assert verdict.judge(rows, 'older').kind == 'loss'


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
  found = verdict.judge(rows, None)
  assert found.kind == 'void' and words in found.text
  assert found.difference is None or not math.isinf(found.difference.mean)
