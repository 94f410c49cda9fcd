"""A run's figures: one line each in metrics.jsonl, and TensorBoard's events."""

import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from gradnorm_optax.lab import results
from gradnorm_optax.lab.errors import LabError


class Metrics:
  """Figures by step, without gaps or repeats whenever a run was killed."""

  def __init__(self, folder: pathlib.Path, step: int):
    """Opens the folder, forgetting what lies after `step`."""
    self._path = folder / 'metrics.jsonl'
    self.rows = [row for row in read(self._path) if row['step'] <= step]
    results.write(
        self._path, ''.join(json.dumps(row) + '\n' for row in self.rows))
    with _disk(self._path):
      self._file = open(self._path, 'a', encoding='utf-8')
    self._board = Board(folder / 'tensorboard', step)

  def add(self, row: dict[str, Any]) -> None:
    """Appends a row; it is on the disk when this returns."""
    with _disk(self._path):
      self._file.write(json.dumps(row) + '\n')
      self._file.flush()
      os.fsync(self._file.fileno())
    self.rows.append(row)
    self._board.add(row)

  def close(self) -> None:
    """Gives the files free; what `add` took is written already."""
    for file in (self._file, self._board):
      with contextlib.suppress(OSError):  # a buffer that found the disk full
        file.close()


class Board:
  """TensorBoard's events, one for each row; none without tensorboardX.

  tensorboardX's own `SummaryWriter` hands events to a thread, which loses the
  last of them to a kill and, once its disk is full, blocks the run for good.
  Here every row is on the disk before the checkpoint that follows it. Each
  start opens a file whose first event tells TensorBoard to forget the steps
  that are trained again.
  """

  def __init__(self, folder: pathlib.Path, step: int):
    """Opens a new file of events after `step`."""
    self._folder = folder
    self._writer: Any = None
    try:
      from tensorboardX import event_file_writer
      from tensorboardX.proto import event_pb2
    except ImportError:
      return
    self._event = event_pb2.Event
    with _disk(folder):
      folder.mkdir(parents=True, exist_ok=True)
      # Two starts within a second must not share a name.
      self._writer = event_file_writer.EventsWriter(
          str(folder / 'events'), f'.{step:09d}.{os.getpid()}')
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._write(step=step + 1, session_log=start)

  def add(self, row: dict[str, Any]) -> None:
    """Writes the figures of a row, under one step."""
    if self._writer is None:
      return
    from tensorboardX.proto import summary_pb2
    values = [summary_pb2.Summary.Value(tag=name, simple_value=value)
              for name, value in row.items()
              if name != 'step' and value is not None]
    with _disk(self._folder):
      self._write(step=row['step'], summary=summary_pb2.Summary(value=values))

  def _write(self, **content: Any) -> None:
    self._writer.write_event(self._event(wall_time=time.time(), **content))
    self._writer.flush()

  def close(self) -> None:
    """Gives the file free."""
    if self._writer is not None:
      self._writer.close()


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the whole rows; a line cut short by a crash is left out."""
  if not path.exists():
    return []
  text = path.read_text(encoding='utf-8')
  rows = []
  for number, line in enumerate(text[:text.rfind('\n') + 1].splitlines(), 1):
    try:
      rows.append(json.loads(line))
      rows[-1]['step']
    except (ValueError, KeyError, TypeError) as error:
      raise LabError(f'{path}:{number}: not a row of figures ({error}); mend '
                     'the line or start over with --fresh') from error
  return rows


def finite(value: Any) -> float | None:
  """A figure that JSON can hold."""
  return float(value) if math.isfinite(value) else None


@contextlib.contextmanager
def _disk(path: pathlib.Path) -> Iterator[None]:
  """Turns an error of the disk into one line."""
  try:
    yield
  except OSError as error:
    raise LabError(f'{path}: cannot write ({error.strerror or error}); the '
                   'last checkpoint is whole') from error
