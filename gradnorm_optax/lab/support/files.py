"""Files written whole or not at all, and the lock of a folder."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

import filelock

from gradnorm_optax.lab.support.errors import LabError


def claim(folder: pathlib.Path) -> filelock.BaseFileLock:
  """Takes a folder's lock, which a dying process gives free.

  Two writers would do all work twice. Returns the lock: release it to give the
  folder free.
  """
  guard = filelock.FileLock(folder / '.lock', blocking=False,
                            thread_local=False)
  with disk(folder):
    folder.mkdir(parents=True, exist_ok=True)
    try:
      guard.acquire()
    except filelock.Timeout:  # an OSError, but none of the disk
      raise LabError(f'{folder}: another process is writing here; wait for it '
                     'or give --out another folder') from None
  return guard


def claimed(folder: pathlib.Path) -> bool:
  """Whether another process writes in a folder; changes nothing."""
  path = folder / '.lock'
  if not path.exists():
    return False
  guard = filelock.FileLock(path, blocking=False)
  try:
    guard.acquire()
  except filelock.Timeout:
    return True
  except OSError:  # of a disk that cannot be written
    return False
  guard.release()
  return False


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
