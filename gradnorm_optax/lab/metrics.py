"""A run's figures: one line each in metrics.jsonl, and TensorBoard's events."""

import json
import math
import os
import pathlib
from typing import Any

from gradnorm_optax.lab import results
from gradnorm_optax.lab.errors import LabError


class Metrics:
  """Figures by step, without gaps or repeats whenever a run was killed."""

  def __init__(self, folder: pathlib.Path, step: int):
    """Opens the folder, forgetting what lies after `step`."""
    self.folder = folder
    path = folder / 'metrics.jsonl'
    self.rows = [row for row in read(path) if row['step'] <= step]
    results.write(path, ''.join(json.dumps(row) + '\n' for row in self.rows))
    self._file = open(path, 'a', encoding='utf-8')
    self._board = _board(folder / 'tensorboard', step)

  def add(self, row: dict[str, Any]) -> None:
    """Appends a row; it is on the disk when this returns."""
    try:
      self._file.write(json.dumps(row) + '\n')
      self._file.flush()
      os.fsync(self._file.fileno())
    except OSError as error:
      raise LabError(f'{self.folder}/metrics.jsonl: cannot write '
                     f'({error.strerror or error}); the last checkpoint is '
                     'whole') from error
    self.rows.append(row)
    if self._board is not None:
      for name, value in row.items():
        if name != 'step' and value is not None:
          self._board.add_scalar(name, value, row['step'])

  def close(self) -> None:
    """Writes what is left."""
    self._file.close()
    if self._board is not None:
      self._board.close()


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the whole rows; a line cut short by a crash is left out."""
  if not path.exists():
    return []
  text = path.read_text(encoding='utf-8')
  return [json.loads(line)
          for line in text[:text.rfind('\n') + 1].splitlines()]


def finite(value: Any) -> float | None:
  """A figure that JSON can hold."""
  return float(value) if math.isfinite(value) else None


def _board(folder: pathlib.Path, step: int) -> Any:
  """TensorBoard's writer, where tensorboardX is installed."""
  try:
    from tensorboardX import SummaryWriter
  except ImportError:
    return None
  return SummaryWriter(str(folder), purge_step=step + 1)
