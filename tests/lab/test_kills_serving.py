"""Killed where it hurts, export, predict and a longer run leave all or nothing.

`python -m benchmarks kills_serving` kills at many random moments.
"""

import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import kills, kills_serving
from gradnorm_optax import lab
from gradnorm_optax.lab.run import loop

AT = """
import os, pathlib, signal, sys
from gradnorm_optax.lab import cli
def die(*args, **options):
  os.kill(os.getpid(), signal.SIGKILL)
{point}
sys.argv[1:] = {words!r}
cli.main()
"""
POINTS = {
    'the answers are to be put in place': 'os.replace = die',
    'weights and program are written, no card yet': (
        'from gradnorm_optax.lab.serving import model_card\n'
        'model_card.text = die'),
    'the model is to be put in place': 'pathlib.Path.rename = die',
    'what it was judged by is gone, no more steps asked for': (
        'from gradnorm_optax.lab.run import folder_guard\n'
        'text = folder_guard._text\n'
        'calls = []\n'
        'def second(config):\n'
        '  calls.append(1)\n'
        '  return text(config) if len(calls) < 3 else die()\n'
        'folder_guard._text = second'),
    'its figures are written, no checkpoint yet': (
        'from gradnorm_optax.lab.run.checkpoints import Checkpoints\n'
        'Checkpoints.save = die')}


def killed(point, *words):
  done = subprocess.run(
      [sys.executable, '-c', AT.format(
          point=POINTS[point], words=list(map(str, words)))],
      capture_output=True, text=True, timeout=300)
  assert done.returncode == -9, done.stderr


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A run of 200 steps, and one of its first half."""
  folder = tmp_path_factory.mktemp('kills')
  file = folder / 'config.toml'
  file.write_text(kills_serving.CONFIG.replace('= 400', '= 200').replace(
      'eval_every = 10', 'eval_every = 20').replace(
          'method = "sing"', 'method = "adam"\nlook = 0'))
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    loop.run(lab.load(file), folder / 'whole', quiet=True)
    loop.run(lab.load(file, ['train.steps=100']), folder / 'short', quiet=True)
  return folder


def test_predict(place, gradnorm, tmp_path):
  (tmp_path / 'answers.csv').write_text('of yesterday')
  np.save(tmp_path / 'new.npy', np.ones((3, 64)))
  words = 'predict', place / 'whole', tmp_path / 'new.npy', '-o', (
      tmp_path / 'answers.csv')
  killed('the answers are to be put in place', *words)
  assert (tmp_path / 'answers.csv').read_text() == 'of yesterday'
  assert gradnorm(*words)[0] == 0
  assert (tmp_path / 'answers.csv').read_text().startswith('example,predict')
  assert not list(tmp_path.glob('*.part'))


@pytest.mark.parametrize('point', [
    'weights and program are written, no card yet',
    'the model is to be put in place'])
def test_export(place, gradnorm, tmp_path, point):
  words = 'export', place / 'whole', tmp_path / 'model'
  killed(point, *words)
  assert not (tmp_path / 'model').exists()
  assert list(tmp_path.glob('model.*.part'))  # it was in the middle of it
  assert gradnorm(*words)[0] == 0
  assert [path.name for path in tmp_path.iterdir()] == ['model']


def test_a_longer_run(place, gradnorm, tmp_path):
  file, folder = place / 'config.toml', tmp_path / 'run'
  shutil.copytree(place / 'short', folder)
  killed('what it was judged by is gone, no more steps asked for',
         'train', file, '--out', folder)
  assert not (folder / 'results.json').exists()
  assert 'steps = 100\n' in (folder / 'config.toml').read_text()
  killed('its figures are written, no checkpoint yet',
         'train', file, '--out', folder)
  assert kills.count(kills.TRAIN, folder) == 6  # one more than checkpoints say
  assert gradnorm('train', file, '--out', folder)[0] == 0
  kills.compare_trains(file, folder, place / 'whole')
  assert (folder / 'results.json').exists()
