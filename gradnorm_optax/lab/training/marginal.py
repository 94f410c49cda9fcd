"""The seconds of a step, without what a call costs besides."""

from collections.abc import Callable

LONG = 0.05  # seconds that are long enough to be measured
MOST = 100_000  # steps that no call needs to have more of


def marginal(call: Callable[[int], float], long: float = LONG,
             most: int = MOST) -> float:
  """The seconds of a step, from calls of two lengths.

  Args:
    call: Gives the seconds of a call of so many steps.
    long: Seconds by which a long call should exceed a short one.
    most: Steps that no call needs to have more of.

  >>> round(marginal(lambda count: 0.2 + 0.001 * count), 6)
  0.001
  """
  call(1)
  short, more = min(call(1), call(1)), 1
  while True:
    spent = call(1 + more) - short
    if long < spent < 100 * long:  # not by a single interruption
      spent = min(spent, call(1 + more) - short)
    if spent > long or more > most:
      return max(spent, 0.0) / more
    more *= 4
