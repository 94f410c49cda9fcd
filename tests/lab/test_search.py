"""`[compare.search]`: more than the rate is searched, by as many points."""

import csv
import math

import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.comparison import comparison, missing, trials_file
from gradnorm_optax.lab.methods import search_space
from gradnorm_optax.lab.methods.search_space import Point
from gradnorm_optax.lab.results import budget, grids, results_file
from gradnorm_optax.lab.results.trials import Trials
from gradnorm_optax.lab.support.errors import LabError

SEARCH = {
    'points': 12, 'learning_rate': {'low': 1e-4, 'high': 0.1},
    'options.weight_decay': [0.0, 1e-4, 1e-2], 'options.b2': {
        'low': 0.9, 'high': 0.9995}, 'train.warmup': [0.0, 0.1]}


@pytest.fixture(scope='module')
def basis(finished):
  """What a comparison here rests on, without code of its own."""
  return results_file.read(finished[1].folder).basis._replace(own={
      'm': {name: [] for name in ('adam', 'adamw', 'own')}})


def config(search=SEARCH, **methods):
  return lab.load({
      'name': 'n', 'data': {'source': 'digits'},
      'models': {'m': {'kind': 'mlp'}}, 'methods': methods or {
          'adam': {'optimizer': 'adam'}, 'adamw': {'optimizer': 'adamw'},
          'own': {'optimizer': 'adamw', 'search': {
              'learning_rate': {'low': 1e-3, 'high': 1.0},
              'clip': [0.5, 1.0]}}},
      'train': {'steps': 40, 'eval_every': 10},
      'compare': {'search': search, 'tune_seeds': 1}})


def test_all_methods_have_as_many_points_in_their_ranges():
  asked = config()
  found = {name: grids.first(asked, name) for name in asked.methods}
  for points in found.values():
    assert len(set(points)) == 12
  # In what two methods share, they share the points.
  assert [dict(point.settings) | {'options.weight_decay': None}
          for point in found['adam']] == [
              dict(point.settings) | {'options.weight_decay': None}
              for point in found['adamw']]
  assert [point.rate for point in found['own']] == pytest.approx(
      [10 * point.rate for point in found['adam']])
  assert search_space.unknown(asked, 'adam') == ['options.weight_decay']
  assert {key for point in found['own'] for key, _ in point.settings} == {
      'options.weight_decay', 'options.b2', 'train.warmup', 'clip'}
  for points in found.values():
    assert {one.rate < 10 ** -2.5 for one in points} == {True, False}
    assert all(0.9 <= dict(one.settings)['options.b2'] <= 0.9995
               for one in points)
  # Each third of the rates' range has its third of the points.
  thirds = [math.floor(one.rate and math.log10(one.rate) + 4)
            for one in found['adam']]
  assert {thirds.count(at) for at in range(3)} == {4}


def test_fewer_points_are_the_first_ones():
  asked = config()
  few = budget.restricted(asked, budget.asked(asked)._replace(rates=5))
  for name in asked.methods:
    assert len(grids.first(few, name)) == 5
    assert set(grids.first(few, name)) < set(grids.first(asked, name))
  other = config(SEARCH | {'seed': 1})
  assert not set(grids.first(other, 'adam')) & set(grids.first(asked, 'adam'))


def test_a_point_is_the_trial_that_its_tables_would_be(basis):
  """No fingerprint is changed by a search, nor by none."""
  point = Point(0.01, (('options.b2', 0.99), ('train.warmup', 0.1)))
  asked = config(adam={'optimizer': 'adam'})
  written = config(adam={'optimizer': 'adam', 'options': {'b2': 0.99}})
  written = lab.load(written, ['train.warmup=0.1'])
  plain = written.model_copy(update={
      'compare': written.compare.model_copy(update={'search': None})})
  assert 'search' not in plain.model_dump_json()
  pair = Trials({}, asked, basis).pairs()[0]
  assert Trials({}, asked, basis).key('tune', pair, point, 0) == Trials(
      {}, plain, basis).key('tune', pair, Point(0.01), 0)
  assert Point.of(point.record() | {'seed': 0}) == point


def test_calls_and_programs_go_by_settings(basis):
  """A call holds what differs in the rate alone; a program is made once."""
  trials = Trials({}, config(
      {name: SEARCH[name] for name in ('points', 'learning_rate')} | {
          'options.weight_decay': [0.0, 1e-2], 'train.warmup': [0.0, 0.1]},
      adamw={'optimizer': 'adamw'}), basis)
  calls = list(missing.calls(trials, 'tune', 100))
  assert sum(len(call.points) for call in calls) == 12
  assert all(len({point.settings for point in call.points}) == 1
             for call in calls)
  jobs = [job for job in missing.jobs(trials) if not job.timed]
  assert len(jobs) == len(calls) == 4
  assert {(job.method.options['weight_decay'], job.train.warmup)
          for job in jobs} == {(a, b) for a in (0.0, 1e-2) for b in (0.0, 0.1)}


@pytest.mark.parametrize('place, edge', [
    (0.0, True), (0.15, True), (0.2, False), (0.8, False), (0.85, True)])
def test_the_edge_is_the_outermost_sixth(basis, place, edge):
  trials = Trials({}, config(), basis)
  own = next(pair for pair in trials.pairs() if pair.method == 'own')
  assert trials.at_edge(own, Point(1e-3 * 1000 ** place)) == edge


@pytest.mark.parametrize('change, words', [
    ({'learning_rate': [0.1]}, 'learning_rate'),
    ({'learning_rate': {'low': 0.1, 'high': 0.1}}, 'must be below high'),
    ({'points': 2}, 'greater than or equal to 3'),
    ({'clip': {'low': 0, 'high': 1}}, r'takes a list, or \{ low'),
    ({'clip': [1.0, 1.0]}, 'listed twice'),
    ({'clip': []}, 'takes a list'),
    ({'train.warmup': [1.5]}, r'train.warmup = 1.5: input should be less'),
    ({'train.steps': [10]}, "unknown key 'steps'"),
    ({'train.schedule': ['cosin']}, "train.schedule = 'cosin'"),
])
def test_mistakes_are_named(change, words):
  with pytest.raises(LabError, match=words):
    config(SEARCH | change)


@pytest.mark.parametrize('overrides, words', [
    (['compare.extend=1'], 'extend has no effect here'),
    (['compare.learning_rates=[0.1]'], 'learning_rates has no effect here'),
    (['methods.adam.learning_rates=[0.1, 0.2, 0.3]'],
     'write methods.adam.search.learning_rate'),
])
def test_what_does_not_go_with_a_search_is_refused(overrides, words):
  with pytest.raises(LabError, match=words):
    lab.load(config(), overrides)


def test_ranges_of_a_method_need_a_search():
  with pytest.raises(LabError, match=r'belongs to \[compare.search\]'):
    lab.load({'name': 'n', 'models': {'m': {'kind': 'mlp'}}, 'methods': {
        'a': {'optimizer': 'adam', 'search': {'clip': [1.0]}}}})


@pytest.mark.parametrize('change, words', [
    ({'options.momentun': [0.9]}, r'\[compare.search\] options.momentun: no '),
    ({'options.b2': [0.9, 'much']}, r'\[methods.adam\] at .*b2 = much.* of '),
])
def test_check_finds_what_no_method_takes(change, words):
  with pytest.raises(LabError, match=words):
    lab.check(config(
        {**SEARCH, **change}, adam={'optimizer': 'adam'}), measure=False)


def test_a_search_from_its_first_trial_to_its_page(tmp_path):
  asked = lab.load({
      'name': 'n', 'data': {'source': 'digits'},
      'models': {'m': {'kind': 'mlp', 'depth': 1, 'width': 4}},
      'methods': {'sgd': {'optimizer': 'sgd'}, 'adamw': {'optimizer': 'adamw'}},
      'train': {'steps': 20, 'eval_every': 10}, 'compare': {
          'seeds': 2, 'tune_seeds': 1, 'look': 0, 'timing_rounds': 2,
          'search': {'points': 3, 'learning_rate': {'low': 0.01, 'high': 1.0},
                     'options.weight_decay': [0.0, 0.5]}}})
  folder = tmp_path / 'run'
  done = comparison.run(asked, folder, quiet=True)
  lines = (folder / 'trials.jsonl').read_text()
  sgd, adamw = done.summary.rows
  assert sgd.settings == {} and set(adamw.settings) == {'options.weight_decay'}
  assert len(sgd.sensitivity) == len(adamw.sensitivity) == 3
  assert any((adamw.rate, adamw.settings) == (point.rate, point.settings)
             for point in adamw.sensitivity)
  notes = ' '.join(done.summary.notes)
  assert '3 quasi-random points of every method' in notes
  assert 'options.weight_decay of sgd' in notes
  page = (folder / 'report.html').read_text()
  assert 'the best of 3 points' in page and 'What else was searched' in page
  assert (folder / 'search.svg').exists()
  assert results_file.read(folder).summary.rows[1].settings == adamw.settings
  # Nothing is run again, and the table of trials says the settings.
  comparison.run(asked, folder, quiet=True)
  assert (folder / 'trials.jsonl').read_text() == lines
  trials_file.write(folder, tmp_path / 'trials.csv')
  with open(tmp_path / 'trials.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert {(row['method'], row['options.weight_decay'] == '')
          for row in rows} == {('sgd', True), ('adamw', False)}
  assert {row['options.weight_decay'] for row in rows
          if row['phase'] == 'final' and row['method'] == 'adamw'} == {
              str(adamw.settings['options.weight_decay'])}
