"""Finished trials answer without data and models, here and elsewhere."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.models import nets
from gradnorm_optax.lab.results import results_file as finished_lib
from gradnorm_optax.lab.results.costs import Clock
from gradnorm_optax.lab.results.findings import Point, Row, Run, Summary
from gradnorm_optax.lab.results.stats import Interval
from gradnorm_optax.lab.results.summary import summarize
from gradnorm_optax.lab.results.trials import Trials
from gradnorm_optax.lab.results.verdict import judge
from gradnorm_optax.lab.support import packed, user_code
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.support.json_safe import plain


def same(one, other):
  """Equality of records in which NaN equals itself."""
  assert type(one) is type(other), (one, other)
  if dataclasses.is_dataclass(one):
    for field in dataclasses.fields(one):
      same(getattr(one, field.name), getattr(other, field.name))
  elif isinstance(one, tuple):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
      same(a, b)
  elif isinstance(one, float):
    np.testing.assert_equal(one, other)
  else:
    assert one == other


def test_results_are_read_back_as_they_were(finished):
  found = finished_lib.read(finished[1].folder)
  same(found.summary, finished[1].summary)
  assert found.config == finished[1].config


def test_what_is_not_finite_is_read_back_as_it_was(finished, tmp_path):
  nan, inf = float('nan'), float('inf')
  run = Run(1000, True, 0.0, inf, inf, (0.25,), nan)
  row = Row('m', 'a', 0.1, False, True, Interval(0.5, nan, nan), nan, inf, 0,
            inf, 1, 1, nan, inf, 0.01, None, None,
            (Point(0.1, nan, 2),), (run,), nan, acted=None, rounds=(0.5, 2.0))
  clock = Clock(0.01, 'adam', (1.0, 1.5, 2.0))
  row = dataclasses.replace(
      row, bare=clock.bare, overhead=clock.overhead, difference=Interval(
          0.0, -1.0, 1.0))
  done = finished_lib.read(finished[1].folder)
  summary = Summary(
      'n', 't', 'd', 0.1, 0.9, 100, 50, 1, 1, (row,),
      (judge([row], None, None),))
  finished_lib.write(tmp_path, done._replace(summary=summary))
  same(finished_lib.read(tmp_path).summary, summary)


def test_a_copied_folder_is_judged_without_its_data(
    finished, tmp_path, monkeypatch, gradnorm):
  """As on another machine: other versions, no data, no code of the user's."""
  there = tmp_path / 'copy'
  shutil.copytree(finished[1].folder, there)
  for name in ('report.html', 'curves.svg', 'config.toml'):
    (there / name).unlink()
  content = json.loads((there / 'results.json').read_text())
  content['summary']['verdicts'] = []  # as of older rules
  (there / 'results.json').write_text(json.dumps(content))
  # Whoever loads data, builds a model or imports the user's code fails here.
  for module, name in ((sources, 'load'), (nets, 'make'),
                       (user_code, 'resolve')):
    monkeypatch.setattr(module, name, None)
  for name in ('versions', 'machine', 'source_digest'):
    monkeypatch.setattr(
        f'gradnorm_optax.lab.support.provenance.{name}', lambda: 'other')
  code, out, err = gradnorm('report', there)
  assert code == 0 and 'momentum' in out and not err
  found = finished_lib.read(there)
  same(found.summary, finished[1].summary)
  for name in ('report.html', 'curves.svg', 'config.toml'):
    assert (there / name).exists()
  # What the trials were made with is still said, not what judged them.
  assert found.basis == finished_lib.read(finished[1].folder).basis
  again = lab.report(there)
  assert plain(again.profiles) == plain(finished[1].profiles)
  for one, other in zip(again.looks, finished[1].looks, strict=True):
    np.testing.assert_array_equal(one.gradient, other.gradient)


@pytest.mark.parametrize('changes', [
    {'together': True}, {'code': 'other'}, {'versions': {'jax': '0.1'}},
    {'arithmetic': {'device': 'NVIDIA H100 80GB HBM3'}},
    {'arithmetic': {'device': 'cpu', 'threads': '8'}}])
def test_trials_made_otherwise_are_not_mixed(finished, changes):
  folder = finished[1].folder
  found = finished_lib.read(folder)
  trials = finished_lib.trials(folder, found)
  pair = trials.pairs()[0]
  assert not trials.missing('tune', pair)
  assert found.basis.arithmetic['device'] == 'cpu'
  other = Trials(trials.records, trials.config, found.basis._replace(**changes))
  assert len(other.missing('tune', pair)) == 3


def test_a_folder_that_is_not_finished_is_refused(finished, tmp_path):
  with pytest.raises(LabError, match='no finished comparison here'):
    lab.report(tmp_path)
  (tmp_path / 'results.json').write_text('{"test": {}}')
  with pytest.raises(LabError, match='not written by gradnorm compare of this'):
    lab.report(tmp_path)
  shutil.copy(finished[1].folder / 'results.json', tmp_path)
  lines = (finished[1].folder / 'trials.jsonl').read_text().splitlines(True)
  kept = [line for line in lines if '"phase": "tune"' in line]
  (tmp_path / 'trials.jsonl').write_text(''.join(kept))
  lost = sum('"phase": "final"' in line for line in lines)
  with pytest.raises(LabError, match=f': {lost} trials of results.json are'):
    lab.report(tmp_path)
  timed = [line for line in lines if '"phase": "timing"' not in line]
  (tmp_path / 'trials.jsonl').write_text(''.join(timed))
  with pytest.raises(LabError, match="the steps of 'small' are not timed"):
    lab.report(tmp_path)


def record(score, loss=1.0):
  return {'diverged': False, 'seed': 0, 'test': None, 'history': {
      'score': [score], 'loss': [loss], 'train_loss': [loss]}}


@pytest.mark.parametrize('scores, losses, chosen, edge', [
    ((0.5, 0.9, 0.7), (1.0, 1.0, 1.0), 0.1, False),
    ((0.9, 0.9, 0.7), (1.0, 0.5, 0.1), 0.1, False),  # a tie: the lower loss
    ((0.9, 0.9, 0.9), (1.0, 1.0, 0.1), 0.1, False),  # of equals the inner one
    ((0.9, 0.5, 0.9), (1.0, 1.0, 0.1), 1.0, True),
    ((0.9, 0.5, 0.9), (1.0, 1.0, 1.0), 0.01, True),  # the first in the list
    ((0.5, 0.6, 0.7), (1.0, 1.0, 1.0), 1.0, True),
])
def test_the_chosen_rate_and_its_edge(
    finished, scores, losses, chosen, edge):
  """By mean score; ties by loss; the outermost rates are edges."""
  _, done = finished
  read = finished_lib.read(done.folder)
  trials = finished_lib.trials(done.folder, read)
  pair = trials.pairs()[0]
  records = dict(trials.records)
  for rate, score, loss in zip(
      trials.points(pair), scores, losses, strict=True):
    for seed in trials.seeds('tune'):
      records[trials.key('tune', pair, rate, seed)] = record(score, loss)
  asked = type(trials)(records, trials.config, trials.basis)
  assert asked.chosen(pair).rate == chosen
  rates = sorted(point.rate for point in asked.points(pair))
  assert (chosen in (rates[0], rates[-1])) == edge
  point = asked.chosen(pair)
  for seed in asked.seeds('final'):  # as if that rate had been run
    records[asked.key('final', pair, point, seed)] = record(0.5) | {
        'seed': seed, 'evidence': packed.pack(np.ones((270, 2)))}
  row, = (row for row in summarize(asked).rows if row.method == pair.method)
  assert (row.rate, row.edge) == (chosen, edge)


def test_another_configuration_overwrites_no_report(
    finished, tmp_path, gradnorm):
  path, done = finished
  there = shutil.copytree(done.folder, tmp_path / 'copy')
  page = (there / 'report.html').read_bytes()
  code, out, _ = gradnorm(
      'compare', path, '--out', there, '--set', 'compare.target=0.5')
  assert code == 0
  earlier, = (there / 'earlier').iterdir()
  assert str(earlier) in out.replace('\n', '')
  assert (earlier / 'report.html').read_bytes() == page
  assert (earlier / 'config.toml').read_bytes() == (
      done.folder / 'config.toml').read_bytes()
  assert (earlier / 'curves.png').exists()
  assert (there / 'report.html').read_bytes() != page
  # The same again moves nothing.
  code, out, _ = gradnorm(
      'compare', path, '--out', there, '--set', 'compare.target=0.5')
  assert code == 0 and 'earlier' not in out
  assert len(list((there / 'earlier').iterdir())) == 1


def test_what_is_no_report_stays_where_it_is(finished, tmp_path):
  """The user's own configuration and pictures in the folder."""
  path, done = finished
  there = tmp_path / 'mine'
  there.mkdir()
  shutil.copy(done.folder / 'trials.jsonl', there)
  shutil.copy(path, there / 'config.toml')
  (there / 'mine.png').write_bytes(b'a picture')
  found = lab.compare(path, out=there, quiet=True)
  assert found.earlier is None and not (there / 'earlier').exists()
  assert (there / 'mine.png').read_bytes() == b'a picture'
  # What no version of today reads is a report all the same.
  (there / 'results.json').write_text('[')
  found = lab.compare(path, out=there, quiet=True)
  assert (found.earlier / 'results.json').read_text() == '['
