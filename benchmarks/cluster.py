"""Forty trials here, on two workers, and on two workers that are killed.

`gradnorm compare` of five rates and seeds of four methods: twice here and on
`local:2` in turns, then on `local:2` with one of the workers killed every so
many seconds. The records of all must be equal, each trial there once. Seconds
are the whole command's: start of Python and of workers, compilation, trials, a
look at the blocks, timing, report. On a noisy machine its processor seconds, of
all processes, are the steadier figure.
"""

import argparse
import json
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import psutil

from benchmarks import common

CONFIG = """
[models.mlp]
kind = "mlp"
depth = 4
width = 128
[train]
steps = STEPS
batch_size = 100
eval_every = 50
[compare]
learning_rates = [0.001, 0.01, 0.1]
tune_seeds = 2
seeds = 4
timing_rounds = 3
look = 0
[methods.momentum]
optimizer = "momentum"
[methods.adam]
optimizer = "adam"
[methods.sing]
optimizer = "sing"
[methods.bng]
optimizer = "adam"
normalize = "bng"
"""


def start(file: pathlib.Path, folder: pathlib.Path,
          *words: str) -> subprocess.Popen[bytes]:
  """Starts the command."""
  return subprocess.Popen(
      [sys.executable, '-m', 'gradnorm_optax.lab.cli', 'compare', str(file),
       '--out', str(folder), *words], stdout=subprocess.DEVNULL)


def timed(file: pathlib.Path, folder: pathlib.Path,
          *words: str) -> tuple[float, float]:
  """Seconds of the command, and of the processor in all its processes."""
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  began = time.perf_counter()
  if start(file, folder, *words).wait() != 0:
    raise RuntimeError(f'gradnorm compare {words} failed')
  spent = time.perf_counter() - began
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  return spent, sum(getattr(after, name) - getattr(before, name)
                    for name in ('ru_utime', 'ru_stime'))


def battered(file: pathlib.Path, folder: pathlib.Path, every: float,
             rng: random.Random) -> tuple[int, float]:
  """Kills one of the workers again and again; how many, and seconds."""
  began, kills = time.perf_counter(), 0
  process = start(file, folder, '--scheduler', 'local:2')
  due = began + every
  while process.poll() is None:
    time.sleep(0.05)
    if time.perf_counter() < due:
      continue
    due += every
    try:
      there = [child for child in psutil.Process(process.pid).children()
               if 'spawn_main' in ' '.join(child.cmdline())]
      if there:
        rng.choice(there).kill()
        kills += 1
    except psutil.NoSuchProcess:
      pass
  if process.returncode:
    raise RuntimeError(f'exit code {process.returncode} under kills')
  return kills, time.perf_counter() - began


def trials(folder: pathlib.Path) -> dict[str, Any]:
  """{fingerprint: record without seconds}; raises if one is there twice."""
  rows = [json.loads(line) for line in (
      folder / 'trials.jsonl').read_text().splitlines()]
  found = {row['fingerprint']: {
      name: value for name, value in row.items() if name != 'seconds'}
           for row in rows if row['phase'] in ('tune', 'final')}
  assert len(found) == sum(row['phase'] in ('tune', 'final') for row in rows)
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--steps', type=int, default=4000)
  parser.add_argument('--rounds', type=int, default=2)
  parser.add_argument('--every', type=float, default=5.0)
  options = parser.parse_args()
  rng = random.Random(0)
  ways: dict[str, list[tuple[float, float]]] = {'here': [], 'local:2': []}
  with tempfile.TemporaryDirectory() as name:
    place = pathlib.Path(name)
    file = place / 'cluster.toml'
    file.write_text(CONFIG.replace('STEPS', str(options.steps)))
    for turn in range(options.rounds):
      for way in list(ways)[::-1 if turn % 2 else 1]:
        words = () if way == 'here' else ('--scheduler', way)
        ways[way].append(timed(file, place / f'{way}-{turn}', *words))
        print(f'{way}: {ways[way][-1]}', flush=True)
    kills, seconds = battered(file, place / 'killed', options.every, rng)
    print(f'{kills} kills: {seconds:.1f} s', flush=True)
    whole = trials(place / 'here-0')
    for way in ('local:2-0', 'killed'):
      assert trials(place / way) == whole, f'{way}: other trials'
  best = {way: [min(column) for column in zip(*runs, strict=True)]
          for way, runs in ways.items()}
  results = {
      'trials': len(whole), 'steps': options.steps, 'equal': True,
      'seconds': {way: [run[0] for run in runs] for way, runs in ways.items()},
      'processor': {way: [run[1] for run in runs]
                    for way, runs in ways.items()},
      'ratio': best['local:2'][0] / best['here'][0],
      'ratio of processor seconds': best['local:2'][1] / best['here'][1],
      'killed': {'every': options.every, 'kills': kills, 'seconds': seconds}}
  print(json.dumps(results, indent=1))
  common.save('cluster', results)


if __name__ == '__main__':
  main()
