"""How a score comes of what the model answered."""

from typing import NamedTuple


class Rule(NamedTuple):
  """How a score comes of labels and answers; JSON can hold it.

  Attributes:
    name: "mean" of a figure of every label, or one of `CLASS_SCORES`.
    classes: Between how many the answers choose; 0 where they do not.
    positive: The class that a score of two classes looks for; None for an
      average over the classes.
  """

  name: str = 'mean'
  classes: int = 0
  positive: int | None = None
