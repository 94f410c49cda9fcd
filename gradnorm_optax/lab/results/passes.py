"""What a model's answer costs: plain data."""

from typing import NamedTuple


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
