"""What the page needs of a finished comparison, in one small file."""

import datetime
import itertools
import math
import pathlib
from typing import Any

from gradnorm_optax.lab.results import judging, results_file, verdict
from gradnorm_optax.lab.results.findings import Row
from gradnorm_optax.lab.results.trials import Pair, Trials

PLACES = 5  # significant digits


def study(folder: pathlib.Path) -> dict[str, Any]:
  """Reads a finished folder of `gradnorm compare`.

  Returns:
    Plain data: what was run, one row for each model and method with the
    figures of every seed, and the intervals of all differences of test scores,
    which the lab takes over seeds and examples.

  Raises:
    LabError: No finished comparison is there.
  """
  found = results_file.read(folder)
  trials = results_file.trials(folder, found)
  summary, measure = found.summary, found.summary.measure
  rows = {f'{row.model}/{row.method}': row for row in summary.rows}
  seconds: dict[str, float] = {}  # of one core, by row
  for record in trials.records.values():
    name = f'{record.get("model")}/{record.get("method")}'
    seconds[name] = seconds.get(name, 0) + (record.get('seconds') or 0)
  return {
      'study': summary.name, 'title': summary.title, 'data': summary.data,
      'measure': measure.name, 'scale': measure.scale, 'unit': measure.unit,
      'chance': summary.chance, 'target': summary.target,
      'steps': summary.steps, 'every': summary.every,
      'tune_seeds': summary.tune_seeds, 'seeds': summary.seeds,
      'seconds': round(sum(seconds.values())), 'trials': trials.count()[1],
      'rows': {name: _row(trials, row) | {'seconds': round(seconds[name])}
               for name, row in rows.items()},
      'differences': _differences(trials, rows),
      'baselines': {row.model: base.method for row in summary.rows if (
          base := verdict.baseline([one for one in summary.rows
                                    if one.model == row.model], None))},
      'verdicts': [one.text for one in summary.verdicts],
      'date': _date(folder), 'versions': found.basis.versions,
      'revision': found.basis.revision, 'machine': found.basis.machine}


def _row(trials: Trials, row: Row) -> dict[str, Any]:
  """One method on one model."""
  pair = Pair(row.model, row.method)
  # Of searched settings a rate may stand for several points.
  tuned: dict[str, list[float | None]] = {}
  for point in sorted(trials.lasting(pair), key=lambda point: point.rate):
    tuned.setdefault(f'{point.rate:.4g}', []).extend(
        _short(run.score) for run in trials.runs('tune', pair, point))
  return {
      'rate': row.rate, 'edge': row.edge, 'trains': row.trains,
      'plain': row.plain, 'searched': len(trials.points(pair)),
      'settings': row.settings,
      'score': [_short(value) for value in row.score],
      'test': [_short(run.test_score) for run in row.runs],
      'validation': [_short(run.score) for run in row.runs],
      'train_loss': [_short(run.train_loss) for run in row.runs],
      'steps': [_short(run.steps_to_target) for run in row.runs],
      'losses': [[_short(loss, 4) for loss in run.losses] for run in row.runs],
      'curve': [_short(sum(found) / len(found), 4)
                for found in itertools.zip_longest(
                    *(run.curve for run in row.runs), fillvalue=0.0)],
      'diverged': row.diverged, 'tuned': tuned,
      'regret': _short(verdict.regret(row)),
      'step_seconds': _short(row.step_seconds),
      'overhead': row.overhead and [_short(value) for value in row.overhead],
      'bare': row.bare}


def _differences(trials: Trials,
                 rows: dict[str, Row]) -> dict[str, list[float | None]]:
  """{'a - b': mean and interval}, for all pairs of rows."""
  answers = {name: trials.answers(Pair(row.model, row.method))
             for name, row in rows.items()}
  return {f'{a} - {b}': [_short(value) for value in judging.difference(
      answers[a], answers[b])] for a, b in itertools.combinations(answers, 2)}


def _short(value: float, places: int = PLACES) -> float | None:
  """Few digits; None for what is not finite."""
  return float(f'{value:.{places}g}') if math.isfinite(value) else None


def _date(folder: pathlib.Path) -> str:
  """The day on which its results were written."""
  stamp = (folder / results_file.FILE).stat().st_mtime
  return datetime.date.fromtimestamp(stamp).isoformat()
