"""Examples as a source gives them, before they are divided."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gradnorm_optax.lab.support.errors import LabError

FREE, VALIDATION, TEST = range(3)  # the part that an example belongs to


class Raw(NamedTuple):
  """Examples before they are divided.

  Attributes:
    name: Where they come from, for messages.
    x: Inputs; float, missing cells NaN; or integer symbols.
    y: Labels as they were given.
    notes: What was done to the data, in words, with counts.
    where: `where(example, entry)` names a place for an error; entry None
      stands for the label.
    lengths: Positions of each sequence that are no padding, or None.
    image: Height, width and channels where an example is a picture.
    columns: The names of the entries, where they have any.
    channels: Of a table of sequences, the names of its columns.
    kinds: Of a table, {column: the names that its numbers stand for}.
    alphabet: Of symbols that are texts, what their numbers stand for.
    part: The part that the set itself puts each example in: `VALIDATION`,
      `TEST`, or `FREE`, to be divided; None where all are.
    group: Numbers of what must not stand on both sides of a division.
    time: When each example was made, numbers or datetime64: later ones are
      kept for the test.
  """

  name: str
  x: np.ndarray
  y: np.ndarray
  notes: list[str]
  where: Callable[[int, int | None], str]
  lengths: np.ndarray | None = None
  image: tuple[int, int, int] | None = None
  columns: list[str] | None = None
  channels: list[str] | None = None
  kinds: dict[int, list[str]] | None = None
  alphabet: list[str] | None = None
  part: np.ndarray | None = None
  group: np.ndarray | None = None
  time: np.ndarray | None = None

  def lacking(self, holes: np.ndarray) -> str:
    """Counts the cells of a mask: missing, infinite, or without a name.

    >>> Raw('a', np.array([[np.nan, np.nan], [np.inf, 0.0]]), np.zeros(2), [],
    ...     str, kinds={1: ['x']}).lacking(np.array([[1, 1], [1, 0]], bool))
    '1 missing cell, 1 infinite cell and 1 missing name'
    """
    names = int(holes[:, list(self.kinds)].sum()) if self.kinds else 0
    infinite = int(np.isinf(self.x[holes]).sum())
    *some, last = [counted(count, what) for count, what in (
        (int(holes.sum()) - infinite - names, 'missing cell'),
        (infinite, 'infinite cell'), (names, 'missing name')) if count]
    return ' and '.join(filter(None, (', '.join(some), last)))

  def keep(self, rows: np.ndarray) -> 'Raw':
    """The examples of a mask; messages still name them by their old place."""
    old = np.flatnonzero(rows)
    where = self.where
    part = np.zeros(len(rows)) if self.part is None else self.part
    for code, called in ((VALIDATION, 'validation'), (TEST, 'test')):
      own = int((part == code).sum())
      if own and not (part[rows] == code).any():
        raise LabError(
            f'[data] {self.name}: none of the {own} examples of the set\'s '
            f'own {called} part is left (they are unlabeled or incomplete); '
            f'take a set whose {called} part has labels')

    def kept(values: np.ndarray | None) -> np.ndarray | None:
      return None if values is None else values[rows]

    return self._replace(
        x=self.x[rows], y=self.y[rows], lengths=kept(self.lengths),
        part=kept(self.part), group=kept(self.group), time=kept(self.time),
        where=lambda example, entry: where(int(old[example]), entry))


def counted(number: int, noun: str) -> str:
  """A number of things.

  >>> counted(1, 'row'), counted(2, 'row')
  ('1 row', '2 rows')
  """
  return f'{number} {noun}' + ('' if number == 1 else 's')


def few(names: list[str]) -> str:
  """The first three of several names.

  >>> few(['a', 'b']), few(['a', 'b', 'c', 'd'])
  ('a, b', 'a, b, c, ...')
  """
  return ', '.join([*names[:3], *(['...'] if len(names) > 3 else [])])
