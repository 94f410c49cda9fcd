"""What a training step and an answer cost: plain data."""

from typing import NamedTuple


class Clock(NamedTuple):
  """Times of one method on one model.

  Attributes:
    step_seconds: Median time of a training step.
    bare: The optimizer alone; None if the method is that.
    overhead: Ratio of both times, between the ends of its 95% interval.
    rounds: Seconds of a step in every round, levelled (`time_ratio.level`).
  """

  step_seconds: float
  bare: str | None
  overhead: tuple[float, float, float] | None
  rounds: tuple[float, ...] = ()


class Pass(NamedTuple):
  """What a forward pass costs.

  Attributes:
    batch: How many examples it answers.
    seconds: Its time, calls following each other.
    bytes: What its program holds: arguments, result and all between; None where
      XLA does not say.
  """

  batch: int
  seconds: float
  bytes: int | None
