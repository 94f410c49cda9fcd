"""The search of the studies: equal, widened at edges, resumed, refused."""

import json

import numpy as np
import pytest

from benchmarks.evidence.studies.book import Book
from benchmarks.evidence.studies.search import Plan, merit, search

PLAN = Plan(arms=('a', 'b'), rates=(0.1, 1.0, 10.0), tune_seeds=2, seeds=3,
            widen=3, group=4)
PEAKS = {'a': 100.0, 'b': 1.0}  # a's best rate lies beyond the grid


class Runs:
  """A run whose score peaks at a rate, and which counts what it is given."""

  def __init__(self, diverges=()):
    self.pairs, self.diverges = [], diverges

  def __call__(self, arm, phase, rates, seeds):
    self.pairs += [(arm, phase, rate, seed)
                   for rate, seed in zip(rates, seeds, strict=True)]
    return [(np.nan if (arm, round(rate, 6)) in self.diverges else
             -abs(np.log10(rate / PEAKS[arm])) + seed / 1e6, {'phase': phase})
            for rate, seed in zip(rates, seeds, strict=True)]


def book(path, **settings):
  return Book(path, 'name', 'what', True, settings)


def test_every_arm_is_searched_on_one_grid_that_grows_at_its_edges(tmp_path):
  best = search(book(tmp_path / 'x.json'), PLAN, Runs())
  assert best == pytest.approx(PEAKS)
  kept = json.loads((tmp_path / 'x.json').read_text())
  for arm in PLAN.arms:
    tuned = {(round(t['rate'], 6), t['seed']) for t in kept['trials']
             if (t['arm'], t['phase']) == (arm, 'tune')}
    # Two points above, for both; none below.
    assert tuned == {(rate, seed) for rate in (0.1, 1.0, 10.0, 100.0, 1000.0)
                     for seed in (0, 1)}
    final = [(t['rate'], t['seed']) for t in kept['trials']
             if (t['arm'], t['phase']) == (arm, 'final')]
    assert final == [(pytest.approx(PEAKS[arm]), seed)
                     for seed in (1000, 1001, 1002)]
  assert kept['trials'][0]['extra'] == {'phase': 'tune'}
  assert {'versions', 'machine', 'seconds', 'study', 'measure'} <= set(kept)


def test_what_is_kept_is_not_run_again(tmp_path):
  path = tmp_path / 'x.json'
  search(book(path), PLAN, Runs())
  whole = path.read_text()
  again = Runs()
  search(book(path), PLAN, again)
  assert not again.pairs and path.read_text() == whole
  kept = json.loads(whole)
  gone = kept['trials'].pop()
  path.write_text(json.dumps(kept))
  search(book(path), PLAN, again)
  assert set(again.pairs) == {
      (gone['arm'], 'final', gone['rate'], gone['seed'])}
  assert json.loads(path.read_text())['trials'][-1] == gone


def test_a_diverged_run_spoils_its_rate(tmp_path):
  here = book(tmp_path / 'x.json')
  best = search(here, PLAN, Runs(diverges={('b', 1.0)}))
  assert best['b'] == pytest.approx(0.1)
  assert merit(here, 'b', 1.0) == -np.inf
  assert here.find('tune', 'b', 1.0, 0)['value'] is None


def test_smaller_is_better_where_it_says_so_and_some_arms_are_judged(tmp_path):
  def loss(arm, phase, rates, seeds):
    return [(-value, extra) for value, extra in Runs()(
        arm, phase, rates, seeds)]

  here = Book(tmp_path / 'x.json', 'name', 'what', False, {})
  best = search(here, PLAN, loss, lambda best: ['b'])
  assert best == pytest.approx(PEAKS)
  assert {t['arm'] for t in here.trials if t['phase'] == 'final'} == {'b'}


def test_other_settings_are_refused(tmp_path):
  search(book(tmp_path / 'x.json', steps=1), PLAN, Runs())
  book(tmp_path / 'x.json', steps=1)
  with pytest.raises(SystemExit, match='other settings than the study'):
    book(tmp_path / 'x.json', steps=2)


def test_a_file_says_whether_it_is_complete(tmp_path):
  path = tmp_path / 'x.json'
  search(book(path), PLAN, Runs())
  kept = json.loads(path.read_text())
  assert kept['complete']
  book(path).add([kept['trials'][0] | {'seed': 7}])
  assert not json.loads(path.read_text())['complete']
