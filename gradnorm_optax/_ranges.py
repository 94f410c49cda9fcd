"""Safe ranges of readings: given or learned; what is out of them, counted.

A table is {field: array}, each with one entry for each block: `low`, `high`,
`readings` (finite ones), `COUNTS` and `DATES`, int32, -1 for never; and where
ranges are learned `least` and `largest`, the k extreme readings of each block,
from the outside in.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax, numpy as jnp

from gradnorm_optax import _recorded, _tree
from gradnorm_optax._globs import Globs

COUNTS = ('below', 'above')
DATES = ('first_below', 'last_below', 'first_above', 'last_above')
_MOST = 64  # extreme readings kept for each block and side

Table = dict[str, jax.Array]


class Given(NamedTuple):
  """Ranges that the user gave, one entry for each block, float64."""

  known: np.ndarray  # whether there is one
  low: np.ndarray
  high: np.ndarray


class Rules:
  """The options of `gn.watch` that say what is safe, checked."""

  def __init__(
      self, ranges: Mapping[str, Any], learn: int | None, tail: float,
      margin: float,
  ):
    self.ranges = {str(glob): _pair(glob, pair)
                   for glob, pair in ranges.items()}
    _recorded.require_static('watch', learn=learn, tail=tail, margin=margin)
    if learn is not None and (
        isinstance(learn, bool) or not isinstance(learn, int) or learn < 1):
      raise ValueError(
          f'watch(learn={learn!r}): from how many readings ranges are learned,'
          ' at least 1, or None to learn none.')
    if not 0 <= tail < 0.5:
      raise ValueError(f'watch(tail={tail!r}): a share in [0, 0.5).')
    if not 1 <= margin < math.inf:
      raise ValueError(f'watch(margin={margin!r}): a factor of at least 1.')
    self.learn, self.margin = learn, margin
    self.kept = 0 if learn is None else math.floor(tail * learn) + 1
    if self.kept > _MOST:
      raise ValueError(
          f'watch(learn={learn}, tail={tail}): the {self.kept} least and'
          f' largest readings of each block would be kept, and {_MOST} are the'
          f' most. Take a tail below {_MOST / (learn or 1):.2g}, or learn from'
          ' fewer.')

  def given(self, shapes: Mapping[str, tuple[int, ...]]) -> Given:
    """Looks up what was given for blocks {label: shape}, in their order."""
    globs = Globs(self.ranges, list(shapes))
    idle = globs.idle()
    if idle and shapes:
      raise ValueError(
          f'watch(ranges=...): the glob {idle[0]!r} matches no block.'
          f'{_tree.nearest(idle[0], list(shapes))} Blocks: {list(shapes)[:8]}.')
    known: list[np.ndarray] = []
    low: list[np.ndarray] = []
    high: list[np.ndarray] = []
    for label, shape in shapes.items():
      glob = globs.first(label)
      pair = _pair('*', (None, None)) if glob is None else self.ranges[glob]
      known.append(np.full(math.prod(shape), glob is not None))
      for ends, end in zip((low, high), pair, strict=True):
        try:
          ends.append(np.broadcast_to(end, shape).reshape(-1))
        except ValueError:
          raise ValueError(
              f'watch(ranges={{{glob!r}: ...}}): an end of shape'
              f' {np.shape(end)} for block {label!r}, whose readings have shape'
              f' {shape}. Give one number, or one for each.') from None
    join = lambda parts: np.concatenate([*parts, []])  # noqa: E731
    return Given(join(known).astype(bool), join(low), join(high))


def _pair(glob: Any, pair: Any) -> tuple[np.ndarray, np.ndarray]:
  here = f'watch(ranges={{{glob!r}: {pair!r}}})'
  if not isinstance(pair, (tuple, list)) or len(pair) != 2:
    raise TypeError(f'{here}: a pair (low, high).')
  try:
    low = np.asarray(0.0 if pair[0] is None else pair[0], np.float64)
    high = np.asarray(math.inf if pair[1] is None else pair[1], np.float64)
  except (TypeError, ValueError):
    raise TypeError(f'{here}: numbers, or None for an open end.') from None
  if not np.all(low <= high):  # NaN too
    raise ValueError(f'{here}: low must be at most high.')
  return low, high


def start(given: Given, rules: Rules, readings: jax.Array) -> Table:
  """Returns the table before the first reading."""
  shape, dtype = readings.shape, readings.dtype
  table = {'low': jnp.asarray(given.low, dtype),
           'high': jnp.asarray(given.high, dtype)}
  for field in ('readings', *COUNTS):
    table[field] = jnp.zeros(shape, jnp.int32)
  for field in DATES:
    table[field] = jnp.full(shape, -1, jnp.int32)
  if rules.kept:
    extremes = (*shape, rules.kept)
    table['least'] = jnp.full(extremes, jnp.inf, dtype)
    table['largest'] = jnp.zeros(extremes, dtype)
  return table


def step(
    table: Table, given: Given, rules: Rules, x: jax.Array, when: jax.Array
) -> Table:
  """Takes one reading of each block into the table.

  Args:
    table: So far.
    given: What the user gave.
    rules: The options.
    x: The readings, at least 0.
    when: The step, int32.
  """
  kept = table['least'].shape[1] if 'least' in table else 0
  if kept != rules.kept:
    raise ValueError(
        f'watch: the state keeps {kept} extreme readings of each block, and'
        f' `learn` and `tail` ask for {rules.kept}. Give the options of before,'
        ' or call `init` again.')
  known = jnp.asarray(given.known)
  # What the user gives now counts, also for a state made with other ranges.
  low = lax.select(known, jnp.asarray(given.low, x.dtype), table['low'])
  high = lax.select(known, jnp.asarray(given.high, x.dtype), table['high'])
  finite = lax.is_finite(x)
  new = dict(table, readings=table['readings'] + finite.astype(jnp.int32))
  when = lax.broadcast(when, x.shape)
  for side, out in (('below', lax.lt(x, low)),
                    ('above', lax.gt(x, high) | ~finite)):
    first, last = table[f'first_{side}'], table[f'last_{side}']
    new[side] = table[side] + out.astype(jnp.int32)
    new[f'first_{side}'] = lax.select(
        out & lax.lt(first, lax.full_like(first, 0)), when, first)
    new[f'last_{side}'] = lax.select(out, when, last)
  if rules.learn is not None:
    number = lax.full_like(when, rules.learn)
    learning = ~known & finite & lax.lt(table['readings'], number)
    done = learning & lax.eq(new['readings'], number)
    new['least'] = _insert(table['least'], x, learning)
    new['largest'] = -_insert(-table['largest'], -x, learning)
    margin = lax.full_like(x, rules.margin)
    low = lax.select(done, new['least'][:, -1] / margin, low)
    high = lax.select(done, new['largest'][:, -1] * margin, high)
  return dict(new, low=low, high=high)


def _insert(
    least: jax.Array, x: jax.Array, where: jax.Array
) -> jax.Array:
  """Inserts x into rows of ascending least values, where it is among them."""
  x = lax.select(where, x, lax.full_like(x, jnp.inf))[:, None]
  before = jnp.concatenate(
      [jnp.full_like(x, -jnp.inf), least[:, :-1]], axis=1)
  return jnp.maximum(before, jnp.minimum(
      least, jnp.broadcast_to(x, least.shape)))
