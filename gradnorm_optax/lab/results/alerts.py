"""Which blocks left their safe range in a run, when, and what may help."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gradnorm_optax.lab.results import block_flags

ALL = 'all blocks'


class Alert(NamedTuple):
  """A block out of its range.

  Attributes:
    block: Its name.
    what: "vanishing", "exploding", "not finite", "moved too far" or "hardly
      moves".
    first, last: The first and the last step, from 1, in which that was read.
    times: In how many readings.
    now: Whether the last reading shows it.
    text: All of it in a line, with what to try.
  """

  block: str
  what: str
  first: int
  last: int
  times: int
  now: bool
  text: str


def find(row: Mapping[str, Any], scaled: bool = False) -> list[Alert]:
  """Reads what a watcher has seen.

  Args:
    row: A row of watch.jsonl: its columns are those of `gn.watch_report`.
    scaled: As in `block_flags.flags`.

  >>> columns = {"low": [1e-3], "high": [10.0], "readings": [90], "below": [40],
  ...            "first_below": [501], "last_below": [891], "above": [0]}
  >>> find({"blocks": ["layer03"], "read": 991, "taken": 90,
  ...       "gradient": columns, "update": {**columns, "low": [0.0],
  ...       "high": [None], "below": [0]}})[0].text
  'vanishing: gradient below 0.001 in steps 501 to 891 (40 of 90 readings); \
try normalize = "bng"'
  """
  gradient, update = row['gradient'], row.get('update')
  found = []
  for side, bound in (('below', 'low'), ('above', 'high')):
    fallen = side == 'below' and _all_below(row)
    if fallen:
      found.append(_fallen(row))
    for i, block in enumerate(row['blocks']):
      if fallen and gradient['below'][i] <= 2 * min(gradient['below']):
        continue  # no longer than the others
      what = 'vanishing' if side == 'below' else 'exploding'
      if side == 'above' and (
          row['taken'] - gradient['readings'][i] >= gradient['above'][i]):
        what = 'not finite'
      found += _alert(row, 'gradient', i, side, what, 'gradient',
                      gradient[bound][i], scaled)
      if update and (
          update['low'][i] or update['high'][i] is not None):  # was given
        found += _alert(
            row, 'update', i, side,
            'hardly moves' if side == 'below' else 'moved too far',
            'update / parameters', update[bound][i], scaled)
  return sorted(found, key=lambda one: (not one.now, one.first))


def joined(flags: Mapping[str, str],
           found: Sequence[Alert]) -> dict[str, str]:
  """What looks at single steps say of blocks, and what was seen between them.

  >>> joined({"a": "small"}, [Alert("a", "", 1, 2, 2, True, "still small")])
  {'a': 'small; still small'}
  """
  told = dict(flags)
  for one in found:
    told[one.block] = '; '.join(
        part for part in (told.get(one.block), one.text) if part)
  return told


def _alert(row: Mapping[str, Any], name: str, i: int, side: str, what: str,
           figure: str, bound: float | None, scaled: bool) -> list[Alert]:
  """The alert of one block and side; none where nothing was read."""
  columns = row[name]
  count = columns[side][i]
  if not count:
    return []
  first, last = columns[f'first_{side}'][i], columns[f'last_{side}'][i]
  beyond = '' if what == 'not finite' or bound is None else (
      f': {figure} {side} {bound:.3g}')
  return [Alert(
      row['blocks'][i], what, first, last, count, last == row['read'],
      block_flags.advised(f'{what}{beyond} {_span(row, first, last, count)}',
                          what, scaled))]


def _span(row: Mapping[str, Any], first: int, last: int, count: int) -> str:
  """When, in words."""
  when = (f'from step {first} on' if last == row['read'] else
          f'in step {first}' if first == last else
          f'in steps {first} to {last}')
  return f'{when} ({count} of {row["taken"]} readings)'


def _all_below(row: Mapping[str, Any]) -> bool:
  """Whether the last reading of every block is below its range."""
  return len(row['blocks']) > 1 and all(
      last == row['read'] for last in row['gradient']['last_below'])


def _fallen(row: Mapping[str, Any]) -> Alert:
  """All gradients are small: no block vanishes by itself."""
  firsts = row['gradient']['first_below']
  first = max(firsts)  # from when on that is so of all
  return Alert(
      ALL, 'vanishing', first, row['read'], max(row['gradient']['below']), True,
      f'the gradients of all blocks are below their ranges since step {first}: '
      'the training examples are learned, or the loss is flat; look at loss '
      'and score')
