"""Recurrent nets, long dependencies and chosen examples through the lab."""

import json
import shutil

import jax
import numpy as np
import pytest

from gradnorm_optax import lab

CONFIG = {
    'name': 'recurrent',
    'data': {'source': 'long_dependency', 'task': 'temporal_order',
             'length': 20, 'sizes': [80, 40, 60]},
    'models': {'srn': {'kind': 'recurrent', 'width': 8, 'scale': 0.7}},
    'methods': {
        'random': {'optimizer': 'momentum', 'sampling': {
            'size': 4, 'rule': 'random'}},
        'sgr': {'optimizer': 'momentum', 'clip': 1.0, 'sampling': {'size': 4}},
        'pascanu': {'optimizer': 'momentum', 'pascanu': 1.0}},
    'train': {'steps': 20, 'eval_every': 5, 'batch_size': 12},
    'run': {'method': 'sgr', 'learning_rate': 1e-3},
    'compare': {'learning_rates': [1e-3], 'tune_seeds': 1, 'seeds': 2,
                'timing_rounds': 2, 'workers': 1}}


def test_compare_shows_the_gradient_through_time(tmp_path):
  done = lab.compare(CONFIG, out=tmp_path, quiet=True)
  rows = [json.loads(line)
          for line in (tmp_path / 'trials.jsonl').read_text().splitlines()]
  for row in rows:
    if row['phase'] not in ('tune', 'final'):
      continue
    acted = row['history'].get('acted')
    assert (acted is None) == (row['method'] == 'pascanu')
    if row['method'] == 'random':
      assert set(acted) == {0.0}
    if row['method'] == 'sgr':
      assert max(acted) > 0.5
    if row['phase'] == 'final':
      assert list(row['profile']) == ['5', '10', '15', '20']
      assert all(len(norms) == 20 for norms in row['profile'].values())
      # It vanishes backwards from such a start.
      assert row['profile']['5'][0] < row['profile']['5'][-1] - 1
  assert set(done.profiles['srn']) == set(CONFIG['methods'])
  page = (tmp_path / 'report.html').read_text()
  assert 'through time' in page
  sgr = next(row for row in done.summary.rows if row.method == 'sgr')
  assert sgr.bare == 'random' and sgr.acted > 0.5


def test_train_logs_its_choices_and_goes_on_after_a_crash(tmp_path):
  done = lab.train(CONFIG, out=tmp_path, quiet=True)
  names = 'selection.jsonl', 'through_time.jsonl', 'metrics.jsonl'
  first = {name: (tmp_path / name).read_text() for name in names}
  lines = [json.loads(line) for line in first[names[0]].splitlines()]
  assert [line['step'] for line in lines] == list(range(1, 21))
  assert all(len(line['kept']) == 4 and len(line['left']) == 8
             for line in lines)
  assert [row['step'] for row in done.profiles] == [5, 10, 15, 20]
  assert {len(row['log_norms']) for row in done.profiles} == {20}
  assert done.rows[-1]['acted'] > 0
  # As if killed after step 20 was logged and before it was saved.
  shutil.rmtree(tmp_path / 'checkpoints' / '20')
  (tmp_path / names[0]).write_text(first[names[0]] + '{"step": 21, "mo')
  again = lab.train(CONFIG, out=tmp_path, quiet=True)
  for name in names[:2]:
    assert (tmp_path / name).read_text() == first[name]
  assert [row['step'] for row in again.rows] == [5, 10, 15, 20]
  jax.tree.map(np.testing.assert_array_equal, again.params, done.params)


def test_trials_share_a_call_too(tmp_path):
  """As on an accelerator: same choices, whatever else is in the batch."""
  found = [lab.compare(
      CONFIG, [f'compare.trials_per_call={count}'], out=tmp_path / str(count),
      quiet=True).summary.rows for count in (1, 2)]
  for one, other in zip(*found, strict=True):
    for a, b in zip(one.runs, other.runs, strict=True):
      assert a.final_loss == pytest.approx(b.final_loss, rel=1e-3)
