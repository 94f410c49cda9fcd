"""One run in several processes: joining them, agreeing, and losing one.

JAX's own runtime finds the others, tells all of a signal to one, and notices
one that is silent. What is compiled runs in all processes alike; here stands
what must not: what one process alone does, and what all must do together.
"""

import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from gradnorm_optax.lab.support import signals
from gradnorm_optax.lab.support.errors import LabError

LOST = 75  # the exit code that asks for another try, as in sysexits.h
_AGAIN = ('another process of this run is lost: start all of them again, and '
          'the same command goes on from the last checkpoint')
_PEER = re.compile(
    r'gloo|nccl|rccl|peer|coordination|heartbeat|barrier|unavailable|'
    r'deadline|distributed service|connection|socket', re.IGNORECASE)
_TOLD = 512  # bytes of what processes tell each other
T = TypeVar('T')


class Lost(LabError):
  """Another process died or is silent; exit code 75."""

  code = LOST


@contextlib.contextmanager
def joined(distributed: bool, coordinator: str | None = None,
           count: int | None = None, index: int | None = None,
           lost_after: int = 100) -> Iterator[None]:
  """Joins the other processes of a run; does nothing unless `distributed`.

  Must come before anything touches JAX's devices.

  Args:
    distributed: Whether there are others.
    coordinator: HOST:PORT of process 0. Like the next two found by JAX itself
      on Slurm, under Open MPI, on TPU pods and on Kubernetes.
    count: How many processes.
    index: Which one this is.
    lost_after: Seconds after which a silent process counts as lost.

  Raises:
    LabError: They were not found.
    Lost: One of them ended before its time.
  """
  given = coordinator, count, index
  if not distributed:
    if given != (None, None, None):
      raise LabError('--coordinator, --processes and --process belong to '
                     '--distributed')
    yield
    return
  if None in given and given != (None, None, None):
    raise LabError('--coordinator, --processes and --process belong together; '
                   'leave out all three where JAX finds them itself')
  _abort_is_loss()
  try:
    jax.distributed.initialize(
        coordinator, count, index, heartbeat_timeout_seconds=lost_after,
        initialization_timeout=3 * lost_after)
  except ValueError as error:  # nothing tells where the others are
    raise LabError(
        f'--distributed: the other processes are not known ({_line(error)}); '
        'give --coordinator HOST:PORT --processes N --process I') from error
  except RuntimeError as error:  # one of them did not come
    raise Lost('--distributed: the processes did not find each other within '
               f'{3 * lost_after} s: start all of them again '
               f'({_line(error)[:200]})') from error
  try:
    yield
  except LabError as error:
    if error.agreed:  # they all come here
      jax.distributed.shutdown()
    raise
  except Exception as error:
    if is_loss(error):
      raise Lost(f'{_AGAIN} ({_line(error)[:200]})') from error
    raise
  jax.distributed.shutdown()


def _abort_is_loss() -> None:
  """Says in a line why JAX ends the process: it does so for a silent peer.

  Its thread calls `abort`, which no exception handler sees.
  """
  @ctypes.CFUNCTYPE(None, ctypes.c_int)
  def leave(_: int) -> None:
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2,
             f'gradnorm: {_AGAIN}\n'.encode())
    os._exit(LOST)

  if os.name == 'posix':
    _kept.append(leave)
    ctypes.CDLL(None).signal(signal.SIGABRT, leave)


_kept: list[Any] = []  # what C calls must not be collected


def several() -> bool:
  """Whether the run has several processes."""
  return jax.process_count() > 1


def is_loss(error: BaseException) -> bool:
  """Whether an error comes of another process that is gone."""
  return several() and _PEER.search(str(error)) is not None


def first() -> bool:
  """Whether this is the process that writes; the only one, or number 0."""
  return not several() or jax.process_index() == 0


def tell(text: str) -> list[str]:
  """What every process has to say, in their order."""
  if not several():
    return [text]
  raw = np.zeros(_TOLD, np.uint8)
  data = text.encode()[:_TOLD]
  raw[:len(data)] = np.frombuffer(data, np.uint8)
  found = np.asarray(multihost_utils.process_allgather(raw))
  return [row.astype(np.uint8).tobytes().rstrip(b'\0').decode(errors='ignore')
          for row in found]


def agree(work: Callable[[], T]) -> T:
  """Does in every process what one may fail at: then all raise.

  Raises:
    LabError: What another one failed at; where it was this one, its own error.
  """
  if not several():
    return work()
  try:
    result, own = work(), None
  except Exception as error:
    result, own = None, error
  told = tell('' if own is None else f'{type(own).__name__}: {own}' if (
      not isinstance(own, LabError)) else str(own) or 'failed')
  if own is not None:
    if isinstance(own, LabError):
      own.agreed = True
    raise own
  for number, text in enumerate(told):
    if text:
      raise _agreed(f'process {number} of {len(told)}: {text}')
  return result  # type: ignore[return-value]


def alone(work: Callable[[], T]) -> T | None:
  """Does in the first process what must be done once; then all go on."""
  return agree(lambda: work() if first() else None)


def same(facts: dict[str, str]) -> None:
  """Makes sure that all processes would train the same.

  Args:
    facts: {what: a digest of it}.

  Raises:
    LabError: It names the fact, and the process that has another than the
      first.
  """
  for name, own in facts.items():
    told = tell(own)
    for number, text in enumerate(told):
      if text != told[0]:
        raise _agreed(
            f'{name}: process {number} of {len(told)} has other than process '
            f'0 ({text or "none"}, not {told[0] or "none"}); all must read the '
            'same files and run the same code')


class Halt:
  """What stops a run before its end.

  Attributes:
    came: The signals, in every process from the same turn on.
  """

  def __init__(self, came: list[int], own: list[int] | None = None):
    """Takes the list of signals; `own` are those to this process alone."""
    self.came, self._own = came, own

  def look(self, turn: int) -> None:
    """Looks whether all stop here; `turn` is 1, 2, 3, ... in all processes."""
    if self._own is not None and (
        multihost_utils.reached_preemption_sync_point(turn)):
      self.came.append(self._own[0] if self._own else signal.SIGTERM)


@contextlib.contextmanager
def noted() -> Iterator[Halt]:
  """Notes SIGINT and SIGTERM; of several processes, all stop for any.

  JAX tells all of a SIGTERM, and has its own handler.
  """
  if not several():
    with signals.noted() as caught:
      yield Halt(caught)
    return
  with signals.noted(
      (signal.SIGINT,), lambda: os.kill(os.getpid(), signal.SIGTERM)) as own:
    yield Halt([], own)


def alone_only(command: str) -> None:
  """Refuses a command that is started once, in several processes.

  Raises:
    LabError: It names the mend.
  """
  tasks = [os.environ.get(name, '1') for name in (
      'SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE')]
  count = max([int(one) for one in tasks if one.isdigit()], default=1)
  if several():
    count = jax.process_count()
  if count > 1:
    raise LabError(
        f'{command} runs in one process, and here are {count}: start it once; '
        'gradnorm compare --scheduler tcp://HOST:PORT sends trials to other '
        'machines, gradnorm train --distributed is one run in many processes')


def _agreed(text: str) -> LabError:
  error = LabError(text)
  error.agreed = True
  return error


def _line(error: BaseException) -> str:
  return (str(error).strip().splitlines() or [type(error).__name__])[0]
