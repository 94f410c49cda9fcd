"""`gradnorm init` writes what works at once; the same from Python."""

import os
import subprocess
import sys

import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.errors import LabError


def test_init_then_compare(tmp_path):
  def run(*args):
    return subprocess.run(
        [sys.executable, '-m', 'gradnorm_optax.lab.cli', *args],
        cwd=tmp_path / 'demo' if args[0] != 'init' else tmp_path,
        capture_output=True, text=True, timeout=300, env=dict(os.environ))

  assert run('init', 'demo').returncode == 0
  assert {p.name for p in (tmp_path / 'demo').iterdir()} == {
      'config.toml', 'my_data.py', 'my_model.py'}
  done = run('compare', 'config.toml', '--set', 'compare.seeds=2', '--set',
             'compare.tune_seeds=1', '--set', 'train.steps=40', '--set',
             'compare.learning_rates=[0.01]')
  assert done.returncode == 0, done.stderr
  assert 'bng_adam' in done.stdout and 'missing cells filled' in done.stdout
  assert (tmp_path / 'demo' / 'runs' / 'config' / 'report.html').exists()
  again = run('init', 'demo')
  assert again.returncode == 2 and 'exists' in again.stderr


def test_from_python(tiny, tmp_path):
  done = lab.compare(tiny, ['compare.seeds=1', 'train.steps=10'],
                     out=tmp_path / 'compare', quiet=True)
  assert [row.method for row in done.summary.rows] == [
      'momentum', 'clip_momentum']
  assert done.table() and set(done.plot()) == {'curves', 'sensitivity'}
  raw = {'models': {'m': {'kind': 'mlp', 'depth': 1, 'width': 8}},
         'methods': {'bng': {'optimizer': 'momentum', 'normalize': 'bng'}},
         'train': {'steps': 10, 'eval_every': 10}}
  run = lab.train(raw, out=tmp_path / 'train', quiet=True)
  assert run.rows[-1]['step'] == 10 and run.table() and run.plot()
  look = lab.inspect(raw, out=tmp_path / 'look', batches=2)
  assert look.table() and set(look.plot()) == {'m'}
  with pytest.raises(LabError, match="'stepz'; the nearest.*'steps'"):
    lab.load(raw, ['train.stepz=3'])
  assert lab.load(lab.load(raw)) == lab.load(raw)
