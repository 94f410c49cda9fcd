"""Forty trials here, on two workers, and on two workers that are killed.

`gradnorm compare` of two methods: here, on `local:2`, and on `local:2` with one
of the workers killed every so many seconds. The records of all must be equal,
each trial there once. Seconds are the whole command's: start of Python and of
workers, compilation, trials, timing, report. On a noisy machine the processor
seconds, of all processes, are the steadier figure. What was run is kept in
`--place`, so that the ways can be run one by one, each while nothing else does.
"""

import argparse
import json
import pathlib
import random
import re
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
depth = 2
width = 128
[train]
steps = STEPS
batch_size = 100
eval_every = 50
[compare]
learning_rates = [0.001, 0.01, 0.1]
tune_seeds = 2
seeds = 14
timing_rounds = 3
look = 0
[methods.momentum]
optimizer = "momentum"
[methods.sing]
optimizer = "sing"
"""
WAYS = ('here', 'local:2', 'killed')


def start(file: pathlib.Path, folder: pathlib.Path,
          *words: str) -> subprocess.Popen[bytes]:
  """Starts the command."""
  return subprocess.Popen(
      [sys.executable, '-m', 'gradnorm_optax.lab.cli', 'compare', str(file),
       '--out', str(folder), *words], stdout=subprocess.DEVNULL)


def timed(file: pathlib.Path, folder: pathlib.Path,
          *words: str) -> dict[str, float]:
  """Seconds of the command, and of the processor in all its processes."""
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  began = time.perf_counter()
  if start(file, folder, *words).wait() != 0:
    raise RuntimeError(f'gradnorm compare {words} failed')
  spent = time.perf_counter() - began
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  return {'seconds': spent, 'processor': sum(
      getattr(after, name) - getattr(before, name)
      for name in ('ru_utime', 'ru_stime'))}


def battered(file: pathlib.Path, folder: pathlib.Path, every: float,
             rng: random.Random) -> dict[str, float]:
  """Kills one of the workers again and again; how many, and seconds.

  Not before another trial is finished: on a busy machine a worker takes longer
  to start than it would live.
  """
  began, kills, before = time.perf_counter(), 0, 0
  process = start(file, folder, '--scheduler', 'local:2')
  due = began + every
  kept = folder / 'trials.jsonl'
  while process.poll() is None:
    time.sleep(0.05)
    count = kept.read_bytes().count(b'\n') if kept.exists() else 0
    if count == before or time.perf_counter() < due:
      continue
    before, due = count, time.perf_counter() + every
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
  return {'seconds': time.perf_counter() - began, 'every': every,
          'kills': kills}


def trials(folder: pathlib.Path) -> dict[str, Any]:
  """{fingerprint: record without seconds}; raises if one is there twice."""
  rows = [json.loads(line) for line in (
      folder / 'trials.jsonl').read_text().splitlines()]
  found = {row['fingerprint']: {
      name: value for name, value in row.items() if name != 'seconds'}
           for row in rows if row['phase'] in ('tune', 'final')}
  assert len(found) == sum(row['phase'] in ('tune', 'final') for row in rows)
  return found


def run(way: str, place: pathlib.Path, steps: int,
        every: float) -> dict[str, float]:
  """Runs the command in one way, in a new folder."""
  file = place / 'cluster.toml'
  file.write_text(CONFIG.replace('STEPS', str(steps)))
  named = f'{way}-{steps}'
  folder = place / f'{named}-{len(list(place.glob(f"{named}-*")))}'
  if way == 'killed':
    found = battered(file, folder, every, random.Random(0))
  else:
    words = () if way == 'here' else ('--scheduler', way)
    found = timed(file, folder, *words)
  found |= {'steps': steps}
  (folder / 'benchmark.json').write_text(json.dumps(found))
  print(f'{way}: {found}', flush=True)
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--place', type=pathlib.Path)
  parser.add_argument('--ways', nargs='*', choices=WAYS, default=WAYS)
  parser.add_argument('--steps', type=int, default=3500)
  parser.add_argument('--every', type=float, default=5.0)
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    place = options.place or pathlib.Path(name)
    place.mkdir(exist_ok=True)
    for way in options.ways:
      run(way, place, options.steps, options.every)
    found: dict[str, list[dict[str, float]]] = {way: [
        json.loads(file.read_text())
        for file in sorted(place.glob(f'{way}-*/benchmark.json'))]
                                                for way in WAYS}
    if not all(any(run['steps'] == options.steps for run in found[way])
               for way in WAYS[:2]):
      return
    counts = set()
    for file in place.glob('*-0/benchmark.json'):
      same = re.sub(r'^.*-(\d+)-0$', r'*-\1-*', file.parent.name)
      whole = trials(file.parent)
      counts.add(len(whole))
      for other in place.glob(f'{same}/benchmark.json'):
        assert trials(other.parent) == whole, f'{other}: other trials'
  best = {way: {figure: min(run[figure] for run in found[way]
                            if run['steps'] == options.steps)
                for figure in ('seconds', 'processor')} for way in WAYS[:2]}
  common.save('cluster', {
      'trials': sorted(counts), 'equal': True, 'ways': found,
      'ratio': {figure: best['local:2'][figure] / best['here'][figure]
                for figure in ('seconds', 'processor')}})


if __name__ == '__main__':
  main()
