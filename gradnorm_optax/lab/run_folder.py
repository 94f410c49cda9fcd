"""The folder of a run: one configuration, one set of data."""

import os
import pathlib
import shutil

from gradnorm_optax.lab import config as config_lib, results, schema
from gradnorm_optax.lab.errors import LabError
from gradnorm_optax.lab.journal import FILES, METRICS

CONFIG, DATA = 'config.toml', 'data.digest'
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


def look(folder: pathlib.Path, config: schema.Config, fresh: bool) -> None:
  """Makes sure that a run may go on here; changes nothing.

  Raises:
    LabError: The folder holds a run of another configuration or command.
  """
  check(folder, 'gradnorm train')
  if not fresh:
    _same(folder / CONFIG, _text(config), 'a run of another configuration')


def prepare(folder: pathlib.Path, config: schema.Config, digest: str,
            fresh: bool) -> None:
  """Says in the folder what it is made of, emptying it first if `fresh`.

  Args:
    folder: The run's, after `look`.
    config: Its configuration.
    digest: Of its data.
    fresh: Whether to forget what is finished there.

  Raises:
    LabError: The folder holds a run on other data.
  """
  if fresh:
    for name in (*FILES, CONFIG, DATA, 'results.json'):
      (folder / name).unlink(missing_ok=True)
    for name in ('checkpoints', 'tensorboard'):
      if (folder / name).is_dir():  # renamed first: half of one is no run
        (folder / name).rename(folder / f'{name}.{os.getpid()}.deleted')
  for old in folder.glob('*.deleted'):
    shutil.rmtree(old, ignore_errors=True)
  _same(folder / DATA, digest, 'a run on other data')
  results.write(folder / CONFIG, _text(config))
  results.write(folder / DATA, digest)


def _text(config: schema.Config) -> str:
  """What a run is made of; comparisons make no difference to it."""
  return config_lib.resolved(config.model_copy(
      update={'compare': schema.Compare()}))


def _same(path: pathlib.Path, text: str, other: str) -> None:
  """Refuses a folder that is made of something else."""
  if path.exists() and path.read_text() != text:
    raise LabError(f'{path.parent}: holds {other} ({path.name} differs); use '
                   '--fresh or another --out')
