"""The trials of a study, in a file that is written after each group."""

import json
import math
import pathlib
import time
from collections.abc import Iterable
from typing import Any

from benchmarks import common
from gradnorm_optax.lab.support import files, json_safe

Trial = dict[str, Any]  # arm, rate, phase, seed, value, extra


class Book:
  """Trials by (phase, arm, rate, seed); a value of None diverged."""

  def __init__(self, path: pathlib.Path, study: str, measure: str,
               higher: bool, settings: dict[str, Any]):
    self.path = path
    self.head = {'study': study, 'measure': measure, 'higher': higher,
                 'settings': json_safe.plain(settings)}
    self.trials: list[Trial] = []
    self.seconds = 0.0
    self.complete = False
    self._since = time.perf_counter()
    if path.exists():
      self._read()

  def _read(self) -> None:
    kept = json.loads(self.path.read_text())
    declared = json.loads(json.dumps(self.head, default=float))
    if {key: kept.get(key) for key in declared} != declared:
      raise SystemExit(
          f'{self.path} was made with other settings than the study declares;'
          ' give another --out, or remove it')
    self.trials, self.seconds = kept['trials'], kept['seconds']
    self.complete = kept.get('complete', False)

  def find(self, phase: str, arm: str, rate: float, seed: int) -> Trial | None:
    """The trial that was run, if it was."""
    for trial in self.trials:
      if (trial['phase'], trial['arm'], trial['seed']) == (
          phase, arm, seed) and _same(trial['rate'], rate):
        return trial
    return None

  def values(self, phase: str, arm: str, rate: float) -> list[float | None]:
    """The values of all seeds of one point, in order of the seeds."""
    found = [trial for trial in self.trials
             if (trial['phase'], trial['arm']) == (phase, arm)
             and _same(trial['rate'], rate)]
    return [t['value'] for t in sorted(found, key=lambda t: t['seed'])]

  def add(self, trials: Iterable[Trial]) -> None:
    """Adds a group, and writes the file."""
    self.complete = False
    for trial in trials:
      self.trials.append({**trial, 'value': _finite(trial['value'])})
    now = time.perf_counter()
    self.seconds += now - self._since
    self._since = now
    self.write()

  def finish(self) -> None:
    """Says that nothing is missing."""
    if not self.complete:
      self.complete = True
      self.write()

  def write(self) -> None:
    """Writes one trial to a line."""
    self.path.parent.mkdir(parents=True, exist_ok=True)
    head = json.dumps(
        {**self.head, 'complete': self.complete,
         'seconds': round(self.seconds, 1), **common.made()},
        indent=1, default=float, allow_nan=False)
    lines = ',\n'.join('  ' + json.dumps(
        json_safe.plain({**trial, 'rate': float(f'{trial["rate"]:.6g}')}),
        default=float, allow_nan=False)
                       for trial in self.trials)
    files.write(self.path,
                f'{head[:-2]},\n "trials": [\n{lines}\n ]\n}}\n')


def _same(rate: float, other: float) -> bool:
  return math.isclose(rate, other, rel_tol=1e-5)  # kept with six digits


def _finite(value: Any) -> float | None:
  return None if value is None or not math.isfinite(value) else float(value)
