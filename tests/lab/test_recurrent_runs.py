"""Recurrent nets, long dependencies and chosen examples through the lab."""

import json
import shutil

import jax
import numpy as np
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.comparison import model_programs
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.results import time_ratio
from gradnorm_optax.lab.run import compiled_run as trainer_lib
from gradnorm_optax.lab.support import errors
from gradnorm_optax.lab.training import pascanu

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
                'timing_rounds': 2, 'workers': 1, 'look': 0}}


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
  # Steps that act and steps that do not count by their share.
  times, = (row['rounds'] for row in rows if row['phase'] == 'timing')
  assert set(times) >= {'sgr, acting', 'sgr, in range'}
  times['sgr'] = (
      sgr.acted * np.array(times.pop('sgr, acting'))
      + (1 - sgr.acted) * np.array(times.pop('sgr, in range'))).tolist()
  assert sgr.step_seconds == pytest.approx(
      np.median(time_ratio.level(times)['sgr']))


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


def test_trials_share_a_call_too():
  """As on an accelerator: same choices, whatever else is in the batch."""
  config = lab.load(CONFIG)
  dataset = sources.load(config.data, config.train)
  alone, shared = (
      model_programs.Bench(config.models['srn'], dataset, config.train, batch)
      for batch in (1, 2))
  sgr, seeds = config.methods['sgr'], (0, 1)
  both = shared.run(sgr, (1e-3, 1e-3), seeds, test=False)
  for seed, got in zip(seeds, both, strict=True):
    want, = alone.run(sgr, (1e-3,), (seed,), test=False)
    assert got.history['acted'] == want.history['acted']
    np.testing.assert_allclose(
        got.history['loss'], want.history['loss'], rtol=1e-3)


def test_bfloat16_trains(tmp_path):
  done = lab.train(CONFIG, ['train.dtype=bfloat16', 'run.method=sgr'],
                   out=tmp_path, quiet=True)
  assert np.isfinite([row['loss'] for row in done.rows]).all()
  assert len(done.profiles) == 4


def ragged():
  """Sequences whose ends are not at one step."""
  rng = np.random.default_rng(0)
  return [rng.normal(size=(n, 2)) for n in rng.integers(4, 9, 60)], (
      np.arange(60) % 3)


@pytest.mark.parametrize('name', ['Simple', 'NnxSimple'])
def test_an_own_net_that_takes_perturb(name):
  """Its examples are chosen, and its gradient followed through time."""
  trainer = trainer_lib.Trainer(lab.load({**CONFIG, 'models': {'mine': {
      'kind': 'target', 'target': f'own_models:{name}'}}}))
  state, figures = trainer.one(trainer.start(), trainer.parts[0])
  assert np.isfinite(figures.choice.q) and figures.choice.kept.shape == (4,)
  norms = trainer.profile(state)
  assert len(norms) == 20 and norms[0] < norms[-1]


def test_a_net_with_batch_statistics_is_not_looked_through(tmp_path):
  tables = {**CONFIG, 'models': {'mine': {
      'kind': 'target', 'target': 'own_models:Normalized'}}}
  with pytest.raises(errors.LabError, match='also holds batch_stats'):
    lab.train(tables, out=tmp_path / 'a', quiet=True)
  tables['methods'] = {'adam': {'optimizer': 'adam'}}
  done = lab.train(tables, ['run.method=adam'], out=tmp_path / 'b', quiet=True)
  assert done.profiles == [] and done.rows[-1]['loss'] > 0


def test_unequal_lengths_cannot_be_sampled(tmp_path):
  config = {**CONFIG, 'data': {
      'source': 'function', 'target': f'{__name__}:ragged'}}
  with pytest.raises(errors.LabError, match='unequal length'):
    lab.train(config, out=tmp_path / 'a', quiet=True)
  config['methods'] = {'adam': {'optimizer': 'adam'}}
  done = lab.train(config, ['run.method=adam'], out=tmp_path / 'b', quiet=True)
  assert done.profiles == [] and done.rows[-1]['step'] == 20


def test_a_label_at_every_step_weighs_as_without_the_regularizer():
  config = {**CONFIG, 'data': {
      'source': 'characters', 'length': 12, 'size': 60}}
  trainer = trainer_lib.Trainer(lab.load(
      config, ['run.method=pascanu', 'methods.pascanu.pascanu=1e-9']))
  problem, state = trainer.problem, trainer.start()
  batch = jax.tree.map(lambda a: a[:12], trainer.parts[0])
  loss, _, slope = pascanu.gradient(
      problem, state.params, batch, 1e-9)
  (want, _), plain = jax.value_and_grad(problem.loss, has_aux=True)(
      state.params, {}, batch.x, batch.y)
  assert float(loss) == pytest.approx(float(want), rel=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-3, atol=1e-6), slope, plain)


def test_a_table_is_no_sequence(tmp_path):
  config = {**CONFIG, 'data': {'source': 'iris'}}
  with pytest.raises(errors.LabError, match='reads sequences'):
    lab.train(config, out=tmp_path, quiet=True)
