"""A text to predict, made by a small grammar: nothing is downloaded.

The sentences count, add, agree in number and close their brackets, so that the
next character depends on more than the last few.
"""

import random
from collections.abc import Callable, Sequence

NUMBERS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven',
           'eight', 'nine', 'ten', 'eleven', 'twelve')
NOUNS = ('dog', 'bird', 'river', 'lamp', 'road', 'stone', 'cloud', 'ship')
VERBS = ('follow', 'cross', 'leave', 'carry', 'find', 'paint')
KINDS = ('small', 'red', 'quiet', 'old', 'northern')
PLACES = ('by the sea', 'at noon', 'in the rain', 'under the bridge')

Draw = Callable[[], float]


def text(length: int, seed: int = 0) -> str:
  """Makes `length` characters; the same on every Python.

  >>> text(30)[:30] == text(400)[:30]
  True
  """
  # Of `random`, only `random()` promises the same numbers for ever.
  draw = random.Random(seed).random
  parts: list[str] = []
  size = 0
  while size < length:
    sentence = _sentence(draw) + '. '
    parts.append(sentence)
    size += len(sentence)
  return ''.join(parts)[:length]


def _pick(draw: Draw, options: Sequence[str]) -> str:
  return options[int(draw() * len(options))]


def _noun(draw: Draw) -> tuple[str, bool]:
  """A noun phrase and whether it is singular."""
  count = 1 + int(draw() * 6)
  kind = _pick(draw, KINDS) + ' ' if draw() < 0.5 else ''
  noun = _pick(draw, NOUNS)
  return f'{NUMBERS[count]} {kind}{noun}{"s" * (count > 1)}', count == 1


def _sentence(draw: Draw) -> str:
  """A sum, a bracketed list or something that happens."""
  form = draw()
  if form < 0.3:
    a, b = int(draw() * 7), int(draw() * 6)
    return f'{NUMBERS[a]} and {NUMBERS[b]} is {NUMBERS[a + b]}'
  if form < 0.45:
    depth = 1 + int(draw() * 4)
    inner = ' '.join(_pick(draw, NOUNS) for _ in range(depth))
    return f'{"(" * depth}{inner}{")" * depth}'
  subject, single = _noun(draw)
  verb = _pick(draw, VERBS)
  if single:
    if verb == 'carry':
      verb = 'carrie'
    verb += 'es' if verb == 'cross' else 's'
  place = ' ' + _pick(draw, PLACES) if draw() < 0.5 else ''
  return f'{subject} {verb} {_noun(draw)[0]}{place}'
