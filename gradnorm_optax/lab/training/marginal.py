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
  extra, spent = stretch(call, min(call(1), call(1)), long, most)
  return spent / extra


def stretch(call: Callable[[int], float], short: float, long: float,
            most: int) -> tuple[int, float]:
  """How many steps beside the first take long enough to be timed.

  Args:
    call: Gives the seconds of a call of so many steps.
    short: Seconds of a call of one step.
    long: Seconds by which a long call should exceed that.
    most: Steps that no call needs to have more of.

  Returns:
    Their number, and the seconds that they took.
  """
  extra = 1
  while True:
    spent = call(1 + extra) - short
    if spent >= long:  # not by a single interruption
      spent = min(spent, call(1 + extra) - short)
    if spent >= long or extra >= most:
      return extra, max(spent, 0.0)
    # No further than eightfold on the word of so short a call.
    extra = min(most, extra * min(8, max(2, int(
        1.5 * long / max(spent, 1e-9)))))
