"""A run survives being killed, a bad rate and a full disk."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import kills
from gradnorm_optax import lab
from gradnorm_optax.lab.run import (
  compiled_run as trainer_lib,
  loop,
  tensorboard,
)
from gradnorm_optax.lab.run.checkpoints import Checkpoints
from gradnorm_optax.lab.support import jsonl, provenance
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import step_gradient

RUN = """
[models.small]
kind = "mlp"
depth = 2
width = 16
[train]
steps = 60
batch_size = 32
eval_every = 10
schedule = "cosine"
[methods.sing]
optimizer = "sing"
lookahead = 5
[methods.adam]
optimizer = "adam"
[run]
method = "sing"
keep = 2
"""

READS_THE_CACHE = {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '1e9'}


@pytest.fixture(scope='module')
def file(tmp_path_factory):
  path = tmp_path_factory.mktemp('train') / 'run.toml'
  path.write_text(RUN)
  return path


@pytest.fixture(scope='module')
def whole(file):
  """A run that nobody interrupted."""
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    return loop.run(lab.load(file), file.parent / 'whole', quiet=True)


def same(rows):
  return [{k: v for k, v in row.items() if 'seconds' not in k} for row in rows]


def test_figures_and_files(whole):
  assert [row['step'] for row in whole.rows] == [10, 20, 30, 40, 50, 60]
  assert whole.rows[-1]['loss'] < whole.rows[0]['loss']
  assert whole.rows[-1]['validation_score'] > 0.5
  assert all(row['gradient_norm'] > 0 for row in whole.rows)
  assert whole.rows[0]['learning_rate'] > whole.rows[-1]['learning_rate']
  content = json.loads((whole.folder / 'results.json').read_text())
  assert content['data'] == whole.data and '10 classes' in whole.data
  assert content['test'] == whole.test and whole.test['score'] > 0.5
  kept = {int(p.name) for p in (whole.folder / 'checkpoints').iterdir()}
  accuracies = {row['step']: row['validation_score'] for row in whole.rows}
  best = max(accuracies, key=lambda step: (accuracies[step], step))
  assert kept == {50, 60, best} and content['best_checkpoint'] == best
  assert whole.plot()['training'].axes


def test_a_run_shows_its_blocks(whole):
  marks = [0, 10, 20, 30, 40, 50, 60]
  rows = jsonl.read_steps(whole.folder / 'blocks.jsonl')
  assert [row['step'] for row in rows] == marks
  look = whole.look
  assert look.steps == [mark + 1 for mark in marks]
  np.testing.assert_allclose(look.after, np.sqrt(2), rtol=1e-4)  # SING's
  assert look.ratio[-1].max() < 1e-6 < look.ratio[0].min()  # a cosine's end
  tags = kills.board(whole.folder / 'tensorboard')
  for kind in ('gradient', 'at_moments', 'update_over_parameters',
               'entries_of_gradient_log10', 'entries_at_moments_log10'):
    for block in look.blocks:
      assert tags[f'{kind}/{block}'] == marks
  assert {'norms', 'entries'} <= set(whole.plot())


def test_a_histogram_holds_the_quantiles():
  found = tensorboard._histogram(np.array([1, 1, 10, 1e2, 1e3, 1e4, 1e4]))
  assert list(found.bucket_limit) == [0, 1, 2, 3, 4]
  np.testing.assert_allclose(found.bucket, [1, 24, 25, 25, 25])
  assert tensorboard._histogram(np.zeros(7)) is None


def test_killed_and_started_again_it_ends_bit_equal(
    file, whole, tmp_path, monkeypatch):
  # Two kills here; `python -m benchmarks kills` makes twenty.
  for name, value in READS_THE_CACHE.items():  # none is killed as it writes it
    monkeypatch.setenv(name, value)
  check = kills.whole_checkpoints(file)
  rng = random.Random(0)
  for moment in ('figures', 'files'):
    assert kills.kill(kills.TRAIN, file, tmp_path, moment, rng, 1.0)
    check(tmp_path)
  assert kills.start(kills.TRAIN, file, tmp_path).wait(timeout=300) == 0
  kills.compare_trains(file, tmp_path, whole.folder)
  # What ends lies as if nothing had happened: no half-written checkpoint.
  assert {p.name for p in (tmp_path / 'checkpoints').iterdir()} == {
      p.name for p in (whole.folder / 'checkpoints').iterdir()}


def test_a_board_cut_short_is_read_as_tensorboard_does(tmp_path):
  board = tensorboard.Board(tmp_path, 0)
  for step in (1, 2, 3):
    board.add({'step': step, 'loss': 0.5, 'none': None})
  board.close()
  path, = tmp_path.iterdir()
  path.write_bytes(path.read_bytes()[:-5])  # killed while writing step 3
  again = tensorboard.Board(tmp_path, 1)  # from the checkpoint of step 1
  again.add({'step': 2, 'loss': 0.25})
  again.close()
  assert kills.board(tmp_path) == {'loss': [1, 2]}


@pytest.mark.parametrize('swallowed', [False, True])
def test_a_signal_while_compiling_is_one_line(file, gradnorm, tmp_path,
                                              monkeypatch, swallowed):
  class Noisy:
    def __del__(self):  # as in a callback of the garbage collector
      os.kill(os.getpid(), signal.SIGTERM)

  def compile(*_):
    Noisy() if swallowed else os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
  monkeypatch.setattr(trainer_lib.Trainer, 'compile', compile)
  code, _, err = gradnorm('train', file, '--out', tmp_path)
  assert code == 143 and err.count('\n') == 1
  assert 'the same command goes on from there' in err


def test_a_signal_saves_and_leaves(file, tmp_path, monkeypatch):
  trainer = trainer_lib.Trainer
  taken = []

  def row(self, *args):
    if len(taken) == 1:
      os.kill(os.getpid(), signal.SIGTERM)
    taken.append(1)
    return original(self, *args)
  original = trainer.row
  monkeypatch.setattr(trainer, 'row', row)
  done = loop.run(lab.load(file, ['run.checkpoint_every=100']), tmp_path,
                   quiet=True)
  assert done.stopped == signal.SIGTERM and done.test is None
  assert [row['step'] for row in done.rows] == [10, 20]
  assert os.path.exists(tmp_path / 'checkpoints' / '20')


def test_a_rate_that_explodes_is_diagnosed(file, gradnorm, tmp_path):
  code, _, err = gradnorm(
      'train', file, '--out', tmp_path, '--set', 'run.method=adam', '--set',
      'run.learning_rate=1e37', '--set', 'train.schedule=constant')
  assert code == 3 and err.count('\n') == 1
  assert 'step 2: block layer01, as all others, is not finite any more' in err
  assert 'the step before moved layer01 most' in err
  assert 'Lower the learning rate' in err


def test_bad_updates_can_be_skipped_and_are_counted(file, tmp_path):
  done = loop.run(lab.load(file, [
      'run.method=adam', 'run.learning_rate=1e37', 'run.non_finite=skip',
      'run.max_skips=100', 'train.steps=20']), tmp_path, quiet=True)
  # The first step is finite and ruins the parameters.
  assert [row['skipped'] for row in done.rows] == [9, 19]
  # Means are over the other steps, where there is one.
  assert done.rows[0]['loss'] > 0 and done.rows[1]['loss'] is None


def test_too_many_skips_stop_the_run(file, gradnorm, tmp_path):
  code, _, err = gradnorm(
      'train', file, '--out', tmp_path, '--set', 'run.method=adam', '--set',
      'run.learning_rate=1e37', '--set', 'run.non_finite=skip', '--set',
      'run.max_skips=5')
  assert code == 3  # and not where the next evaluation happens to be
  assert 'step 6: the last 5 gradients were not finite' in err


def test_another_configuration_is_refused(file, whole):
  with pytest.raises(LabError, match='another configuration'):
    loop.run(lab.load(file, ['run.seed=1']), whole.folder, quiet=True)
  with pytest.raises(LabError, match="run.method: unknown name 'adan'.*'adam'"):
    loop.run(lab.load(file, ['run.method=adan']),
              file.parent / 'nothing', quiet=True)


def test_a_folder_of_another_command_is_refused(
    file, whole, gradnorm, tmp_path):
  before = (whole.folder / 'config.toml').read_bytes()
  code, _, err = gradnorm('compare', file, '--out', whole.folder, '--fresh')
  assert code == 2 and 'holds a run of gradnorm train (metrics.jsonl)' in err
  assert (whole.folder / 'config.toml').read_bytes() == before
  assert not (whole.folder / 'trials.jsonl').exists()
  (tmp_path / 'trials.jsonl').touch()
  code, _, err = gradnorm('train', file, '--out', tmp_path, '--fresh')
  assert code == 2 and 'holds a run of gradnorm compare' in err
  assert (tmp_path / 'trials.jsonl').exists()


def test_a_mistake_neither_marks_nor_empties_a_folder(
    file, whole, gradnorm, tmp_path):
  def files(folder):
    return {path: path.read_bytes() for path in folder.rglob('*')
            if path.is_file() and path.name != '.lock'}

  nowhere = ['--set', 'data.source=file', '--set', 'data.path=nowhere.csv']
  code, _, err = gradnorm('train', file, '--out', tmp_path, *nowhere)
  assert code == 2 and 'nowhere.csv' in err and not files(tmp_path)
  before = files(whole.folder)
  code, _, err = gradnorm(
      'train', file, '--out', whole.folder, '--fresh', *nowhere)
  assert code == 2 and 'nowhere.csv' in err and files(whole.folder) == before
  (tmp_path / 'trials.jsonl').write_text('{"fingerprint": "a"}\n')
  before = files(tmp_path)
  code, _, err = gradnorm(
      'compare', file, '--out', tmp_path, '--fresh', *nowhere)
  assert code == 2 and 'nowhere.csv' in err and files(tmp_path) == before


def test_full_disk_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
  store = Checkpoints(tmp_path, 2)
  state = {'a': np.arange(3.0), 'none': np.zeros((0, 2))}
  store.save(1, state, 0.5)

  def full(*_, **__):
    raise OSError(28, 'No space left on device')
  monkeypatch.setattr(store._manager, 'save', full)
  with pytest.raises(LabError, match='step 2 .*No space.*whole one is kept'):
    store.save(2, state, 0.6)
  store.close()
  again = Checkpoints(tmp_path, 2)
  assert again.latest() == 1
  found = again.restore(1, jax.tree.map(np.zeros_like, state))
  np.testing.assert_array_equal(found['a'], state['a'])
  assert found['none'].shape == (0, 2)
  again.close()


@pytest.mark.parametrize('command, what', [
    ('train', 'cannot write the checkpoint of step 10'),
    ('compare', 'plan.json: cannot write')])
def test_a_disk_that_fills_up_is_one_line(file, tmp_path, command, what):
  # Files of at most 4 kB: checkpoints and reports are larger.
  limited = (
      'import resource, sys\n'
      'resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n'
      'from gradnorm_optax.lab import cli\n'
      f'sys.argv[1:] = [{command!r}, {str(file)!r}, "--out", '
      f'{str(tmp_path)!r}, '
      '"--set", "compare.seeds=1", "--set", "compare.tune_seeds=1", "--set", '
      '"compare.learning_rates=[0.01]", "--set", "compare.timing_rounds=2", '
      '"--set", "compare.look=0"]\n'
      'cli.main()')
  # What is compiled does not fit either, of which JAX warns: it may only read.
  done = subprocess.run(
      [sys.executable, '-c', limited], capture_output=True, text=True,
      timeout=300, env={**os.environ, **READS_THE_CACHE})
  assert done.returncode == 2, done.stderr
  assert done.stderr.count('\n') == 1, done.stderr
  assert what in done.stderr and 'File too large' in done.stderr
  if command == 'compare':
    assert not (tmp_path / 'results.json').exists()


def test_accumulated_parts_give_the_whole_batch_gradient(file, tmp_path):
  one = loop.run(lab.load(file, ['train.steps=10']), tmp_path / 'one',
                  quiet=True)
  four = loop.run(
      lab.load(file, ['train.steps=10', 'train.accumulate=4']),
      tmp_path / 'four', quiet=True)
  assert one.rows[0]['loss'] == pytest.approx(four.rows[0]['loss'], rel=1e-4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
               one.params, four.params)


def test_accumulated_parts_of_narrow_parameters_do_not_vanish(file):
  trainer = trainer_lib.Trainer(lab.load(file))
  made, state = trainer.problem, trainer.start()
  narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16),
                        trainer.built.unwrap(state.params))
  batch = jax.tree.map(lambda a: a[:256], trainer.dataset.train)
  whole, parts = (jax.jit(lambda p, n=n: step_gradient.take(
      made, trainer.built, p, {}, batch, n, None)[2])(narrow) for n in (1, 256))

  def error(a, b):
    assert a.dtype == b.dtype == jnp.bfloat16
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return abs(a - b).max() / abs(a).max()
  assert max(jax.tree.leaves(jax.tree.map(error, whole, parts))) < 0.03


def test_bfloat16_computes_and_keeps_float32_parameters(file, tmp_path):
  done = loop.run(lab.load(file, ['train.dtype=bfloat16']), tmp_path,
                   quiet=True)
  assert {leaf.dtype for leaf in jax.tree.leaves(done.params)} == {
      np.dtype('float32')}
  assert done.rows[-1]['validation_score'] > 0.5


def test_other_data_in_the_same_folder_is_refused(file, tmp_path):
  path = tmp_path / 'own.npz'
  x, y = np.random.default_rng(0).normal(size=(90, 3)), np.arange(90) % 3
  config_own = lab.load(file, [
      'data.source=file', f'data.path={path}', 'train.steps=10'])
  np.savez(path, x=x, y=y)
  loop.run(config_own, tmp_path / 'run', quiet=True)
  np.savez(path, x=x + 1, y=y[::-1])
  with pytest.raises(LabError, match=r'other data \(data.digest differs\)'):
    loop.run(config_own, tmp_path / 'run', quiet=True)


def test_a_run_goes_on_with_what_it_was_begun_with(
    file, whole, tmp_path):
  folder = shutil.copytree(whole.folder, tmp_path / 'run')
  made = json.loads((folder / 'made_with.json').read_text())
  assert made == provenance.made_with() and {
      'jax', 'device', 'threads', 'XLA_FLAGS', 'jax_enable_x64',
      'source of gradnorm_optax'} <= set(made)
  for name, other in (('jax', '0.1'), ('source of gradnorm_optax', 'old'),
                      ('device', 'other'), ('threads', '64')):
    (folder / 'made_with.json').write_text(json.dumps(made | {name: other}))
    with pytest.raises(LabError) as caught:
      loop.run(lab.load(file), folder, quiet=True)
    told = str(caught.value)
    assert told.count(' (now ') == 1 and '\n' not in told
    assert f'begun with {name} {other} (now {made[name]})' in told
    assert '--fresh' in told and 'delete made_with.json' in told
  (folder / 'made_with.json').unlink()
  again = loop.run(lab.load(file), folder, quiet=True)
  assert same(again.rows) == same(whole.rows)
  assert json.loads((folder / 'made_with.json').read_text()) == made


def test_reading_a_run_touches_nothing(file, whole, tmp_path):
  before = sorted(p.relative_to(whole.folder)
                  for p in whole.folder.rglob('*'))
  loop.restored(whole.folder, lab.load(file))
  assert before == sorted(p.relative_to(whole.folder)
                          for p in whole.folder.rglob('*'))
  with pytest.raises(LabError, match='no checkpoint here'):
    loop.restored(tmp_path, lab.load(file))
  assert not any(tmp_path.iterdir())
