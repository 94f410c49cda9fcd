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

  Raises:
    LabError: No finished comparison is there, or trials are missing.
  """
  trials = results_file.trials(folder, results_file.read(folder))
  every = trials.config.train.eval_every
  found = []
  for pair in trials.pairs():
    for phase in PHASES:
      for rate in trials.tried(phase, pair):
        for record in trials.finished(phase, pair, rate):
          history, test = record['history'], record.get('test') or {}
          found.append({
              **pair._asdict(), 'learning_rate': rate, 'seed': record['seed'],
              'phase': phase, 'chosen': rate == trials.chosen(pair),
              'diverged': record['diverged'],
              'steps': every * len(history['loss']),
              'validation_score': _last(history['score']),
              'validation_loss': _last(history['loss']),
              'train_loss': _last(history['train_loss']),
              'test_score': _known(test.get('score')),
              'test_loss': _known(test.get('loss')),
              'seconds': _known(record.get('seconds')),
              'key': record['fingerprint']})
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
  table = csv.DictWriter(buffer, list(COLUMNS), lineterminator='\n')
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
  parquet.write_table(pyarrow.Table.from_pylist(found, pyarrow.schema(
      [(name, kinds[kind]) for name, kind in COLUMNS.items()])), buffer)
  return buffer.getvalue()


def _last(values: list[float | None]) -> float | None:
  return _known(values[-1]) if values else None


def _known(value: float | None) -> float | None:
  """A finite figure; None else."""
  return value if value is not None and math.isfinite(value) else None
