"""Whether a run goes on, for those who watch it from another process."""

import contextlib
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import Any

from gradnorm_optax.lab.run.folder_guard import STATUS
from gradnorm_optax.lab.support import files, signals
from gradnorm_optax.lab.support.errors import LabError

AGAIN = 'the same command goes on from the last checkpoint'


@contextlib.contextmanager
def kept(folder: pathlib.Path, step: int,
         writes: bool = True) -> Iterator[list[int]]:
  """Keeps status.json true while a run goes on, and when it ends.

  Args:
    folder: The run's.
    step: From which step it goes on.
    writes: Whether this is the process that writes.

  Yields:
    A list; a signal's number in it at the end says what stopped the run.
  """
  content = {'state': 'running', 'told': '', 'pid': os.getpid(),
             'host': socket.gethostname(), 'began': round(time.time(), 1),
             'from_step': step}

  def write(state: str, told: str = '') -> None:
    if writes:
      files.write(folder / STATUS, json.dumps(
          {**content, 'state': state, 'told': told}) + '\n')

  write('running')
  caught: list[int] = []
  try:
    yield caught
  except BaseException as error:
    with contextlib.suppress(LabError):  # the first error is the one to tell
      write(*_told(error))
    raise
  if caught:
    write('stopped', f'by signal {caught[0]}; {AGAIN}')
  else:
    write('finished')


def _told(error: BaseException) -> tuple[str, str]:
  """State and words of a run that an error ended."""
  if isinstance(error, LabError):
    return 'diverged' if error.code == 3 else 'failed', str(error)
  if isinstance(error, signals.Stopped):
    return 'stopped', f'by a signal; {AGAIN}'
  return 'failed', f'{type(error).__name__}: {error}'.rstrip(': ')


def read(folder: pathlib.Path) -> dict[str, Any]:
  """What status.json says; {} where there is none.

  Of a process of this machine that is gone, `state` is "killed".
  """
  try:
    found = json.loads((folder / STATUS).read_text(encoding='utf-8'))
  except (OSError, ValueError):
    return {}
  if found['state'] == 'running' and found['host'] == socket.gethostname() and (
      not _alive(found['pid'])):
    found |= {'state': 'killed', 'told': AGAIN}
  return found


def _alive(pid: int) -> bool:
  """Whether a process is there; where that cannot be asked, it is."""
  if os.name != 'posix':  # elsewhere signal 0 would end it
    return True
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    pass
  return True
