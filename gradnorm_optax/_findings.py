"""What `check_chain` finds."""

from typing import NamedTuple


class Finding(NamedTuple):
  """An order that undoes itself: what happens, where, and the mend."""

  what: str
  where: str
  mend: str

  def __str__(self) -> str:
    return f'{self.what}\n  where: {self.where}\n  mend: {self.mend}'


class Findings(list[Finding]):
  """A list of findings that prints itself."""

  def __str__(self) -> str:
    return '\n'.join(map(str, self)) or 'nothing found'


def some(names: list[str], most: int = 3) -> str:
  """Returns the first of some names, and how many more there are."""
  more = len(names) - most
  return ', '.join(names[:most]) + (f' and {more} more' if more > 0 else '')
