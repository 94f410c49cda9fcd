"""One run in several real processes, on 127.0.0.1."""

import signal
import time

import numpy as np
import pytest

from benchmarks import process_kills, processes as real
from gradnorm_optax import lab
from gradnorm_optax.lab.data import generated_text
from gradnorm_optax.lab.run import processes
from gradnorm_optax.lab.support import jsonl

RUN = """
[data]
source = "text"
path = "book.txt"
length = 8
[models.decoder]
kind = "transformer"
depth = 2
width = 8
heads = 2
[methods.bng]
optimizer = "adamw"
normalize = "bng"
[train]
steps = 50
eval_every = 5
batch_size = 8
[run]
look = 2
mesh = {data = 2, fsdp = -1}
sharding = {"layers/mlp_in/kernel" = ["", "fsdp", ""]}
"""


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'run.toml'
  path.write_text(RUN)
  path.with_name('book.txt').write_text(generated_text.text(500))
  return path


def lines(text):
  """What is told, but for JAX's own log and gloo's greetings."""
  return [line for line in text.splitlines() if line.startswith('gradnorm')]


def test_two_processes_stop_together_and_one_goes_on(file, tmp_path):
  """A signal to one, then the same command on another number of devices."""
  folder = tmp_path / 'run'
  both = real.start(file, folder, 2, 2, ['--set', 'train.steps=5000'])
  metrics = folder / 'metrics.jsonl'
  deadline = time.monotonic() + 400
  while not metrics.exists() or not metrics.read_text():
    assert time.monotonic() < deadline and both[0].process.poll() is None, (
        [one.end(1) for one in both])
    time.sleep(0.1)
  both[1].process.send_signal(signal.SIGTERM)
  ended = [one.end() for one in both]
  assert [one.code for one in ended] == [128 + signal.SIGTERM] * 2, ended
  assert 'the same command goes on' in ended[0].out
  assert 'the same command goes on' not in ended[1].out
  rows = jsonl.read_steps(metrics)
  last = rows[-1]['step']
  assert [row['step'] for row in rows] == [*range(5, last + 1, 5)]
  assert (folder / 'checkpoints' / str(last)).is_dir()
  # In this process, on one device: as if it had never been elsewhere.
  more = ['train.steps=5000', 'run.mesh={}', 'run.sharding={}']
  with pytest.MonkeyPatch.context() as patch:
    stop_after(patch, last + 5)
    done = lab.train(file, more, out=folder, quiet=True)
  with pytest.MonkeyPatch.context() as patch:
    stop_after(patch, last + 5)
    whole = lab.train(file, more, out=tmp_path / 'whole', quiet=True)
  for name in ('loss', 'validation_loss'):
    np.testing.assert_allclose(
        [row[name] for row in done.rows], [row[name] for row in whole.rows],
        rtol=1e-5)
  assert len(jsonl.read_steps(folder / 'blocks.jsonl')) == len(
      jsonl.read_steps(tmp_path / 'whole' / 'blocks.jsonl'))


def stop_after(patch, step):
  """Stops a run of this process there, as a signal does."""
  def look(self, turn):
    if turn * 5 == step:
      self.came.append(signal.SIGTERM)
  patch.setattr(processes.Halt, 'look', look)


def test_killed_and_started_again_it_ends_as_if_nothing_had_been(tmp_path):
  """Two kills here; `python -m benchmarks kills` makes ten.

  Whoever is left ends with one line and its own exit code; the rest goes on in
  one process.
  """
  found = process_kills.measure(2, tmp_path, seed=1)
  assert {one['victim'] for one in found['each']} == {0, 1}
  assert found['largest relative difference of a loss'] < 1e-5


def test_what_one_process_cannot_do_ends_all(file, tmp_path):
  """Other data in one of them: no folder is marked, nobody waits."""
  for number in range(2):
    np.savez(tmp_path / f'own{number}.npz', y=np.arange(60) % 3,
             x=np.random.default_rng(number).normal(size=(60, 4)))
  ended = real.run(file, tmp_path / 'run', 2, 1, [
      '--set', 'data={source = "file"}',
      '--set', f'data.path={tmp_path}/own{{process}}.npz',
      '--set', 'models={decoder = {kind = "mlp"}}',
      '--set', 'run.sharding={}'])
  assert [one.code for one in ended] == [2, 2], ended
  for one in ended:
    line, = lines(one.err)
    assert 'data: process 1 of 2 has other than process 0 (' in line
  assert not (tmp_path / 'run' / 'config.toml').exists()


@pytest.mark.parametrize(('options', 'words'), [
    (['--process', '0'], 'belong to --distributed'),
    (['--distributed', '--process', '0'], 'belong together')])
def test_half_of_an_address(file, gradnorm, options, words):
  code, _, err = gradnorm('train', file, *options)
  assert code == 2 and words in err and err.count('\n') == 1


@pytest.mark.parametrize('command', ['compare', 'inspect'])
def test_what_is_started_once_refuses_to_be_many(
    file, gradnorm, monkeypatch, command):
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '4')
  code, _, err = gradnorm(command, file)
  assert code == 2 and err.count('\n') == 1
  assert f'gradnorm {command} runs in one process, and here are 4' in err
  assert '--scheduler' in err
