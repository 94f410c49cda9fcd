"""What Ctrl-C and SIGTERM do."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

from gradnorm_optax.lab.support import process_wide


class Stopped(BaseException):
  """A signal. Not a KeyboardInterrupt, which typer answers itself."""


@contextlib.contextmanager
def stoppable(came: list[int]) -> Iterator[None]:
  """Unwinds on SIGINT and SIGTERM, noting which came.

  Trials that are running end and are kept; `train` has its own handlers while
  it runs.
  """
  def stop(number: int, _: Any) -> None:
    if number != alarm:
      came.append(number)
    raise Stopped

  def swallowed(found: Any) -> bool:
    # JAX's callback in the garbage collector: raise again, outside of it.
    if not isinstance(found.exc_value, Stopped) or alarm is None:
      return False
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    return True

  alarm = getattr(signal, 'SIGALRM', None)  # Windows has none
  kinds = [signal.SIGINT, signal.SIGTERM, *([alarm] if alarm else [])]
  try:
    old = [signal.signal(kind, stop) for kind in kinds]
  except ValueError:  # not the main thread: leave signals to others
    yield
    return
  end = process_wide.catch_unraisable(swallowed)
  try:
    yield
  finally:
    end()
    for kind, handler in zip(kinds, old, strict=True):
      signal.signal(kind, handler)


@contextlib.contextmanager
def noted(kinds: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM),
          then: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
  """Notes signals instead of dying; the loop then saves.

  Args:
    kinds: Which.
    then: What is called after one is noted.
  """
  caught: list[int] = []

  def note(number: int, _: Any) -> None:
    caught.append(number)
    then()

  try:
    old = [signal.signal(kind, note) for kind in kinds]
  except ValueError:  # not the main thread: leave signals to others
    yield caught
    return
  try:
    yield caught
  finally:
    for kind, handler in zip(kinds, old, strict=True):
      signal.signal(kind, handler)
