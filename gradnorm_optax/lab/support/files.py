"""Files written whole or not at all, and the lock of a folder."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from gradnorm_optax.lab.support.errors import LabError


def claim(folder: pathlib.Path) -> Any:
  """Takes a folder's lock, which a dying process gives free.

  Two writers would do all work twice. Returns a file: close it to give the
  folder free.
  """
  with disk(folder):
    folder.mkdir(parents=True, exist_ok=True)
    guard = open(folder / '.lock', 'w')
  try:
    import fcntl
  except ImportError:  # Windows: no advisory locks; do without
    return guard
  try:
    fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    guard.close()
    raise LabError(f'{folder}: another process is writing here; wait for it '
                   'or give --out another folder') from None
  return guard


def write(path: str | os.PathLike[str], content: str | bytes) -> None:
  """Writes a file whole or not at all."""
  path = pathlib.Path(path)
  data = content.encode() if isinstance(content, str) else content
  part = path.with_name(path.name + '.part')
  with disk(path):
    try:
      with open(part, 'wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
      os.replace(part, path)
    finally:
      part.unlink(missing_ok=True)


@contextlib.contextmanager
def disk(path: pathlib.Path,
         kept: str = 'what was finished is kept') -> Iterator[None]:
  """Turns an error of the disk into one line that says what is `kept`."""
  try:
    yield
  except OSError as error:
    raise LabError(f'{path}: cannot write ({error.strerror or error}); {kept}'
                   ) from error
