"""Examples as a source gives them, before they are divided."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gradnorm_optax.lab.support.errors import LabError


class Raw(NamedTuple):
  """Examples before they are divided.

  Attributes:
    name: Where they come from, for messages.
    x: Inputs; float, missing cells NaN; or integer symbols.
    y: Labels as they were given.
    notes: What was done to the data, in words, with counts.
    lengths: Positions of each sequence that are no padding, or None.
    image: Height, width and channels where an example is a picture.
    where: `where(example, entry)` names a place for an error; entry None
      stands for the label.
    columns: The names of the entries, where they have any.
    kinds: Of a table, {column: the names that its numbers stand for}.
    tested: How many of the last examples are the set's own test part.
  """

  name: str
  x: np.ndarray
  y: np.ndarray
  notes: list[str]
  where: Callable[[int, int | None], str]
  lengths: np.ndarray | None = None
  image: tuple[int, int, int] | None = None
  columns: list[str] | None = None
  kinds: dict[int, list[str]] | None = None
  tested: int | None = None

  def keep(self, rows: np.ndarray) -> 'Raw':
    """The examples of a mask; messages still name them by their old place."""
    old = np.flatnonzero(rows)
    where = self.where
    tested = self.tested and int(rows[-self.tested:].sum())
    if self.tested and not tested:
      raise LabError(
          f'[data] {self.name}: none of the {self.tested} examples of the '
          'set\'s own test part is left (they are unlabeled or incomplete); '
          'take a set whose test part has labels')
    return self._replace(
        x=self.x[rows], y=self.y[rows],
        lengths=None if self.lengths is None else self.lengths[rows],
        tested=tested,
        where=lambda example, entry: where(int(old[example]), entry))


def counted(number: int, noun: str) -> str:
  """A number of things.

  >>> counted(1, 'row'), counted(2, 'row')
  ('1 row', '2 rows')
  """
  return f'{number} {noun}' + ('' if number == 1 else 's')
