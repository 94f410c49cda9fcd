"""The folder of a run: one configuration, one set of data, one code."""

import json
import os
import pathlib
import shutil
import tomllib
from collections.abc import Iterator
from typing import Any

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import stored
from gradnorm_optax.lab.results.store import TRIALS
from gradnorm_optax.lab.run import lengthening
from gradnorm_optax.lab.schema import toml
from gradnorm_optax.lab.schema.toml import CONFIG
from gradnorm_optax.lab.support import files, user_code
from gradnorm_optax.lab.support.errors import LabError

DATA, CODE, MADE = 'data.digest', 'code.digest', 'made_with.json'
RESULTS = 'results.json'
METRICS, SELECTION = 'metrics.jsonl', 'selection.jsonl'
THROUGH_TIME, BLOCKS = 'through_time.jsonl', 'blocks.jsonl'
WATCH, STATUS = 'watch.jsonl', 'status.json'
# What only that command writes.
MARKS = {'gradnorm train': (METRICS, 'checkpoints', DATA),
         'gradnorm compare': (TRIALS,)}


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


def check_same(folder: pathlib.Path, config: schema.Config,
               fresh: bool) -> None:
  """Makes sure that a run may go on here; changes nothing.

  One that was begun with fewer steps may, where `lengthening` allows it.

  Raises:
    LabError: The folder holds a run of another configuration or command.
  """
  check(folder, 'gradnorm train')
  if not fresh:
    _same_run(folder / CONFIG, config)


def prepare(folder: pathlib.Path, config: schema.Config, data: str,
            code: list[str], made: dict[str, str], fresh: bool) -> None:
  """Says in the folder what it is made of, emptying it first if `fresh`.

  Args:
    folder: The run's, after `check_same`.
    config: Its configuration.
    data: The digest of its data.
    code: The digests of the user's own model, optimizer and loss.
    made: What its bits rest on besides.
    fresh: Whether to forget what is finished there.

  Raises:
    LabError: The folder holds a run on other data, of other code or made with
      something else.
  """
  if fresh:
    for name in (METRICS, SELECTION, THROUGH_TIME, BLOCKS, WATCH, STATUS,
                 CONFIG, DATA, CODE, MADE, toml.MODULES, stored.FILE,
                 RESULTS):
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
  _same_make(folder / MADE, made)
  files.write(folder / DATA, data)  # first: its mark
  if code:
    files.write(folder / CODE, text)
  files.write(folder / MADE, json.dumps(made, indent=1) + '\n')
  if not _equal(folder / CONFIG, _text(config)):  # it goes on for longer
    (folder / RESULTS).unlink(missing_ok=True)
  files.write(folder / CONFIG, _text(config))
  keep_modules(folder, config)


def keep_modules(folder: pathlib.Path, config: schema.Config) -> None:
  """Says where the user's modules and files are; `schema.toml` looks there."""
  found = user_code.places(config.user_functions())
  data = config.data.files()
  found += sorted({place for name in data if (
      place := user_code.origin(name)) and place not in found})
  if found:
    files.write(folder / toml.MODULES, '\n'.join(found) + '\n')


def _text(config: schema.Config) -> str:
  """What a run is made of: neither comparisons nor its devices."""
  none = schema.Run()
  run = config.run.model_copy(
      update={'mesh': none.mesh, 'sharding': none.sharding})
  return toml.resolved(config.model_copy(
      update={'compare': schema.Compare(), 'run': run}))


def _equal(path: pathlib.Path, text: str) -> bool:
  return not path.exists() or path.read_bytes() == text.encode()


def _same(path: pathlib.Path, text: str, other: str, mend: str = '',
          what: str = '') -> None:
  """Refuses a folder that is made of something else."""
  if not _equal(path, text):
    raise LabError(f'{path.parent}: holds {other} '
                   f'({what or f"{path.name} differs"}); use --fresh or '
                   f'another --out{mend}')


def _same_run(path: pathlib.Path, config: schema.Config) -> None:
  """Refuses another configuration, but for one of more steps."""
  text = _text(config)
  if _equal(path, text):
    return
  told = ''
  try:
    there = tomllib.loads(path.read_text(encoding='utf-8'))
    was, now = (dict(_leaves(table)) for table in (there, tomllib.loads(text)))
    keys = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    told = '; '.join(
        f'{key}: {was.get(key, "none")} there, {now.get(key, "none")} here'
        for key in keys[:3]) + ('; ...' if len(keys) > 3 else '')
    if {'train.steps'} <= set(keys) <= lengthening.FREE:
      longer = lengthening.refusal(
          schema.Train.model_validate(there['train']), config.train)
      if longer is None:
        return
      told = longer
  except (ValueError, KeyError):  # of another version, or edited
    pass
  _same(path, text, 'a run of another configuration', what=told)


def _leaves(table: dict[str, Any], at: str = '') -> Iterator[tuple[str, Any]]:
  for key, value in table.items():
    if isinstance(value, dict):
      yield from _leaves(value, f'{at}{key}.')
    else:
      yield f'{at}{key}', value


def _same_make(path: pathlib.Path, made: dict[str, str]) -> None:
  """Refuses to go on with another version, code or device than it was begun."""
  if not path.exists():
    return
  try:
    was = dict(json.loads(path.read_text(encoding='utf-8')))
  except (ValueError, TypeError) as error:
    raise LabError(f'{path}: not as gradnorm train wrote it; use --fresh or '
                   'another --out') from error
  found = [f'{name} {was.get(name) or "none"} (now {made.get(name) or "none"})'
           for name in {**was, **made} if was.get(name) != made.get(name)]
  if found:
    raise LabError(
        f'{path.parent}: holds a run that was begun with {", ".join(found)}, '
        'and what goes on would be neither; use --fresh or another --out, or '
        f'delete {path.name} to go on with what is here')
