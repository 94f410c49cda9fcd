"""The exceptions that a user of the lab is meant to see."""

import difflib
from collections.abc import Iterable, Sequence

MOST = 20  # names in a line


class LabError(Exception):
  """A mistake in what the lab was given: a line for each, no traceback.

  Attributes:
    code: The command's exit code.
    agreed: Whether all processes of a run raise, and leave together.
  """

  code = 2
  agreed = False


class Mistakes(LabError):
  """Several mistakes at once, each a line of its own.

  Attributes:
    lines: All of them.

  >>> str(Mistakes(['a', 'b', 'c']))
  'a (and 2 more, which gradnorm check lists)'
  """

  def __init__(self, lines: Sequence[str]):
    """Shows the first, and how many follow."""
    self.lines = tuple(lines)
    more = len(self.lines) - 1
    super().__init__(self.lines[0] + (
        f' (and {more} more, which gradnorm check lists)' if more else ''))


def lines(error: LabError) -> tuple[str, ...]:
  """All mistakes that an error tells."""
  return error.lines if isinstance(error, Mistakes) else tuple(
      str(error).splitlines())


def nearest(name: str, known: Iterable[str]) -> str:
  """Says which known names come nearest to `name`.

  Args:
    name: What was written.
    known: What would have been understood.

  Returns:
    A half sentence to append to an error message.

  >>> nearest('widht', ['depth', 'width'])
  "; the nearest known name is 'width'"
  >>> nearest('zzz', ['depth', 'width'])
  "; known names: 'depth', 'width'"
  """
  known = sorted(known)
  close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
  if close:
    return f'; the nearest known name is {close[0]!r}'
  more = f' and {len(known) - MOST} more' if len(known) > MOST else ''
  return '; known names: ' + ', '.join(map(repr, known[:MOST])) + more
