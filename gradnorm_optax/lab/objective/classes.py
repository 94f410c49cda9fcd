"""What the classes are called, and how evenly they are spread."""

from collections.abc import Sequence
from typing import NamedTuple

IMBALANCE = 3  # from here on the head tells it, and accuracy says little


class Classes(NamedTuple):
  """The classes of a set, in the order of their numbers.

  Attributes:
    names: What they are called: sorted, numbers by size, texts by letters.
    counts: How often each occurs in all parts.
  """

  names: tuple[str, ...]
  counts: tuple[int, ...]

  def positive(self, named: str | None = None) -> int:
    """The number of the class that a score of two classes looks for.

    The named one, else the rarer; of equals the second, as in scikit-learn.

    >>> Classes(('defect', 'ok'), (5, 95)).positive()
    0
    """
    if named is not None:
      return self.names.index(named)
    return int(self.counts[1] <= self.counts[0])


def imbalanced(counts: Sequence[int]) -> bool:
  """Whether the commonest class is so much commoner than the rarest.

  >>> imbalanced((10, 31)), imbalanced((10, 29))
  (True, False)
  """
  return max(counts) >= IMBALANCE * min(counts)
