"""How long some phases of work will still take, from the times so far."""

import dataclasses
import threading
import time
from collections.abc import Callable


@dataclasses.dataclass
class Phase:
  """Equal units of work.

  Attributes:
    units: How many there are.
    guess: Seconds of one, as long as none is measured.
    like: The phase whose units take as long, as long as none is measured.
    share: What the phase takes at most, as a share of all that goes before; it
      ends there with fewer units.
    done: How many are done.
    began: When it began; None before.
    spent: How long it took, once it has ended.
    last: When a unit was done last.
  """

  units: float
  guess: float | None = None
  like: str | None = None
  share: float | None = None
  done: float = 0.0
  began: float | None = None
  spent: float | None = None
  last: float = 0.0


class Remaining:
  """What is left of a plan, in seconds of the clock; threads may share it.

  Attributes:
    what: What is being done.
    trials: How many trials are finished, and how many there are.
    beside: Says what else there is to say.

  >>> clock = iter([0., 0., 10., 10., 10.])
  >>> plan = Remaining(lambda: next(clock))
  >>> plan.expect('compile', 4)
  >>> plan.expect('look', 2, like='compile')
  >>> plan.begin('compile')
  >>> plan.finish('compile')
  >>> plan.seconds()  # three to compile and two to look at
  50.0
  """

  def __init__(self, now: Callable[[], float] = time.monotonic):
    """Starts the clock."""
    self.what, self.trials = '', (0, 0)
    self.beside: Callable[[], str] = lambda: ''
    self._now, self._lock = now, threading.RLock()
    self._phases: dict[str, Phase] = {}
    self._current: Phase | None = None
    self._start = now()

  def expect(self, name: str, units: float, guess: float | None = None, *,
             like: str | None = None, share: float | None = None) -> None:
    """Plans a phase, or says better what is known of it."""
    with self._lock:
      phase = self._phases.setdefault(name, Phase(units))
      phase.units, phase.guess = units, guess
      phase.like, phase.share = like, share

  def begin(self, name: str, what: str | None = None) -> None:
    """Ends the phase before and begins this one, or goes on with it."""
    with self._lock:
      phase, at = self._phases.setdefault(name, Phase(0)), self._now()
      self.what = what or name
      if phase is self._current:
        return
      self._end(at)
      # A phase that was left and is taken up again goes on with its time.
      phase.began = at - (phase.spent or 0.0)
      phase.spent, phase.last = None, at
      self._current = phase

  def finish(self, name: str, units: float = 1.0, trials: int = 0) -> None:
    """Counts finished work."""
    with self._lock:
      phase = self._phases[name]
      phase.done += units
      phase.last = self._now()
      self.trials = self.trials[0] + trials, self.trials[1]

  def end(self) -> None:
    """Ends the last phase."""
    with self._lock:
      self._end(self._now())
      self._current = None

  def elapsed(self) -> float:
    """Seconds since the start."""
    return self._now() - self._start

  def spent(self, name: str) -> float:
    """Seconds that a phase has taken so far."""
    with self._lock:
      phase = self._phases.get(name, Phase(0))
      if phase.spent is not None:
        return phase.spent
      return 0.0 if phase.began is None else self._now() - phase.began

  def done(self, name: str) -> float:
    """How many units of a phase are done."""
    with self._lock:
      return self._phases.get(name, Phase(0)).done

  def seconds(self) -> float | None:
    """Seconds that are left; None where nothing is known yet of a phase."""
    with self._lock:
      at = self._now()
      total = 0.0
      for phase in self._phases.values():
        if phase.spent is not None:
          continue
        left = self._left(phase, at)
        if phase.share is not None:
          before = (at if phase.began is None else phase.began) - self._start
          if phase.began is None:
            before += total
          used = 0.0 if phase.began is None else at - phase.began
          most = max(0.0, phase.share * before - used)
          left = most if left is None else min(left, most)
        if left is None:
          return None
        total += left
      return total

  def _end(self, at: float) -> None:
    if self._current is not None and self._current.began is not None:
      self._current.spent = at - self._current.began

  def _left(self, phase: Phase, at: float) -> float | None:
    """Seconds of the units that are not done."""
    units = phase.units - phase.done
    if units <= 0:
      return 0.0
    unit = self._unit(phase)
    if unit is None:
      return None
    # Of the unit that is under way.
    under_way = at - phase.last if phase.began is not None else 0.0
    return max(units * unit - under_way, 0.0)

  def _unit(self, phase: Phase) -> float | None:
    """Seconds of one unit: measured, of a phase like this one, or guessed."""
    if phase.done and phase.began is not None:
      end = phase.last if phase.spent is None else phase.began + phase.spent
      return (end - phase.began) / phase.done
    other = self._phases.get(phase.like or '')
    found = None if other is None else self._unit(other)
    return phase.guess if found is None else found
