"""Comparisons side by side, and their trials as tables."""

import csv
import dataclasses
import json
import math
import sys

import numpy as np
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.comparison import beside, trials_file
from gradnorm_optax.lab.objective.quality import ACCURACY
from gradnorm_optax.lab.results import (
  beside as results,
  results_file,
  store,
  summary,
)
from gradnorm_optax.lab.support.errors import LabError


@pytest.fixture
def pair(finished, tmp_path):
  """The folder, and one of other data, score, rate and methods."""
  done = results_file.read(finished[1].folder)
  config = done.config.model_copy(update={
      'train': done.config.train.model_copy(update={'steps': 30})})
  measure = done.basis.measure._replace(name='macro F1')
  other = done._replace(
      config=config,
      basis=done.basis._replace(data='other', measure=measure),
      summary=dataclasses.replace(
          done.summary, measure=measure, steps=30,
          rows=(done.summary.rows[0], dataclasses.replace(
              done.summary.rows[1], method='third<'))))
  folder = tmp_path / 'other'
  folder.mkdir()
  results_file.write(folder, other)
  return finished[1].folder, folder


def test_rows_differences_and_warnings(pair):
  one, two = map(results_file.read, pair)
  found = results.put({'a': one, 'b': two})
  assert list(found.rows['small']) == ['momentum', 'clip_momentum', 'third<']
  assert [[row is not None for row in parts]
          for parts in found.rows['small'].values()] == [
              [True, True], [True, False], [False, True]]
  assert found.differences == {
      'data (digest)': [one.basis.data, 'other'],
      'score': ['accuracy', 'macro F1'], 'train.steps': ['20', '30']}
  config = one.config
  less = one._replace(config=config.model_copy(update={
      'methods': {'momentum': config.methods['momentum']}}))
  assert results.put({'a': one, 'b': less}).differences == {
      'methods.clip_momentum': ['there', 'not set']}
  scores, data = found.warnings
  assert 'a by accuracy; b by macro F1' in scores and 'a / b' in data
  same = results.put({'a': one, 'b': one})
  assert not same.warnings and not same.differences


def test_the_page_and_the_table(pair, gradnorm, tmp_path):
  page = tmp_path / 'page.html'
  code, out, err = gradnorm('report', *pair, '--out', page)
  assert code == 0, err
  row = results_file.read(pair[0]).summary.rows[0]
  text = page.read_text()
  for shown in (out, text):
    assert 'train.steps' in shown and 'Other data' in shown
    assert ACCURACY.show(row.score.mean) in shown
    assert results_file.read(pair[0]).summary.verdicts[0].text[:20] in shown
  assert 'third&lt;' in text and 'third<' in out and 'src=' not in text
  assert text.count('<svg role="img"') == 2
  code, _, err = gradnorm('report', pair[0], pair[0])
  assert code == 2 and 'given twice' in err
  code, _, err = gradnorm('report', *pair, '--export', 'x.csv')
  assert code == 2 and 'one FOLDER' in err
  assert lab.side_by_side(pair).found.rows
  with pytest.raises(LabError, match='no finished comparison here'):
    beside.put([pair[0], tmp_path])
  with pytest.raises(LabError, match='takes the name of a page'):
    beside.put(pair, tmp_path)


def test_groups_of_the_judged_examples_reach_the_verdict(finished, tmp_path):
  """Kept with the results, and read when they are judged again."""
  done = results_file.read(finished[1].folder)
  pair, *_ = results_file.trials(finished[1].folder, done).pairs()
  shown = results_file.trials(
      finished[1].folder, done).answers(pair).evidence[0]
  groups = tuple(i // 9 for i in range(len(shown)))
  results_file.write(tmp_path, done._replace(
      basis=done.basis._replace(groups=groups)))
  again = results_file.read(tmp_path)
  assert again.basis.groups == groups
  answers = results_file.trials(finished[1].folder, again).answers(pair)
  assert answers.pseudo_values().shape == (2, groups[-1] + 1)
  lone = summary.summarize(results_file.trials(
      finished[1].folder, done._replace(
          basis=done.basis._replace(groups=(0,) * len(groups)))))
  assert any('one group of data.group' in note for note in lone.notes)


def test_trials_as_csv_and_parquet(finished, gradnorm, tmp_path):
  import pandas
  folder = finished[1].folder
  code, out, err = gradnorm(
      'report', folder, '--export', tmp_path / 'trials.csv')
  assert code == 0 and '10 trials' in out, err
  with (tmp_path / 'trials.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  kept = [row for row in store.finished(folder).values()
          if row['phase'] in ('tune', 'final')]
  assert {row['key'] for row in rows} == {row['fingerprint'] for row in kept}
  assert list(rows[0]) == list(trials_file.COLUMNS)
  by_key = {row['fingerprint']: row for row in kept}
  for row in rows:
    record = by_key[row['key']]
    assert float(row['validation_score']) == record['history']['score'][-1]
    assert float(row['learning_rate']) == record['rate']
    assert (row['steps'], row['phase']) == ('20', record['phase'])
    assert row['test_score'] == (
        str(record['test']['score']) if record['phase'] == 'final' else '')
  # The chosen rate of every method is that of the report.
  assert {(row['method'], float(row['learning_rate'])) for row in rows
          if row['chosen'] == 'True'} == {
              (row.method, row.rate) for row in finished[1].summary.rows}
  assert trials_file.write(folder, tmp_path / 'trials.parquet') == 10
  frame = pandas.read_parquet(tmp_path / 'trials.parquet')
  assert list(frame.columns) == list(trials_file.COLUMNS)
  assert frame['diverged'].dtype == bool and frame['seed'].dtype == np.int64
  np.testing.assert_array_equal(
      frame['validation_score'],
      [float(row['validation_score']) for row in rows])
  assert frame['test_score'].isna().sum() == 6


def test_a_diverged_trial_has_no_figures_but_its_steps(
    finished, tmp_path):
  folder = tmp_path / 'run'
  folder.mkdir()
  source = finished[1].folder
  (folder / 'results.json').write_bytes((source / 'results.json').read_bytes())
  lines = []
  for line in (source / 'trials.jsonl').read_text().splitlines():
    row = json.loads(line)
    if row['phase'] == 'final' and row['seed'] == 1000:
      row |= {'diverged': True, 'test': None, 'history': {
          'score': [0.5], 'loss': [math.nan], 'train_loss': [None]}}
    lines.append(json.dumps(row) + '\n')
  (folder / 'trials.jsonl').write_text(''.join(lines))
  lost = [row for row in trials_file.rows(folder) if row['diverged']]
  assert len(lost) == 2
  for row in lost:
    assert row['steps'] == 10 and row['validation_loss'] is None
    assert row['train_loss'] is None and row['test_score'] is None


def test_what_cannot_be_exported(finished, tmp_path, monkeypatch):
  with pytest.raises(LabError, match='write .csv or .parquet'):
    trials_file.write(finished[1].folder, tmp_path / 'trials.txt')
  monkeypatch.setitem(sys.modules, 'pyarrow', None)
  with pytest.raises(LabError, match='pip install pyarrow, or write .csv'):
    trials_file.write(finished[1].folder, tmp_path / 'trials.parquet')
  assert not list(tmp_path.iterdir())
