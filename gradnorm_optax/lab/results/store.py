"""A run folder: one line for every finished trial, never lost or repeated."""

import hashlib
import json
import os
import pathlib
import threading
from typing import Any

from gradnorm_optax.lab.support.files import claim, disk
from gradnorm_optax.lab.support.jsonl import read

TRIALS = 'trials.jsonl'


def finished(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
  """The finished trials of a folder, by fingerprint; changes nothing."""
  path = folder / TRIALS
  rows = read(path, 'fingerprint', 'a finished trial') if path.exists() else []
  return {row['fingerprint']: row for row in rows}


def fingerprint(**parts: Any) -> str:
  """A digest of what determines a trial's result.

  >>> fingerprint(rate=0.1, seed=1) == fingerprint(seed=1, rate=0.1)
  True
  """
  text = json.dumps(parts, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:24]


class Store:
  """The finished trials of a run folder, by fingerprint.

  Every line of `trials.jsonl` is written by one call and flushed to the disk;
  a line cut short by a crash is dropped when the folder is opened again.
  """

  def __init__(self, folder: str | os.PathLike[str], *, fresh: bool = False):
    """Opens the folder, making it if needed; `fresh` forgets old results."""
    self.folder = pathlib.Path(folder)
    self._lock = threading.Lock()
    self.records: dict[str, dict[str, Any]] = {}
    with disk(self.folder):
      self.folder.mkdir(parents=True, exist_ok=True)
      self._guard = claim(self.folder)
      try:
        path = self.folder / TRIALS
        if fresh:
          path.unlink(missing_ok=True)
        self._read(path)
        self._file = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
      except BaseException:
        self._guard.release()
        raise

  def _read(self, path: pathlib.Path) -> None:
    """Reads the finished trials and cuts off a broken last line."""
    if not path.exists():
      return
    self.records |= finished(self.folder)
    os.truncate(path, path.read_bytes().rfind(b'\n') + 1)

  def add(self, record: dict[str, Any]) -> None:
    """Appends a finished trial; it is on the disk when this returns."""
    line = (json.dumps(record) + '\n').encode()
    with self._lock, disk(self.folder):
      begin = os.fstat(self._file).st_size
      written = 0
      try:
        while written < len(line):
          written += os.write(self._file, line[written:])
        os.fsync(self._file)
      except OSError:
        os.ftruncate(self._file, begin)
        raise
      self.records[record['fingerprint']] = record

  def close(self) -> None:
    """Gives the folder free."""
    with self._lock:
      os.close(self._file)
      self._file = -1  # a thread that comes late is refused
      self._guard.release()

  def __enter__(self) -> 'Store':
    return self

  def __exit__(self, *_: object) -> None:
    self.close()
