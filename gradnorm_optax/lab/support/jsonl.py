"""Files of JSON lines, whole whenever a run was killed."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from gradnorm_optax.lab.support import files
from gradnorm_optax.lab.support.errors import LabError

KEPT = 'the last checkpoint is whole'


def read(path: pathlib.Path, key: str, what: str) -> list[dict[str, Any]]:
  """Reads rows with a `key`, one a line; a line cut short is left out."""
  text, rows = path.read_bytes(), []
  for number, line in enumerate(text[:text.rfind(b'\n') + 1].splitlines(), 1):
    try:
      rows.append(json.loads(line))
      rows[-1][key]
    except (ValueError, KeyError, TypeError) as error:
      raise LabError(f'{path}:{number}: not {what} ({error}); mend the line or '
                     'start over with --fresh') from error
  return rows


class Lines:
  """Rows with a `step` in a `.jsonl` file, without gaps or repeats.

  Attributes:
    path: The file.
    rows: What it holds; nothing with `remember=False`, for long files.
  """

  def __init__(self, path: pathlib.Path, step: int, remember: bool = True):
    """Opens the file, forgetting what lies after `step`."""
    self.path, self._remember = path, remember
    rows = [row for row in read_steps(path) if row['step'] <= step]
    files.write(path, _text(rows))
    self.rows = rows if remember else []

  def add(self, rows: Sequence[dict[str, Any]]) -> None:
    """Appends rows; they are on the disk when this returns."""
    with files.disk(self.path, KEPT), self.path.open(
        'a', encoding='utf-8') as file:
      file.write(_text(rows))
      file.flush()
      os.fsync(file.fileno())
    if self._remember:
      self.rows.extend(rows)


def read_steps(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the rows; none where there is no file."""
  return (read(path, 'step', 'a row of figures') if path.exists()
          else [])


def _text(rows: Sequence[dict[str, Any]]) -> str:
  return ''.join(
      json.dumps(row, separators=(',', ':')) + '\n' for row in rows)
