"""Kills `gradnorm train` and `gradnorm compare` at random moments.

A third of the kills come at any moment after the start, a third while figures
are being written, a third while a checkpoint (or the report) is: as soon as its
unfinished file is seen. The command is started again each time. Afterwards
nothing may tell the run from one that nobody disturbed: parameters bit for bit,
figures, TensorBoard's events, finished trials. Of a run in two processes one is
killed, see `process_kills`. A kind with 0 kills keeps what was measured before.
"""

import argparse
import collections
import json
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import common, process_kills
from gradnorm_optax.lab.run import checkpoints, compiled_run, loop
from gradnorm_optax.lab.schema import toml
from gradnorm_optax.lab.support import jsonl

CONFIG = """
[models.small]
kind = "mlp"
depth = 2
width = 32
[train]
steps = 3000
batch_size = 32
eval_every = 10
schedule = "cosine"
[run]
method = "sing"
keep = 2
[compare]
learning_rates = [0.001, 0.003, 0.01, 0.03]
tune_seeds = 5
seeds = 5
target = 0.8
timing_rounds = 3
[methods.adam]
optimizer = "adam"
[methods.sing]
optimizer = "sing"
lookahead = 5
"""


class Kind(NamedTuple):
  """A command and where its progress is seen.

  Attributes:
    command: `train` or `compare`.
    lines: The file that a finished piece of work adds a line to.
    unfinished: Globs of what lies there only while something is written.
  """

  command: str
  lines: str
  unfinished: tuple[str, ...]


TRAIN = Kind('train', 'metrics.jsonl', ('checkpoints/*tmp*',
                                        'checkpoints/deleted'))
COMPARE = Kind('compare', 'trials.jsonl', ('*.part',))


def start(kind: Kind, file: pathlib.Path,
          folder: pathlib.Path) -> subprocess.Popen[bytes]:
  """Starts the command on its folder."""
  return subprocess.Popen(
      [sys.executable, '-m', 'gradnorm_optax.lab.cli', kind.command, str(file),
       '--out', str(folder)], stdout=subprocess.DEVNULL)


def count(kind: Kind, folder: pathlib.Path) -> int:
  path = folder / kind.lines
  return path.read_bytes().count(b'\n') if path.exists() else 0


def writing(kind: Kind, folder: pathlib.Path, since: float) -> bool:
  """Whether something is half written that was begun after `since`."""
  def age(path: pathlib.Path) -> float:
    try:
      return path.stat().st_mtime
    except FileNotFoundError:
      return 0.0
  return any(age(path) > since for glob in kind.unfinished
             for path in folder.glob(glob))


def kill(kind: Kind, file: pathlib.Path, folder: pathlib.Path,
         moment: str, rng: random.Random, startup: float) -> str | None:
  """Starts the command and kills it; says what it was at, None if too late."""
  since, lines = time.time(), count(kind, folder)
  stop = time.monotonic() + rng.uniform(0, 1.5 * startup)
  more, delay = rng.randrange(3), rng.uniform(0, 0.2)
  process = start(kind, file, folder)
  # A start may drop the last line or two: its own come after these.
  while process.poll() is None:
    if moment == 'anywhere' and time.monotonic() > stop:
      break
    if moment == 'figures' and count(kind, folder) > lines + more:
      time.sleep(delay)
      break
    if moment == 'files' and writing(kind, folder, since):
      more -= 1
      if more < 0:
        break
      while writing(kind, folder, since) and process.poll() is None:
        time.sleep(0.0005)
    time.sleep(0.0005)
  process.kill()
  if process.wait() == 0:
    return None
  if process.returncode != -9:
    raise RuntimeError(f'exit code {process.returncode} of {kind.command}')
  if writing(kind, folder, since):
    return 'writing files'
  return 'working' if count(kind, folder) > lines else 'starting'


def battered(kind: Kind, file: pathlib.Path, folder: pathlib.Path, kills: int,
             rng: random.Random, startup: float,
             check: Callable[[pathlib.Path], None]) -> list[str]:
  """Kills a run until `kills` are reached or it ends; lets it end."""
  where: list[str] = []
  while len(where) < kills:
    moment = ('anywhere', 'figures', 'files')[len(where) % 3]
    found = kill(kind, file, folder, moment, rng, startup)
    if found is None:
      return where
    where.append(found)
    print(f'{kind.command}: kill {len(where)} while {found}, '
          f'{count(kind, folder)} lines', flush=True)
    check(folder)
  if start(kind, file, folder).wait() != 0:
    raise RuntimeError(f'{kind.command} did not end')
  return where


def board(folder: pathlib.Path) -> dict[str, list[int]]:
  """{tag: steps} as TensorBoard shows them: a start forgets later steps."""
  from tensorboardX.proto import event_pb2
  steps: dict[str, list[int]] = collections.defaultdict(list)
  for path in sorted(folder.iterdir()):
    data, at = path.read_bytes(), 0
    while at + 12 <= len(data):
      size, = struct.unpack('Q', data[at:at + 8])
      if at + 16 + size > len(data):
        break  # cut short by the kill
      event = event_pb2.Event.FromString(data[at + 12:at + 12 + size])
      at += 16 + size
      if event.session_log.status == event_pb2.SessionLog.START:
        for tag in steps:
          steps[tag] = [step for step in steps[tag] if step < event.step]
      for value in event.summary.value:
        steps[value.tag].append(event.step)
  return dict(steps)


def whole_checkpoints(file: pathlib.Path) -> Callable[[pathlib.Path], None]:
  """A check that every checkpoint in a copy of a folder can be read."""
  read = toml.read(file)
  like = compiled_run.Trainer(read).start()

  def check(folder: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory() as place:
      copy = pathlib.Path(place) / 'checkpoints'
      if not (folder / 'checkpoints').exists():
        return
      shutil.copytree(folder / 'checkpoints', copy)
      kept = checkpoints.Checkpoints(copy, read.run.keep)
      for step in kept.steps():
        if int(kept.restore(step, like).step) != step:
          raise RuntimeError(f'the checkpoint of step {step} is another')
      kept.close()

  return check


def compare_trains(file: pathlib.Path, one: pathlib.Path,
                   other: pathlib.Path) -> None:
  """Raises unless two finished runs are equal, bit for bit."""
  rows = [[{k: v for k, v in row.items() if k != 'seconds_per_step'}
           for row in jsonl.read_steps(folder / 'metrics.jsonl')]
          for folder in (one, other)]
  looks = [jsonl.read_steps(folder / 'blocks.jsonl')
           for folder in (one, other)]
  read = toml.read(file)
  every = read.train.eval_every
  steps = list(range(every, read.train.steps + 1, every))
  assert [row['step'] for row in rows[0]] == steps, 'gaps or repeats'
  assert rows[0] == rows[1], 'other figures'
  assert looks[0] == looks[1], 'other looks at the blocks'
  watched = [[{k: v for k, v in row.items() if k != 'time'}
              for row in jsonl.read_steps(folder / 'watch.jsonl')]
             for folder in (one, other)]
  assert [row['step'] for row in watched[0]] == steps, 'gaps or repeats'
  assert watched[0] == watched[1], 'the watcher saw something else'
  looked = [look['step'] for look in looks[0]]
  for tag, found in board(one / 'tensorboard').items():
    # What looks show of the blocks; what is watched has every evaluation.
    shown = tag == 'noise_scale' or ('/' in tag and tag.split('/')[0] not in (
        'reading', 'below', 'above'))
    assert found == (looked if shown else steps), (
        f'TensorBoard: {tag} has gaps or repeats')
  trees = [jax.tree.leaves(loop.restored(folder, read)[1])
           for folder in (one, other)]
  for a, b in zip(*trees, strict=True):
    np.testing.assert_array_equal(a, b)


def compare_compares(one: pathlib.Path, other: pathlib.Path) -> None:
  """Raises unless two comparisons hold the same trials, each once."""
  def trials(folder: pathlib.Path) -> dict[str, Any]:
    text = (folder / 'trials.jsonl').read_text()
    records = [json.loads(line) for line in text.splitlines()]
    names = [record['fingerprint'] for record in records]
    assert len(names) == len(set(names)), 'a trial was computed twice'
    return {record['fingerprint']: {
        k: v for k, v in record.items() if k != 'seconds'}
            for record in records if record['phase'] != 'timing'}

  assert trials(one) == trials(other), 'trials were lost or differ'
  assert (one / 'report.html').exists() and not list(one.glob('*.part'))


def measure(kind: Kind, kills: int, place: pathlib.Path,
            seed: int) -> dict[str, Any]:
  """Kills one command `kills` times; raises if anything shows of it."""
  file, rng = place / 'kills.toml', random.Random(seed)
  file.write_text(CONFIG)
  whole = place / f'{kind.command}-whole'
  began, process = time.monotonic(), start(kind, file, whole)
  while process.poll() is None and not count(kind, whole):
    time.sleep(0.01)
  startup = time.monotonic() - began
  assert process.wait() == 0
  check = (whole_checkpoints(file) if kind is TRAIN else
           lambda folder: None)
  where: list[str] = []
  runs = 0
  while len(where) < kills:
    folder = place / f'{kind.command}-{runs}'
    where += battered(kind, file, folder, kills - len(where), rng, startup,
                      check)
    if kind is TRAIN:
      compare_trains(file, folder, whole)
    else:
      compare_compares(folder, whole)
    runs += 1
  return {'kills': len(where), 'runs': runs,
          'while': dict(collections.Counter(where)), 'equal': True}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--train', type=int, default=20)
  parser.add_argument('--compare', type=int, default=10)
  parser.add_argument('--processes', type=int, default=10)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  kept = common.RESULTS / 'kills.json'
  before = json.loads(kept.read_text()) if kept.exists() else {}
  results: dict[str, Any] = {name: before[name] for name in (
      'train', 'compare', 'processes') if name in before}
  with tempfile.TemporaryDirectory() as place:
    for kind in (TRAIN, COMPARE):
      kills = getattr(options, kind.command)
      if kills:
        results[kind.command] = measure(
            kind, kills, pathlib.Path(place), options.seed)
        print(f'{kind.command}: {results[kind.command]}', flush=True)
    if options.processes:
      results['processes'] = process_kills.measure(
          options.processes, pathlib.Path(place), options.seed)
  common.save('kills', results)


if __name__ == '__main__':
  main()
