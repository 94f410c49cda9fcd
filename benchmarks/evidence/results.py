"""What was measured: files that `keep` and the studies write, in one form."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from benchmarks import common

FOLDER = common.RESULTS / 'evidence'


class Row(NamedTuple):
  """What is asked of a row of either kind.

  Attributes:
    rate: The learning rate that tuning chose.
    edge: Whether it lies on the edge of what was searched.
    trains: Whether any run was better than guessing.
    plain: Whether it is a baseline.
    regret: How much better another rate looked than this one proved to be.
    seconds: Of one core, for all its trials; NaN where nobody wrote it down.
    kept: {name: figures by seed or evaluation}, as the file has them.
  """

  rate: float
  edge: bool
  trains: bool
  plain: bool
  regret: float
  seconds: float
  kept: dict[str, Any]


class Study(NamedTuple):
  """One file.

  Attributes:
    name: Of the study.
    rows: By MODEL/METHOD, or by arm.
    kept: All that the file holds.
    lab: Whether `gradnorm compare` made it.
  """

  name: str
  rows: dict[str, Row]
  kept: dict[str, Any]
  lab: bool

  @property
  def minutes(self) -> float:
    """What it took on two cores; NaN where nobody wrote it down."""
    seconds = self.kept.get('seconds')
    return np.nan if seconds is None else seconds / (120 if self.lab else 60)


def read(folder: pathlib.Path = FOLDER) -> dict[str, Study]:
  """All studies that are there, by name."""
  found = {}
  for path in sorted(folder.glob('*.json')):
    found[path.stem] = parse(path.stem, json.loads(path.read_text()))
  return found


def parse(name: str, kept: dict[str, Any]) -> Study:
  """Takes the content of a file of either kind."""
  if 'rows' in kept:
    return Study(name, {row: Row(
        one['rate'], one['edge'], one['trains'], one['plain'], one['regret'],
        one['seconds'], one) for row, one in kept['rows'].items()}, kept, True)
  arms = dict.fromkeys(trial['arm'] for trial in kept['trials'])
  return Study(name, {arm: _arm(kept, arm) for arm in arms}, kept, False)


def _arm(kept: dict[str, Any], arm: str) -> Row:
  """The fresh trials of an arm, and whether their rate was searched inside."""
  trials = [trial for trial in kept['trials'] if trial['arm'] == arm]
  final = sorted((trial for trial in trials if trial['phase'] == 'final'),
                 key=lambda trial: trial['seed'])
  tuned: dict[float, list[float]] = {}
  for trial in trials:
    if trial['phase'] == 'tune':
      tuned.setdefault(trial['rate'], []).append(
          np.nan if trial['value'] is None else trial['value'])
  rate = final[0]['rate'] if final else np.nan
  edge = len(tuned) > 1 and bool(np.isclose(
      rate, (min(tuned), max(tuned))).any())
  return Row(rate, edge, bool(final), False, 0.0, np.nan, {
      'final': final, 'tuned': {f'{one:.3g}': values for one, values in sorted(
          tuned.items())}, 'searched': len(tuned)})


def values(row: Row, at: dict[str, float] | None = None
           ) -> dict[int, float | None]:
  """{seed: value} of the fresh trials of an arm, of those that are `at`."""
  return {trial['seed']: trial['value'] for trial in row.kept['final']
          if all(trial['extra'].get(name) == value
                 for name, value in (at or {}).items())}


def best(study: Study, besides: tuple[str, ...] = ()) -> str:
  """The judged arm whose best rate did best in tuning; '' of none."""
  sign = 1 if study.kept['higher'] else -1
  judged = [name for name, row in study.rows.items()
            if row.trains and name not in besides]
  return max(judged, key=lambda name: max(
      (sign * float(np.mean(found))
       for found in study.rows[name].kept['tuned'].values()
       if not np.isnan(found).any()), default=-np.inf), default='')
