"""The folder of a run: one configuration, one set of data."""

import os
import pathlib
import shutil

from gradnorm_optax.lab import config as config_lib, results, schema
from gradnorm_optax.lab.errors import LabError
from gradnorm_optax.lab.journal import FILES, METRICS

DATA = 'data.digest'
# What only that command writes.
MARKS = {'gradnorm train': (METRICS, 'checkpoints'),
         'gradnorm compare': (results.TRIALS,)}


def check(folder: pathlib.Path, command: str) -> None:
  """Raises `LabError` where another command keeps its results."""
  for other, marks in MARKS.items():
    for mark in marks:
      if other != command and (folder / mark).exists():
        raise LabError(f'{folder}: holds a run of {other} ({mark}), which '
                       f'{command} would overwrite; give --out another folder')


def prepare(folder: pathlib.Path, config: schema.Config, fresh: bool) -> None:
  """Empties the folder, or makes sure that it holds the same run.

  Raises:
    LabError: The folder holds a run of another configuration or command.
  """
  check(folder, 'gradnorm train')
  if fresh:
    for name in (*FILES, 'config.toml', DATA, 'results.json'):
      (folder / name).unlink(missing_ok=True)
    for name in ('checkpoints', 'tensorboard'):
      if (folder / name).is_dir():  # renamed first: half of one is no run
        (folder / name).rename(folder / f'{name}.{os.getpid()}.deleted')
  for old in folder.glob('*.deleted'):
    shutil.rmtree(old, ignore_errors=True)
  text = config_lib.resolved(config.model_copy(
      update={'compare': schema.Compare()}))
  same(folder / 'config.toml', text, 'a run of another configuration')


def same(path: pathlib.Path, text: str, other: str) -> None:
  """Writes what a run is made of; refuses a folder made of something else."""
  if path.exists() and path.read_text() != text:
    raise LabError(f'{path.parent}: holds {other} ({path.name} differs); use '
                   '--fresh or another --out')
  results.write(path, text)
