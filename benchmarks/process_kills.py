"""Kills one of two training processes at random moments, and goes on.

The two are started again after each kill; at the end the same command goes on
in one process with four devices. Nothing may tell its figures from those of
a run that nobody disturbed, but for rounding.
"""

import json
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import processes
from gradnorm_optax import lab
from gradnorm_optax.lab.run import loop, processes as lib

CONFIG = """
[data]
source = "digits"
[models.small]
kind = "mlp"
depth = 2
width = 32
[train]
steps = {steps}
batch_size = 32
eval_every = 1
schedule = "cosine"
[run]
method = "bng"
learning_rate = 0.001
keep = 2
look = 3
mesh = {{data = -1}}
[methods.bng]
optimizer = "adamw"
normalize = "bng"
"""
LOST = ('--lost-after', '70')  # above any pause of the machine


def rows(folder: pathlib.Path) -> list[dict[str, Any]]:
  """The figures that are there; the last line may be half written."""
  path = folder / 'metrics.jsonl'
  text = path.read_text() if path.exists() else ''
  return [json.loads(line) for line in text.splitlines(keepends=True)
          if line.endswith('\n')]


def checkpoint_is_whole(file: pathlib.Path, folder: pathlib.Path) -> None:
  """Raises unless the newest checkpoint in a copy can be read."""
  if not (folder / 'checkpoints').exists():
    return
  with tempfile.TemporaryDirectory() as place:
    copy = pathlib.Path(place) / 'run'
    shutil.copytree(folder, copy)
    if any(path.name.isdigit() for path in (copy / 'checkpoints').iterdir()):
      loop.restored(copy, lab.load(file, ['run.mesh={}']))


def kill(file: pathlib.Path, folder: pathlib.Path, rng: random.Random,
         number: int, startup: float) -> dict[str, Any] | None:
  """Starts both and kills one; None if they had ended before."""
  victim, before = rng.randrange(2), len(rows(folder))
  both = processes.start(file, folder, 2, 1, LOST)
  began = time.monotonic()
  # Every fifth one while they start.
  stop = began + (rng.uniform(0, startup) if number % 5 == 0 else 1e9)
  more, delay = rng.randrange(1, 4), rng.uniform(0, 0.5)
  while both[victim].process.poll() is None and time.monotonic() < stop:
    if len(rows(folder)) >= before + more:
      time.sleep(delay)
      break
    time.sleep(0.005)
  both[victim].process.kill()
  killed = both[victim].end()
  if killed.code == 0:
    both[1 - victim].end()
    return None
  if killed.code != -signal.SIGKILL:
    raise RuntimeError(f'it ended by itself, {killed.code}: {killed.err}')
  since = time.monotonic()
  told = {'victim': victim, 'rows': len(rows(folder))}
  try:
    other = both[1 - victim].end(timeout=60)
  except subprocess.TimeoutExpired:  # it waits for one that never joined
    if told['rows'] > before:
      raise
    both[1 - victim].process.wait()
    return {**told, 'the other': 'waited for it to join, and was ended'}
  lines = [line for line in other.err.splitlines()
           if line.startswith('gradnorm: ')]
  if other.code != lib.LOST or len(lines) != 1:
    raise RuntimeError(f'the other ended with {other.code}: {other.err}')
  return {**told, 'the other': 'ended itself', 'seconds': round(
      time.monotonic() - since, 1)}


def measure(kills: int, place: pathlib.Path, seed: int,
            steps: int = 60) -> dict[str, Any]:
  """Kills `kills` times; raises if anything shows of it in the end."""
  file, rng = place / 'spread.toml', random.Random(seed)
  file.write_text(CONFIG.format(steps=steps))
  began = time.monotonic()
  running, = processes.start(file, place / 'whole', 1, 4)
  while running.process.poll() is None and not rows(place / 'whole'):
    time.sleep(0.01)
  startup = time.monotonic() - began
  whole = running.end()
  if whole.code:
    raise RuntimeError(whole.err)
  folder = place / 'killed'
  found: list[Any] = []
  while len(found) < kills:
    one = kill(file, folder, rng, len(found), startup)
    if one is None:
      raise RuntimeError('the run ended before it was killed often enough')
    found.append(one)
    print(f'kill {len(found)}: {one}', flush=True)
    checkpoint_is_whole(file, folder)
  last, = processes.run(file, folder, 1, 4)
  if last.code:
    raise RuntimeError(last.err)
  here, there = rows(folder), rows(place / 'whole')
  if [row['step'] for row in here] != [row['step'] for row in there]:
    raise RuntimeError('gaps or repeats in metrics.jsonl')
  worst = max(float(np.max(np.abs(np.array(
      [row[name] for row in here]) / np.array(
          [row[name] for row in there]) - 1)))
              for name in ('loss', 'validation_loss'))
  if worst > 1e-5:
    raise RuntimeError(f'a loss differs by {worst}')
  return {'kills': len(found), 'each': found,
          'largest relative difference of a loss': worst}
