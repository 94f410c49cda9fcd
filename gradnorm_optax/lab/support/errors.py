"""The one exception that a user of the lab is meant to see."""

import difflib
from collections.abc import Iterable

MOST = 20  # names in a line


class LabError(Exception):
  """A mistake in what the lab was given: a line for each, no traceback."""

  code = 2


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
