"""Tasks for a scheduler's workers: no more at a time than they take."""

import collections
import contextlib
import functools
import pickle
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import distributed

from gradnorm_optax.lab.comparison import on_worker
from gradnorm_optax.lab.comparison.scheduler import DEATHS
from gradnorm_optax.lab.support.errors import LabError

WAIT = 60.0  # seconds without a worker, after which nobody waits
LOOK = 0.5  # seconds between looks at the workers


class Killed(LabError):
  """A task that killed its workers."""


class Errands:
  """Sends tasks to the workers that offer a resource; threads may share it.

  A task is sent when a worker is free for it, so that one which dies takes no
  other with it than what it ran. Dask sends that again.
  """

  def __init__(self, client: distributed.Client, address: str, session: str):
    """Begins to watch the workers.

    Args:
      client: Of the scheduler.
      address: What the user called it.
      session: The resource that workers offer, and the plugin that does.
    """
    self._client, self._address, self._session = client, address, session
    self._free = threading.Condition()
    self._fault: LabError | None = None
    self._slots: dict[Any, float] = {}  # of the workers that are there
    self._idle = self._lost = self._running = 0
    self._seen = time.monotonic()  # a worker
    self._names: collections.Counter[str] = collections.Counter()
    self._end = threading.Event()
    self._look()
    self._watcher = threading.Thread(target=self._watch, daemon=True)
    self._watcher.start()

  def close(self) -> None:
    """Sends nothing any more."""
    self._end.set()
    self._watcher.join()

  def run(self, what: str, *args: Any, trials: int = 0) -> tuple[str, Any]:
    """Waits for a free worker, and for what it makes of a task.

    Args:
      what: A method of `computation.Computation`.
      *args: Its arguments.
      trials: How many it makes, for `told`.

    Returns:
      The worker's machine, and the result.

    Raises:
      Killed: So many workers died of it.
      LabError: The scheduler is gone, or all workers.
    """
    with self._slot():
      deaths = 0
      while True:
        # By value, for the scheduler unpickles it and need not know this.
        future = self._client.submit(
            lambda task: __import__('pickle').loads(task)(), pickle.dumps(
                functools.partial(on_worker.work, self._session, what, args)),
            key=f'{what}-{uuid.uuid4().hex}', pure=False,
            resources={self._session: 1})
        try:
          if self._waited(future):
            name, host, result = future.result()
            self._names[name] += trials
            return host, result
        except distributed.KilledWorker as error:
          deaths += error.allowed_failures + 1
        if deaths >= DEATHS:
          raise Killed(f'it killed {deaths} workers')

  def told(self) -> str:
    """How many trials each worker has made, for the progress bar."""
    names = dict(sorted(self._names.items()))
    found = ', '.join(f'{name}: {count}' for name, count in names.items())
    if len(names) > 6:
      found = (f'{min(names.values())} to {max(names.values())} trials each of '
               f'{len(names)}')
    return f'| {len(self._slots)} workers' + ''.join(
        part for part, said in (
            (f' ({found})', found), (f', {self._lost} lost', self._lost),
            (f', {self._idle} not used: see its log', self._idle)) if said)

  @contextlib.contextmanager
  def _slot(self) -> Iterator[None]:
    """Waits until a worker is free."""
    with self._free:
      while self._fault is None and self._running >= sum(self._slots.values()):
        self._free.wait()
      self._check()
      self._running += 1
    try:
      yield
    finally:
      with self._free:
        self._running -= 1
        self._free.notify()

  def _waited(self, future: distributed.Future) -> bool:
    """Waits for a task; False where it must be sent again."""
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())
    while not ended.wait(LOOK):
      self._check()
    while future.status in ('cancelled', 'lost'):  # with the scheduler
      self._check()
      if self._client.status == 'running':
        return False
      time.sleep(LOOK)
    return True

  def _check(self) -> None:
    if self._fault is not None:
      raise self._fault

  def _watch(self) -> None:
    """Looks at the workers again and again."""
    while not self._end.wait(LOOK):
      try:
        self._look()
      except Exception as error:  # of whatever kind a lost connection is
        if self._client.status == 'running' and isinstance(
            error, TimeoutError):
          continue
        self._fail(gone(self._address))
        return

  def _look(self) -> None:
    """Counts the workers that offer themselves."""
    if self._client.status != 'running':
      raise OSError('the connection is lost')
    info = self._client.scheduler_info(n_workers=-1)['workers']
    # One that is started again may have the address of before.
    slots = {(address, worker['local_directory']):
             worker['resources'][self._session]
             for address, worker in info.items()
             if worker['resources'].get(self._session)}
    now = time.monotonic()
    with self._free:
      self._lost += len(self._slots.keys() - slots.keys())
      self._slots, self._idle = slots, len(info) - len(slots)
      self._seen = now if slots else self._seen
      self._free.notify_all()
    if now - self._seen > WAIT:
      self._fail(nobody(self._address))

  def _fail(self, told: str) -> None:
    with self._free:
      self._fault = LabError(told)
      self._free.notify_all()


def gone(address: str) -> str:
  """What is said where the scheduler answers no more."""
  return (f'--scheduler {address}: the scheduler is gone; what was finished is '
          'kept, the same command goes on from there')


def nobody(address: str) -> str:
  """What is said where there is no worker."""
  return (f'--scheduler {address}: no worker for {WAIT:g} s; start one with: '
          f'dask worker {address}; what was finished is kept, the same command '
          'goes on from there')
