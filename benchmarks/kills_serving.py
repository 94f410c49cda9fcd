"""Kills `export`, `predict` and a lengthened `train` at random moments.

Half of the kills come at any moment of the command, half as soon as something
half written is seen. What the command writes must not be there or be whole, and
the same command again must finish with what an undisturbed one leaves: the same
weights and program, the same answers; of a run begun with half of its steps the
bits of one that was begun with all of them.
"""

import argparse
import collections
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jax import export as jax_export
from safetensors.numpy import load_file

from benchmarks import common, kills
from gradnorm_optax.lab.serving import export

CONFIG = kills.CONFIG.replace('steps = 3000', 'steps = 400').replace(
    'schedule = "cosine"\n', '')


class Task(NamedTuple):
  """A command that writes something from a run.

  Attributes:
    words: The command.
    target: What it writes.
    unfinished: Globs beside the target of what lies there only meanwhile.
    whole: Raises unless the target, which exists, is what it must be.
  """

  words: tuple[str, ...]
  target: pathlib.Path
  unfinished: tuple[str, ...]
  whole: Callable[[pathlib.Path], None]


def start(words: tuple[str, ...]) -> subprocess.Popen[bytes]:
  """Starts the command."""
  return subprocess.Popen(
      [sys.executable, '-m', 'gradnorm_optax.lab.cli', *words],
      stdout=subprocess.DEVNULL)


def exported(reference: pathlib.Path) -> Callable[[pathlib.Path], None]:
  """Holds an export against one that nobody disturbed."""
  def whole(folder: pathlib.Path) -> None:
    for name in (export.WEIGHTS, 'model.json', export.CARD):
      assert (folder / name).read_bytes() == (
          reference / name).read_bytes(), f'{name} differs'
    x = np.ones((3, 64), np.float32)
    one, other = (jax_export.deserialize(bytearray(
        (place / export.PROGRAM).read_bytes())).call(
            load_file(place / export.WEIGHTS), x)
                  for place in (folder, reference))
    assert np.array_equal(one, other), 'the program differs'
    assert {path.name for path in folder.iterdir()} == {
        path.name for path in reference.iterdir()}

  return whole


def answered(reference: pathlib.Path) -> Callable[[pathlib.Path], None]:
  """Holds answers against those that nobody disturbed."""
  def whole(path: pathlib.Path) -> None:
    assert path.read_bytes() == reference.read_bytes(), 'answers differ'

  return whole


def kill(task: Task, moment: str, rng: random.Random, seconds: float) -> bool:
  """Starts a command and kills it; whether it was killed in time."""
  stop = time.monotonic() + rng.uniform(0, seconds)
  begun = time.time()
  process = start(task.words)
  while process.poll() is None:
    if moment == 'anywhere':
      if time.monotonic() > stop:
        break
    elif any(_since(path, begun) for glob in task.unfinished
             for path in task.target.parent.glob(glob)):
      break
    time.sleep(0.0005)
  process.kill()
  return process.wait() == -9


def _since(path: pathlib.Path, begun: float) -> bool:
  try:
    return path.stat().st_mtime > begun
  except FileNotFoundError:
    return False


def battered(task: Task, kills: int, rng: random.Random,
             seconds: float) -> dict[str, int]:
  """Kills a command again and again; each time it must leave all or nothing."""
  where: collections.Counter[str] = collections.Counter()
  while sum(where.values()) < kills:
    moment = ('anywhere', 'files')[sum(where.values()) % 2]
    if not kill(task, moment, rng, seconds):
      moment = 'not at all'
    where[moment] += 1
    if task.target.exists():
      task.whole(task.target)
      _remove(task.target)
  assert start(task.words).wait() == 0
  task.whole(task.target)
  left = [path for glob in task.unfinished
          for path in task.target.parent.glob(glob)]
  assert not left, f'left behind: {left}'
  return dict(where)


def _remove(path: pathlib.Path) -> None:
  shutil.rmtree(path) if path.is_dir() else path.unlink()


def lengthened(file: pathlib.Path, whole: pathlib.Path, short: pathlib.Path,
               folder: pathlib.Path, kills_: int, rng: random.Random,
               startup: float) -> dict[str, int]:
  """Kills the second half of a run again and again; it ends as `whole` did."""
  shutil.copytree(short, folder)
  found = kills.battered(kills.TRAIN, file, folder, kills_, rng, startup,
                         kills.whole_checkpoints(file))
  kills.compare_trains(file, folder, whole)
  return dict(collections.Counter(found))


def measure(place: pathlib.Path, counts: dict[str, int],
            rng: random.Random) -> dict[str, Any]:
  """Trains, then kills what is asked for; raises if anything shows of it."""
  file, run, short = (place / name for name in ('config.toml', 'run', 'short'))
  file.write_text(CONFIG)
  for folder, more in ((run, ()), (short, ('--set', 'train.steps=200'))):
    began = time.monotonic()
    assert start(('train', str(file), '--out', str(folder), *more)).wait() == 0
    seconds = time.monotonic() - began
  np.savez(place / 'new.npz', x=np.random.default_rng(0).uniform(
      0, 16, size=(5000, 64)))
  asked = ('predict', str(run), str(place / 'new.npz'), '-o')
  given = ('export', str(run))
  for words in ((*asked, str(place / 'first.csv')),
                (*given, str(place / 'first'))):
    began = time.monotonic()
    assert start(words).wait() == 0
    seconds = time.monotonic() - began
  tasks = {
      'predict': Task((*asked, str(place / 'answers.csv')),
                      place / 'answers.csv', ('answers.csv.part',),
                      answered(place / 'first.csv')),
      'export': Task((*given, str(place / 'model')), place / 'model',
                     ('model.*.part',), exported(place / 'first'))}
  results: dict[str, Any] = {}
  for name, count in counts.items():
    results[name] = {'kills': battered(
        tasks[name], count, rng, seconds) if name in tasks else lengthened(
            file, run, short, place / 'longer', count, rng, seconds),
                     'whole': True}
    print(name, results[name], flush=True)
  return results


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  for name in ('predict', 'export', 'lengthen'):
    parser.add_argument(f'--{name}', type=int, default=10)
  parser.add_argument('--seed', type=int, default=0)
  options = vars(parser.parse_args())
  rng = random.Random(options.pop('seed'))
  with tempfile.TemporaryDirectory() as place:
    common.save('kills_serving', measure(pathlib.Path(place), {
        name: count for name, count in options.items() if count}, rng))


if __name__ == '__main__':
  main()
