"""What was measured: the files that `keep` and the studies write, in one form."""

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
  """The fresh trials of an arm, at the rate that they were run at."""
  trials = [trial for trial in kept['trials'] if trial['arm'] == arm]
  final = sorted((trial for trial in trials if trial['phase'] == 'final'),
                 key=lambda trial: trial['seed'])
  rates = sorted({trial['rate'] for trial in trials
                  if trial['phase'] == 'tune'})
  rate = final[0]['rate'] if final else np.nan
  # Of a grid that widens all but the ends were searched inside.
  edge = len(rates) > 1 and (
      np.isclose(rate, rates[0]) or np.isclose(rate, rates[-1]))
  return Row(rate, bool(edge), bool(final), False, 0.0, np.nan, {
      'values': {trial['seed']: trial['value'] for trial in final},
      'searched': len(rates)})
