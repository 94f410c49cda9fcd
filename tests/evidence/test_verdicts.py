"""What is said of a claim, and by which figures."""

import math

import numpy as np
import pytest

from benchmarks.evidence import effects, results, verdicts
from benchmarks.evidence.registry import Claim


def claim(**given):
  return Claim(**{
      'id': 'c', 'method': 'M', 'page': 'm.md', 'words': 'w', 'setting': 's',
      'study': 's', 'treated': 'm/a', 'against': 'm/b', 'measure': 'test',
      'claim': 'more', 'size': 1.0} | given)


def study(difference=(0.0, -0.1, 0.1), **rows):
  """Two rows of five seeds; `a_...`, `b_...` replace what they hold."""
  row = {'rate': 0.1, 'edge': False, 'trains': True, 'plain': True,
         'regret': 0.0, 'seconds': 60, 'test': [0.5] * 5,
         'steps': [100.0] * 5, 'train_loss': [1.0] * 5,
         'losses': [[2.0, 1.0]] * 5, 'tuned': {'0.1': [0.5] * 5}}
  return results.parse('s', {
      'scale': 100.0, 'unit': '%', 'measure': 'accuracy', 'steps': 200,
      'every': 100, 'target': 0.5, 'baselines': {'m': 'b'},
      'differences': {'m/a - m/b': difference},
      'rows': {f'm/{name}': row | {
          key[2:]: value for key, value in rows.items() if key[0] == name}
               for name in 'ab'}})


@pytest.mark.parametrize('claimed, low, high, kind', [
    ('more', 0.02, 0.05, 'holds'),
    ('more', 0.001, 0.002, 'holds'),            # small, but beyond doubt
    ('more', -0.05, -0.02, 'does not hold'),
    ('more', -0.05, 0.005, 'does not hold'),    # a point more is excluded
    ('more', -0.005, 0.005, 'no difference'),
    ('more', -0.005, 0.02, 'not decided'),
    ('less', -0.05, -0.02, 'holds'),
    ('less', -0.02, 0.005, 'not decided'),
    ('less', -0.005, 0.02, 'does not hold'),
    ('same', -0.005, 0.009, 'holds'),
    ('same', 0.011, 0.03, 'does not hold'),
    ('same', -0.02, 0.005, 'not decided')])
def test_the_rule(claimed, low, high, kind):
  found = verdicts.judge(claim(claim=claimed), study(
      ((low + high) / 2, low, high)))
  assert found.kind == kind
  # Asked the other way round the answer is that of the opposite claim.
  turned = {'more': 'less', 'less': 'more', 'same': 'same'}[claimed]
  again = verdicts.judge(
      claim(claim=turned, treated='m/b', against='m/a'),
      study(((low + high) / 2, low, high)))
  assert again.kind == kind


@pytest.mark.parametrize('rows, why', [
    ({'a_edge': True}, 'edge'),
    ({'b_edge': True}, 'edge'),
    ({'a_trains': False, 'b_trains': False}, 'nothing trained'),
    ({'b_regret': 0.06}, 'looked better in tuning'),
    ({'a_test': [0.5] * 3}, 'too few')])
def test_what_forbids_a_statement(rows, why):
  found = verdicts.judge(claim(), study((0.04, 0.03, 0.05), **rows))
  assert found.kind == 'not decided'
  assert why in found.why


def test_a_claim_of_a_size_needs_it():
  assert [verdicts.judge(claim(least=least), study((0.2, 0.12, 0.28))).kind
          for least in (10, 15, 40)] == [
              'holds', 'not decided', 'does not hold']


def test_steps_count_those_that_do_not_arrive_as_all():
  found = effects.effect(claim(measure='steps', claim='less'), study(
      a_steps=[50, 50, 50, None, 50], b_steps=[100, 100, None, None, 100]))
  logs = np.log([0.5, 0.5, 0.25, 1, 0.5])
  # Student's interval of the mean, by hand
  half = 2.776445 * logs.std(ddof=1) / math.sqrt(5)
  np.testing.assert_allclose(found.interval, [
      100 * math.expm1(logs.mean() + sign * half) for sign in (0, -1, 1)],
                             rtol=1e-5)
  assert found.reached == 4


@pytest.mark.parametrize('losses, kind, reached', [
    ([[0.9, 0.5]] * 5, 'holds', 5),
    ([[2.0, 1.5 + i / 100] for i in range(5)], 'does not hold', 0)])
def test_steps_to_the_others_final_loss(losses, kind, reached):
  found = verdicts.judge(claim(
      measure='steps to its loss', claim='less', size=5), study(
          a_losses=losses))
  assert (found.kind, found.effect.reached) == (kind, reached)


def test_rates_that_train_are_counted_by_seed():
  found = effects.effect(claim(measure='rates'), study(
      a_tuned={'0.1': [0.6, 0.6], '0.2': [0.7, 0.4]},
      b_tuned={'0.1': [0.6, 0.4], '0.2': [None, 0.1]}))
  assert found.interval.mean == 1.0  # (2 - 1 + 1 - 0) / 2


def test_gains_are_compared_by_seed():
  rows = study(a_test=[0.9, 0.8, 0.9, 0.8, 0.9], b_test=[0.5] * 5)
  found = effects.effect(claim(
      treated=('m/a', 'm/b'), against=('m/b', 'm/b')), rows)
  assert found.interval.mean == pytest.approx(36)
  assert effects.rows(claim(against='best baseline'), rows) == (
      ('m/a',), ('m/b',))


def test_studies_of_their_own():
  def trials(arm, rate, values, phase='final', **extra):
    return [{'arm': arm, 'rate': rate, 'phase': phase, 'seed': seed,
             'value': value, 'extra': extra}
            for seed, value in enumerate(values)]
  own = results.parse('s', {'higher': True, 'trials': [
      *(trial for rate in (0.1, 0.2, 0.3) for arm in 'xyz'
        for trial in trials(arm, rate, [rate * (arm != 'z')], 'tune')),
      *trials('x', 0.2, [3, 4, 5, None], reach=1),
      *trials('x', 0.2, [9, 9, 9, 9], reach=2),
      *trials('y', 0.3, [1, 1, 1, 1], reach=1)]})
  assert (own.rows['x'].edge, own.rows['y'].edge) == (False, True)
  # The run that diverged counts as the worst of all, a 1.
  found = effects.effect(claim(
      treated='x', against='y', measure='value', at={'reach': 1}), own)
  assert found.interval.mean == (2 + 3 + 4 + 0) / 4
  found = effects.effect(claim(
      treated='x', against='=4', measure='value', at={'reach': 2}), own)
  assert tuple(found.interval) == (5, 5, 5)
  assert effects.rows(claim(treated='best of the search', against='y'), own)[
      0] == ('x',)
  assert verdicts.judge(claim(treated='z', against='x', measure='value'),
                        own).why == 'not finished'
  begun = results.parse('s', {'higher': True, 'trials': trials(
      'x', 0.1, [1.0], 'tune')})
  assert verdicts.judge(claim(
      treated='best of the search', against='x', measure='value'),
                        begun).why == 'not finished'
