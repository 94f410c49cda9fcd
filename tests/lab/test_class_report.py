"""Uneven classes from the data to the report: scores, recall, confusion."""

import numpy as np
import pytest
from sklearn import metrics

from gradnorm_optax import lab
from gradnorm_optax.lab.objective import evidence
from gradnorm_optax.lab.objective.rule import Rule
from gradnorm_optax.lab.reporting import class_tables
from gradnorm_optax.lab.results import results_file
from gradnorm_optax.lab.results.findings import Confusion
from gradnorm_optax.lab.results.trials import Pair

HERE = __name__


def rare():
  """One of ten is a defect."""
  rng = np.random.default_rng(2)
  y = np.where(np.arange(600) % 10 == 0, 'defect', 'ok')
  x = rng.normal(size=(600, 3))
  x[:, 0] += 2.5 * (y == 'defect')
  return x, y


CONFIG = {
    'data': {'source': 'function', 'target': f'{HERE}:rare'},
    'models': {'net': {'kind': 'mlp', 'depth': 1, 'width': 8}},
    'methods': {'adam': {'optimizer': 'adam'},
                'bng': {'optimizer': 'adam', 'normalize': 'bng'}},
    'train': {'steps': 40, 'eval_every': 20, 'class_weight': 'balanced'},
    'compare': {'learning_rates': [0.03], 'tune_seeds': 1, 'seeds': 2,
                'timing_rounds': 2, 'look': 0, 'workers': 2}}


@pytest.mark.parametrize('score, per_call', [(None, 1), ('auc', 2)])
def test_from_the_data_to_the_report(tmp_path, score, per_call):
  """In two threads, and two trials in a call."""
  done = lab.compare({
      **CONFIG, 'train': {**CONFIG['train'], **({'score': score} if score else {
      })}, 'compare': {**CONFIG['compare'], 'trials_per_call': per_call}},
      out=tmp_path / 'run', quiet=True)
  trials = results_file.trials(tmp_path / 'run', results_file.read(
      tmp_path / 'run'))
  assert done.summary.classes == ('defect', 'ok')
  assert done.summary.positive == (None if score is None else 'defect')
  for row in done.summary.rows:
    assert row.trains
    found = row.confusion
    assert found.labels == (18, 162)  # 9 and 81 in each of two runs
    assert [sum(one) for one in found.answers] == [18, 162]
    if score is None:  # the mean over the seeds, for all have the same labels
      assert row.score.mean == pytest.approx(
          np.divide(found.right, found.labels).mean())
    # What was computed while training is what is read of the answers.
    pair = Pair('net', row.method)
    answers = trials.answers(pair)
    for run, kept in zip(row.runs, answers.evidence, strict=True):
      y, outputs = kept[:, 0].astype(int), kept[:, 1:]
      assert run.test_score == pytest.approx(
          metrics.balanced_accuracy_score(y, outputs.argmax(1))
          if score is None else metrics.roc_auc_score(
              y == 0, outputs[:, 0] - outputs[:, 1]), rel=1e-5)
    assert answers.scores() == pytest.approx(
        [run.test_score for run in row.runs], rel=1e-5)
    assert row.score.low <= row.score.mean <= row.score.high
  page = (done.folder / 'report.html').read_text()
  assert '<h2>Classes</h2>' in page and 'confusion matrices' in page
  assert ('looks for "defect"' in page) == (score == 'auc')
  assert 'judged by balanced accuracy' in page or score
  assert '<td>defect</td><td>9</td>' in page
  assert lab.report(done.folder).summary == done.summary


def test_one_run(tmp_path):
  done = lab.train({**CONFIG, 'train': {**CONFIG['train'], 'score': 'auc'}},
                   out=tmp_path / 'run', quiet=True)
  assert done.measure.name == 'AUC' and 0.8 < done.test['score'] <= 1
  assert 0.5 < done.rows[-1]['validation_score'] <= 1


@pytest.mark.parametrize('rule', [Rule('mean', 3), Rule('auc', 3)])
def test_counts_of_answers(rule):
  """Positions too: what is padding, or has no label, is not counted."""
  rng = np.random.default_rng(0)
  y = rng.integers(-1, 3, size=(2, 20, 4))
  outputs = rng.normal(size=(2, 20, 4, 3)).astype(np.float32)
  answers = outputs.argmax(-1)
  runs = []
  for labels, out, found in zip(y, outputs, answers, strict=True):
    if rule.name == 'mean':
      right = ((labels == found) & (labels >= 0)).sum(1)
      both = np.stack([labels, found], -1).reshape(20, -1)
      runs.append(np.column_stack([right, (labels >= 0).sum(1), both]))
    else:
      runs.append(np.concatenate([labels[..., None], out], -1).reshape(20, -1))
  held = y >= 0
  np.testing.assert_array_equal(
      evidence.confusion(rule, runs),
      metrics.confusion_matrix(y[held], answers[held]))
  if rule.name == 'mean':
    assert evidence.score_of(rule)(runs[0]) == pytest.approx(
        (y[0] == answers[0])[held[0]].mean())
  assert evidence.confusion(Rule(), runs) is None


def test_many_classes_have_recalls_alone():
  counts = np.diag(np.arange(40)) + np.eye(40, k=1, dtype=int)
  found = Confusion.of(counts)
  assert found.answers is None and found.right == tuple(range(40))
  assert found.labels == (*range(1, 40), 39)


def test_tables_of_classes(finished):
  """Of digits, whose names are numbers: as often right as accuracy says."""
  done = finished[1]
  table, = class_tables.tables(done.summary)
  assert [name for name, *_ in table.rows] == list('0123456789')
  assert table.methods == [row.method for row in done.summary.rows]
  labels = np.array([one for _, one, _ in table.rows])
  recalls = np.array([one for *_, one in table.rows])
  np.testing.assert_allclose(
      labels @ recalls / labels.sum(),
      [row.score.mean for row in done.summary.rows], rtol=1e-6)
