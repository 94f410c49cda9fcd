"""Grids that widen at an edge, and rates that stop after the first steps."""

import json

import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.comparison import comparison
from gradnorm_optax.lab.methods.search_space import Point
from gradnorm_optax.lab.results import grids, results_file
from gradnorm_optax.lab.results.trials import Trials

# Scores by rate: a peak far above the grid, one inside it, and guessing.
HIGH = {0.01: 0.3, 0.1: 0.5, 1.0: 0.7, 10.0: 0.9, 100.0: 0.8}
INNER = {0.001: 0.3, 0.01: 0.4, 0.1: 0.9, 1.0: 0.5, 10.0: 0.2}
NONE = {0.01: 0.1, 0.1: 0.1, 1.0: 0.12, 10.0: 0.1, 100.0: 0.1}


def rates(grid):
  return tuple(point.rate for point in grid)


def record(scores, seed=0, loss=1.0):
  return {'diverged': None in scores, 'seed': seed, 'test': None, 'history': {
      'score': [s for s in scores if s is not None],
      'loss': [loss for s in scores if s is not None],
      'train_loss': [loss for s in scores if s is not None]}}


@pytest.fixture(scope='module')
def made(finished):
  """`made(*overrides)`: trials of that comparison, none finished."""
  read = results_file.read(finished[1].folder)

  def make(*overrides):
    return Trials({}, lab.load(read.config, overrides), read.basis)
  return make


def tune(trials, curve, phases=('early', 'tune')):
  """Runs what is missing: curve(method, rate) is a trial's scores."""
  count = 0
  for phase in phases:
    while True:
      todo = [(pair, *one) for pair in trials.pairs()
              for one in trials.missing(phase, pair)]
      if not todo:
        break
      for pair, rate, seed in todo:
        scores = curve(pair.method, rate.rate)
        if phase == 'early':
          scores = scores[:grids.early(trials.config)]
        trials.records[trials.key(phase, pair, rate, seed)] = record(
            scores, seed)
        count += 1
  return count


@pytest.mark.parametrize('extend, momentum, clip, wanted', [
    (0, HIGH, INNER, ((0.01, 0.1, 1.0),) * 2),
    (1, HIGH, INNER, ((0.01, 0.1, 1.0, 10.0),) * 2),
    # Found inside after two; both have as many rates, each at its own end.
    (5, HIGH, INNER, ((0.01, 0.1, 1.0, 10.0, 100.0),
                      (0.01, 0.1, 1.0, 10.0, 0.001))),
    (5, INNER, INNER, ((0.01, 0.1, 1.0),) * 2),
    # Whoever does not train asks for nothing.
    (5, NONE, INNER, ((0.01, 0.1, 1.0),) * 2),
])
def test_grids_widen_equally(made, extend, momentum, clip, wanted):
  trials = made(f'compare.extend={extend}')
  curves = {'momentum': momentum, 'clip_momentum': clip}
  count = tune(trials, lambda method, rate: [curves[method].get(rate, 0.0)])
  assert count == sum(map(len, wanted))
  for pair, grid in zip(trials.pairs(), wanted, strict=True):
    assert rates(trials.points(pair)) == grid
    assert trials.chosen(pair).rate == max(grid, key=curves[pair.method].get)
  # From the records alone the same follows, as when a comparison goes on.
  again = Trials(trials.records, trials.config, trials.basis)
  assert [rates(again.points(pair)) for pair in again.pairs()] == list(wanted)
  assert again.planned('tune') == count
  few = dict(list(trials.records.items())[:-1])
  assert len([one for pair in again.pairs() for one in Trials(
      few, trials.config, trials.basis).missing('tune', pair)]) == 1


FIVE = 'compare.learning_rates=[0.01, 0.1, 1.0, 10.0, 100.0]'


@pytest.mark.parametrize('first, wanted', [
    ((0.2, 0.3, 0.4, 0.3, 0.1), (0.1, 1.0, 10.0)),
    ((0.3, 0.3, 0.4, 0.3, 0.1), (0.01, 0.1, 1.0, 10.0)),  # ties go on
    ((0.1, 0.1, 0.4, 0.1, 0.1), (0.1, 1.0, 10.0)),  # where guessing is not
    ((0.2, None, 0.4, None, None), (0.01, 1.0)),  # what diverged does not
    ((None,) * 5, (0.1,)),  # but one that the final runs can take
])
def test_the_better_half_goes_on(made, first, wanted):
  trials = made('compare.halving=true', 'train.eval_every=2',
                'compare.tune_seeds=2', FIVE)
  assert grids.early(trials.config) == 3
  tried = rates(grids.first(trials.config, 'momentum'))
  # Who is best in the end does not count, if he stopped.
  curve = lambda method, rate: [  # noqa: E731
      0.0, 0.1, first[tried.index(rate)], *[0.9 - rate / 1000] * 7]
  pair = trials.pairs()[0]
  assert len(trials.missing('early', pair)) == 10
  assert tune(trials, curve, ['early']) == 20
  assert rates(trials.lasting(pair)) == wanted
  assert len(trials.missing('tune', pair)) == 2 * len(wanted)
  tune(trials, curve)
  assert trials.chosen(pair).rate == wanted[0]
  assert len(trials.records) == 20 + 4 * len(wanted)


def test_whole_trials_hold_their_first_steps(made):
  """With halving switched on, nothing of a finished comparison is run again."""
  trials = made('train.eval_every=2', FIVE)
  curve = lambda method, rate: [0.3, 0.5, 0.6 - rate / 1000, 0.7]  # noqa: E731
  tune(trials, lambda *given: [*curve(*given), *[0.8] * 6])
  halved = Trials(trials.records, lab.load(
      trials.config, ['compare.halving=true']), trials.basis)
  assert not any(halved.missing(phase, pair) for phase in ('early', 'tune')
                 for pair in halved.pairs())
  assert rates(halved.lasting(halved.pairs()[0])) == (0.01, 0.1, 1.0)
  # A rate that diverges later had not done so then.
  pair = halved.pairs()[0]
  key = halved.key('tune', pair, Point(0.01), 0)
  halved.records[key] = record([0.3, 0.5, 0.9, 0.9, None])
  assert Point(0.01) in halved.lasting(pair)
  halved.records[key] = record([0.3, 0.5, None])
  assert Point(0.01) not in halved.lasting(pair)


def test_halved_grids_widen_too(made):
  trials = made('compare.halving=true', 'compare.extend=1',
                'train.eval_every=2', FIVE)
  assert tune(trials, lambda method, rate: [min(0.9, 0.2 + rate / 2000)] * 10
              ) == 2 * (5 + 3 + 1)
  pair = trials.pairs()[1]
  assert rates(trials.points(pair))[5:] == (1000.0,)
  assert rates(trials.lasting(pair)) == (1.0, 10.0, 100.0, 1000.0)


@pytest.mark.parametrize('overrides, words', [
    (['compare.extend=1', 'compare.learning_rates=[0.1]'],
     'compare.extend needs grids of three'),
    (['compare.halving=true', 'train.eval_every=10'],
     r'train.eval_every \(10\) must be at most 5')])
def test_what_cannot_be_searched_is_refused(tiny, overrides, words):
  with pytest.raises(lab.LabError, match=words):
    lab.load(tiny, overrides)


def test_a_comparison_that_searches_by_itself(tiny, tmp_path, gradnorm):
  """Interrupted, gone on with, reported again; short runs begin whole ones."""
  changes = ['compare.learning_rates=[0.0001, 0.001, 0.003]',
             'compare.extend=2', 'compare.halving=true', 'train.eval_every=5',
             'train.steps=40', 'compare.target=0.2']
  folder = tmp_path / 'run'
  done = comparison.run(lab.load(tiny, changes), folder, quiet=True)
  lines = (folder / 'trials.jsonl').read_text().splitlines(True)
  kept = [json.loads(line) for line in lines]
  short = [row for row in kept if row['phase'] == 'early']
  whole = {(row['method'], row['rate'], row['seed']): row for row in kept
           if row['phase'] == 'tune'}
  assert len(short) == 6 and len(whole) == 8  # 2 methods, of which 2, and 2
  begun = [row for row in short
           if (row['method'], row['rate'], row['seed']) in whole]
  assert len(begun) == 4
  for row in begun:
    history = whole[row['method'], row['rate'], row['seed']]['history']
    assert row['history'] == {
        name: values[:2] for name, values in history.items()}
  for row in done.summary.rows:
    assert {point.rate for point in row.sensitivity} == {
        0.001, 0.003, 0.009, 0.027}
  told = ' '.join(done.summary.notes)
  assert 'every grid widened: momentum 0.009, 0.027' in told
  assert 'stopped after 10 of 40 steps' in told
  assert 'momentum on small 0.0001;' in told
  # Killed while a grid was wider already.
  cut = tmp_path / 'cut'
  cut.mkdir()
  at = [row['phase'] == 'tune' and row['rate'] == 0.009
        for row in kept].index(True)
  (cut / 'trials.jsonl').write_text(''.join(lines[:at + 1]) + lines[at + 1][:9])
  again = comparison.run(lab.load(tiny, changes), cut, quiet=True)
  assert [row.rate for row in again.summary.rows] == [
      row.rate for row in done.summary.rows]
  assert len((cut / 'trials.jsonl').read_text().splitlines()) == len(lines)
  code, out, _ = gradnorm('report', cut)
  assert code == 0 and 'every grid widened' in out.replace('\n', ' ')
  found = lab.check(lab.load(tiny, changes), measure=False)
  assert (found.plan.trials, found.plan.short, found.plan.added) == (
      2 * (2 + 2), 6, 4)


