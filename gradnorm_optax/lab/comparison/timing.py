"""Times the steps of a model's methods: marginal, interleaved.

A call costs time of its own (transfers, the optimizer's start, dispatch), which
is no part of a step. So each program is called with one step and with many, and
the difference in time over the difference in steps is what a step costs.
"""

import time
from collections.abc import Callable, Mapping

from gradnorm_optax.lab.training.marginal import stretch

Call = Callable[[int], float]  # seconds of a call of so many steps

LONG = 0.01  # seconds by which a long call should exceed a short one
LEAST, MOST = 3, 100_000  # rounds; steps of a call


def rounds(calls: Mapping[str, Call], epoch: int, count: int, allowed: float,
           tick: Callable[[], None] = lambda: None,
           now: Callable[[], float] = time.perf_counter
           ) -> dict[str, list[float]]:
  """Measures the seconds of a step of every program in every round.

  All programs take turns in every round, in one thread with no other work of
  this process: whatever else slows the machine slows them alike.

  Args:
    calls: The compiled programs, by name.
    epoch: Steps of an epoch, which begins with a new order of the examples.
    count: How many rounds at most.
    allowed: Seconds that all rounds may take; three are made in any case.
    tick: Called after the preparation and after every round.
    now: The clock that tells what a round took.
  """
  began = now()
  # What a call costs is the least that was seen: an interruption of a short
  # call would make a step free, or less.
  short = {name: min(call(1) for _ in range(3))
           for name, call in calls.items()}
  extra = {name: _stretch(call, epoch, short[name])
           for name, call in calls.items()}
  found: dict[str, list[float]] = {name: [] for name in calls}
  tick()
  prepared = now()
  for index in range(count):
    at = now()
    if index >= LEAST and (
        at - began + (at - prepared) / index > allowed):
      break
    # Alternating the order cancels what a neighbour leaves in the caches.
    order = list(calls.items())[::1 if index % 2 else -1]
    for name, call in order:
      short[name] = min(short[name], call(1))
      found[name].append(call(1 + extra[name]))
    tick()
  return {name: [(long - short[name]) / extra[name] for long in times]
          for name, times in found.items()}


def _stretch(call: Call, epoch: int, short: float) -> int:
  """How many steps take long enough to be timed; whole epochs if one fits.

  Args:
    call: The program.
    epoch: Steps of an epoch.
    short: Seconds of a call of one step.
  """
  extra, _ = stretch(call, short, LONG, MOST)
  return extra if extra < epoch else -(-extra // epoch) * epoch
