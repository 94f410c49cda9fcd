"""A file of lines by step, whole whenever a run was killed."""

import json
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from gradnorm_optax.lab import results

KEPT = 'the last checkpoint is whole'


class Lines:
  """Rows with a `step` in a `.jsonl` file, without gaps or repeats.

  Attributes:
    path: The file.
    rows: What it holds; nothing with `remember=False`, for long files.
  """

  def __init__(self, path: pathlib.Path, step: int, remember: bool = True):
    """Opens the file, forgetting what lies after `step`."""
    self.path, self._remember = path, remember
    rows = [row for row in read(path) if row['step'] <= step]
    results.write(path, _text(rows))
    self.rows = rows if remember else []

  def add(self, rows: Sequence[dict[str, Any]]) -> None:
    """Appends rows; they are on the disk when this returns."""
    with results.disk(self.path, KEPT), self.path.open(
        'a', encoding='utf-8') as file:
      file.write(_text(rows))
      file.flush()
      os.fsync(file.fileno())
    if self._remember:
      self.rows.extend(rows)


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the rows; none where there is no file."""
  return (results.read(path, 'step', 'a row of figures') if path.exists()
          else [])


def finite(value: Any, digits: int | None = None) -> float | None:
  """A figure that JSON can hold, rounded to so many decimals."""
  value = float(value)
  if not math.isfinite(value):
    return None
  return value if digits is None else round(value, digits)


def _text(rows: Sequence[dict[str, Any]]) -> str:
  return ''.join(
      json.dumps(row, separators=(',', ':')) + '\n' for row in rows)
