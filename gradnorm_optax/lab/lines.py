"""A file of lines by step, whole whenever a run was killed."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from gradnorm_optax.lab import results
from gradnorm_optax.lab.errors import LabError


class Lines:
  """Rows with a `step` in a `.jsonl` file, without gaps or repeats."""

  def __init__(self, path: pathlib.Path, step: int):
    """Opens the file, forgetting what lies after `step`."""
    self.path = path
    self.rows = [row for row in read(path) if row['step'] <= step]
    results.write(path, _text(self.rows))

  def add(self, rows: Sequence[dict[str, Any]]) -> None:
    """Appends rows; they are on the disk when this returns."""
    with _disk(self.path), self.path.open('a', encoding='utf-8') as file:
      file.write(_text(rows))
      file.flush()
      os.fsync(file.fileno())
    self.rows.extend(rows)


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the whole rows; a line cut short by a crash is left out."""
  if not path.exists():
    return []
  text = path.read_text(encoding='utf-8')
  return [json.loads(line)
          for line in text[:text.rfind('\n') + 1].splitlines()]


def _text(rows: Sequence[dict[str, Any]]) -> str:
  return ''.join(
      json.dumps(row, separators=(',', ':')) + '\n' for row in rows)


@contextlib.contextmanager
def _disk(path: pathlib.Path) -> Iterator[None]:
  """Turns an error of the disk into one line."""
  try:
    yield
  except OSError as error:
    raise LabError(f'{path}: cannot write ({error.strerror or error}); the '
                   'last checkpoint is whole') from error
