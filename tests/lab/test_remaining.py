"""The time that is left holds every phase, from the start."""

import pytest

from gradnorm_optax.lab.support import progress
from gradnorm_optax.lab.support.remaining import Remaining


class Clock:
  def __init__(self):
    self.at = 0.0

  def __call__(self):
    return self.at


# A comparison: phase, units, true seconds of one.
PHASES = (('compiling', 8, 4.0), ('tune', 80, 2.0), ('final', 40, 2.5),
          ('look', 8, 5.0), ('timing', 64, 1.0))
WHOLE = sum(units * seconds for _, units, seconds in PHASES)


def test_every_phase_counts_from_the_first_measured_unit():
  clock = Clock()
  plan = Remaining(clock)
  plan.expect('compiling', 8)
  plan.expect('tune', 80)
  plan.expect('final', 40, like='tune')
  plan.expect('look', 8, like='compiling')
  plan.expect('timing', 64, 1.2, share=0.25)
  plan.begin('compiling')
  assert plan.seconds() is None  # nothing is known
  worst = 0.0
  for name, units, seconds in PHASES:
    plan.begin(name)
    for index in range(units):
      clock.at += seconds
      plan.finish(name)
      if name == 'compiling' and not index:
        plan.expect('tune', 80, 1.7)  # what a first call says
      left, true = plan.seconds(), WHOLE - clock.at
      assert left > 0 or true < 1e-6
      worst = max(worst, abs(left - true) / WHOLE)
  plan.end()
  assert clock.at == WHOLE and plan.seconds() == 0
  assert worst < 0.2


def test_timing_takes_its_share_at_most():
  clock = Clock()
  plan = Remaining(clock)
  plan.expect('tune', 10, 1.0)
  plan.expect('timing', 1000, 1.0, share=0.25)
  assert plan.seconds() == pytest.approx(10 + 2.5)
  plan.begin('tune')
  for _ in range(10):
    clock.at += 2.0
    plan.finish('tune')
  assert plan.seconds() == pytest.approx(5.0)
  plan.begin('timing')
  clock.at += 4.0
  plan.finish('timing', 20)
  assert plan.seconds() == pytest.approx(1.0)
  assert plan.spent('timing') == 4.0
  plan.end()  # with fewer rounds than there might have been
  assert plan.seconds() == 0 and plan.spent('timing') == 4.0


def test_time_runs_on_within_a_unit():
  clock = Clock()
  plan = Remaining(clock)
  plan.expect('tune', 2, 10.0)
  plan.begin('tune')
  clock.at = 4.0
  assert plan.seconds() == 16.0
  clock.at = 10.0
  plan.finish('tune', trials=1)
  plan.trials = plan.trials[0], 2
  assert progress.line(plan) == '1/2 trials 0:00:10 < 0:00:10 tune'
