"""The folder of a run: one configuration, one set of data, one code."""

import os
import pathlib
import shutil

from gradnorm_optax.lab import config as config_lib, results, schema
from gradnorm_optax.lab.errors import LabError
from gradnorm_optax.lab.journal import FILES, METRICS

CONFIG, DATA, CODE = 'config.toml', 'data.digest', 'code.digest'
# What only that command writes.
MARKS = {'gradnorm train': (METRICS, 'checkpoints', DATA),
         'gradnorm compare': (results.TRIALS,)}


def check(folder: pathlib.Path, command: str) -> None:
  """Raises `LabError` where something else than this command keeps its own."""
  for other, marks in MARKS.items():
    for mark in marks:
      if other != command and (folder / mark).exists():
        raise LabError(f'{folder}: holds a run of {other} ({mark}), which '
                       f'{command} would overwrite; give --out another folder')
  if (folder / CONFIG).exists() and not any(
      (folder / mark).exists() for mark in MARKS[command]):
    raise LabError(f'{folder / CONFIG}: not written by {command}, which would '
                   'overwrite it; give --out another folder')


def look(folder: pathlib.Path, config: schema.Config, fresh: bool) -> None:
  """Makes sure that a run may go on here; changes nothing.

  Raises:
    LabError: The folder holds a run of another configuration or command.
  """
  check(folder, 'gradnorm train')
  if not fresh:
    _same(folder / CONFIG, _text(config), 'a run of another configuration')


def prepare(folder: pathlib.Path, config: schema.Config, data: str,
            code: list[str], fresh: bool) -> None:
  """Says in the folder what it is made of, emptying it first if `fresh`.

  Args:
    folder: The run's, after `look`.
    config: Its configuration.
    data: The digest of its data.
    code: The digests of the user's own model, optimizer and loss.
    fresh: Whether to forget what is finished there.

  Raises:
    LabError: The folder holds a run on other data or of other code.
  """
  if fresh:
    for name in (*FILES, CONFIG, DATA, CODE, config_lib.MODULES,
                 'results.json'):
      (folder / name).unlink(missing_ok=True)
    for name in ('checkpoints', 'tensorboard'):
      if (folder / name).is_dir():  # renamed first: half of one is no run
        (folder / name).rename(folder / f'{name}.{os.getpid()}.deleted')
  for old in folder.glob('*.deleted'):
    shutil.rmtree(old, ignore_errors=True)
  text = '\n'.join(code)
  _same(folder / DATA, data, 'a run on other data')
  _same(folder / CODE, text, 'a run of other code of yours',
        ', or delete that file to go on with the new code')
  results.write(folder / DATA, data)  # first: its mark
  if code:
    results.write(folder / CODE, text)
  results.write(folder / CONFIG, _text(config))
  keep_modules(folder, config)


def keep_modules(folder: pathlib.Path, config: schema.Config) -> None:
  """Says where the user's own modules are; `config.load` looks there."""
  found = config_lib.places(config)
  if found:
    results.write(folder / config_lib.MODULES, '\n'.join(found) + '\n')


def _text(config: schema.Config) -> str:
  """What a run is made of; comparisons make no difference to it."""
  return config_lib.resolved(config.model_copy(
      update={'compare': schema.Compare()}))


def _same(path: pathlib.Path, text: str, other: str, mend: str = '') -> None:
  """Refuses a folder that is made of something else."""
  if path.exists() and path.read_bytes() != text.encode():
    raise LabError(f'{path.parent}: holds {other} ({path.name} differs); use '
                   f'--fresh or another --out{mend}')
