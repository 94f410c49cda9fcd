"""Columns of numbers: one number of decimals, aligned at the point."""

import math
from collections.abc import Callable, Sequence

NONE = '-'
_SPACE = '\u2007'  # as wide as a digit
_MOST = 4  # decimals


def column(values: Sequence[float]) -> list[str]:
  """Numbers with as many decimals as the smallest needs for two digits.

  A dash where there is none. What even four decimals would show as zero keeps
  one digit of its own.

  >>> column([0.166, 0.0945, float('inf')]), column([350.0, 1100.0])
  (['0.166', '0.095', '-'], ['350', '1100'])
  >>> column([2.3, 3e-7])
  ['2.3000', '3e-07']
  """
  places = decimals(values)

  def one(value: float) -> str:
    if not math.isfinite(value):
      return NONE
    if value and abs(value) < 0.5 * 10.0 ** -places:
      return f'{value:.1g}'
    return f'{value:.{places}f}'
  return list(map(one, values))


def decimals(values: Sequence[float]) -> int:
  """How many the smallest of several numbers needs for two digits; 0 to 4.

  >>> decimals([0.0945, 350.0]), decimals([350.0]), decimals([])
  (3, 0, 0)
  """
  sizes = [abs(value) for value in values if math.isfinite(value) and value]
  needed = 1 - math.floor(math.log10(min(sizes))) if sizes else 0
  return min(max(needed, 0), _MOST)


def exact(values: Sequence[float]) -> list[str]:
  """Given numbers such as rates, none of them rounded.

  >>> exact([0.0005, 0.05]), exact([1e-6, 1.0]), exact([1.0, 2.0])
  (['0.0005', '0.0500'], ['1e-06', '1'], ['1', '2'])
  """
  known = [f'{value:g}' for value in values]
  if any('e' in text or not math.isfinite(float(text)) for text in known):
    return known
  places = max((len(text.partition('.')[2]) for text in known), default=0)
  return [f'{value:.{places}f}' for value in values]


def aligned(texts: Sequence[str]) -> list[str]:
  """Texts of one width, for figures that something follows in their cell."""
  width = max(map(len, texts), default=0)
  return [text.rjust(width, _SPACE) for text in texts]


def intervals(parts: Sequence[tuple[float, float, float] | None],
              write: Callable[[float], str]) -> list[tuple[str, str]]:
  """Of low end, mean, high end: the mean and the bracket, each of one width.

  No brackets where no end is known, as of one seed.

  >>> intervals([(8.5, 9.0, 9.5), None, (9.0, 10.0, 11.0)], '{:.1f}'.format)
  [('\u20079.0', ' [8.5, \u20079.5]'), ('-', ''), ('10.0', ' [9.0, 11.0]')]
  """
  known = [tuple(map(write, part)) for part in parts if part is not None]
  if not known:
    return [(NONE, '')] * len(parts)
  wide = iter(list(zip(*map(aligned, zip(*known, strict=True)), strict=True)))
  found = []
  for part in parts:
    low, mean, high = ('', NONE, '') if part is None else next(wide)
    ends = part is not None and math.isfinite(part[0])
    found.append((mean, f' [{low}, {high}]' if ends else ''))
  return found
