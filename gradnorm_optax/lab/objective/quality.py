"""What a quality is called and how it is written."""

import math
from typing import NamedTuple


class Measure(NamedTuple):
  """The name of a quality and how it is written; higher is better.

  Attributes:
    deviation: Of an R², that of the judged labels in their own unit.

  >>> Measure().figure(0.4567), Measure().signed(-0.01)
  ('45.7%', '-1.0')
  """

  name: str = 'accuracy'
  meaning: str = 'share of the answers that are right'
  unit: str = '%'
  scale: float = 100.0
  deviation: float | None = None

  def show(self, score: float) -> str:
    """A score without its unit."""
    return self._written(score, '.1f' if self.unit else '.3g')

  def figure(self, score: float) -> str:
    """A score with its unit."""
    return self.show(score) + self.unit

  def signed(self, difference: float) -> str:
    """A difference of scores, with its sign."""
    return self._written(difference, '+.1f' if self.unit else '+.3g')

  def label(self, part: str) -> str:
    """A heading: the part of the data, the name, the unit."""
    return ' '.join(filter(None, (part, self.name, self.unit)))

  def error(self, score: float) -> str:
    """The root mean square error of an R², in the label's own unit.

    >>> VARIANCE._replace(deviation=50.0).error(0.64)
    '30'
    """
    return f'{(self.deviation or 0) * math.sqrt(max(0.0, 1 - score)):.3g}'

  @property
  def points(self) -> str:
    """What a difference is counted in."""
    return 'points' if self.unit else self.name

  def _written(self, value: float, form: str) -> str:
    return f'{self.scale * value:{form}}'


ACCURACY = Measure()
VARIANCE = Measure('R²', 'share of the variance that is explained')
RIGHT = Measure('share right', 'share of the sequences that are solved')
