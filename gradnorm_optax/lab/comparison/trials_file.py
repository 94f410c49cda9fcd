"""`gradnorm report RUN --export`: every trial as a row of a table."""

import csv
import io
import math
import pathlib
from typing import Any

from gradnorm_optax.lab.results import results_file
from gradnorm_optax.lab.results.trials import PHASES
from gradnorm_optax.lab.support import files
from gradnorm_optax.lab.support.errors import LabError

# Name and type of every column; docs/lab.md says what they mean.
COLUMNS = {
    'model': str, 'method': str, 'learning_rate': float, 'seed': int,
    'phase': str, 'chosen': bool, 'diverged': bool, 'steps': int,
    'validation_score': float, 'validation_loss': float, 'train_loss': float,
    'test_score': float, 'test_loss': float, 'seconds': float, 'key': str}


def rows(folder: pathlib.Path) -> list[dict[str, Any]]:
  """One for each trial on which the report of a folder rests.

  What was searched besides the rate follows, a column for each key.

  Raises:
    LabError: No finished comparison is there, or trials are missing.
  """
  trials = results_file.trials(folder, results_file.read(folder))
  every = trials.config.train.eval_every
  keys = dict.fromkeys(key for method in trials.config.methods
                       for key in trials.config.choices(method))
  found = []
  for pair in trials.pairs():
    for phase in PHASES:
      for point in trials.tried(phase, pair):
        for record in trials.finished(phase, pair, point):
          history, test = record['history'], record.get('test') or {}
          found.append({
              **pair._asdict(), 'learning_rate': point.rate,
              'seed': record['seed'], 'phase': phase,
              'chosen': point == trials.chosen(pair),
              'diverged': record['diverged'],
              'steps': every * len(history['loss']),
              'validation_score': _last(history['score']),
              'validation_loss': _last(history['loss']),
              'train_loss': _last(history['train_loss']),
              'test_score': _known(test.get('score')),
              'test_loss': _known(test.get('loss')),
              'seconds': _known(record.get('seconds')),
              'key': record['fingerprint'],
              **dict.fromkeys(keys), **dict(point.settings)})
  return found


def write(folder: pathlib.Path, path: pathlib.Path) -> int:
  """Writes the trials of a folder; returns how many there are.

  Raises:
    LabError: Neither .csv nor .parquet, or pyarrow is not installed.
  """
  kind = path.suffix.lower()
  if kind not in ('.csv', '.parquet'):
    raise LabError(f'{path}: write .csv or .parquet')
  found = rows(folder)
  files.write(path, _csv(found) if kind == '.csv' else _parquet(path, found))
  return len(found)


def _csv(found: list[dict[str, Any]]) -> str:
  """Empty where nothing is known; numbers to their last digit."""
  buffer = io.StringIO()
  table = csv.DictWriter(buffer, _columns(found), lineterminator='\n')
  table.writeheader()
  table.writerows(found)
  return buffer.getvalue()


def _parquet(path: pathlib.Path, found: list[dict[str, Any]]) -> bytes:
  try:
    import pyarrow
    from pyarrow import parquet
  except ImportError:
    raise LabError(f'{path}: Parquet needs pyarrow; run: pip install pyarrow, '
                   'or write .csv') from None
  kinds = {str: pyarrow.string(), float: pyarrow.float64(),
           int: pyarrow.int64(), bool: pyarrow.bool_()}
  buffer = io.BytesIO()
  searched = [name for name in _columns(found) if name not in COLUMNS]
  numbers = {name: all(isinstance(row[name], int | float | None)
                       for row in found) for name in searched}
  parquet.write_table(pyarrow.Table.from_pylist(
      [row | {name: _told(row[name], numbers[name]) for name in searched}
       for row in found], pyarrow.schema(
           [(name, kinds[kind]) for name, kind in COLUMNS.items()] + [
               (name, kinds[float if number else str])
               for name, number in numbers.items()])), buffer)
  return buffer.getvalue()


def _columns(found: list[dict[str, Any]]) -> list[str]:
  return list(found[0]) if found else list(COLUMNS)


def _told(value: Any, number: bool) -> float | str | None:
  """A searched value, in a column that holds numbers or words."""
  if value is None:
    return None
  return float(value) if number else str(value)


def _last(values: list[float | None]) -> float | None:
  return _known(values[-1]) if values else None


def _known(value: float | None) -> float | None:
  """A finite figure; None else."""
  return value if value is not None and math.isfinite(value) else None
