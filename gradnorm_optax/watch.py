"""A watcher inside a chain: which block left its safe range, and when."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import lax, numpy as jnp

from gradnorm_optax import _ranges, _recorded, _tree
from gradnorm_optax._layout import resolve
from gradnorm_optax.blocks import as_blocks

__all__ = ['WatchState', 'watch', 'watch_report']

_NAME = 'watch'


class WatchState(NamedTuple):
  """What a watcher has seen; of one size from the first step to the last."""

  watched: dict[str, dict[str, jax.Array]]  # {name: {block label: reading}}
  # {field: one entry for each block}, by sorted label: see `_ranges`.
  table: dict[str, jax.Array]
  # Updates so far: shape=(), dtype=int32.
  count: jax.Array  # type: ignore[assignment]


def watch(
    name: str, blocks: Any = 'layer', *,
    ranges: Mapping[str, Any] | None = None, learn: int | None = 200,
    tail: float = 0.01, margin: float = 10.0, of: str = 'norm',
    every: int | None = None, axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
  r"""Counts and dates the steps in which a block is out of its safe range.

  Changes nothing. A block's reading is the L2 norm of its updates, as
  `gn.record_block_norms` keeps it, or their share of the parameters' norm. In
  its range :math:`[l, h]` it is safe; below :math:`l` gradients vanish, above
  :math:`h` they explode. For each side the state keeps how many readings fell
  there, and the first and the last step in which one did; steps are counted
  from 0, the first update that the watcher sees. **NaN and infinity count as
  above**, also before a range is known.

  A range is given, or learned from the block's first `learn` finite readings
  :math:`x_{(1)} \le .. \le x_{(n)}`: with :math:`k = \lfloor
  \text{tail} \cdot n \rfloor + 1`,

  .. math:: l = x_{(k)} / \text{margin}, \qquad
      h = x_{(n+1-k)} \cdot \text{margin}

  These quantiles are exact, not estimates: the k least and the k largest
  readings are all that is kept, so memory is 2k numbers for each block, and at
  most a share of `tail` of the readings learned from lies beyond either
  quantile. What is wrong in those first steps is taken for normal.

  Args:
    name: Under which `watch_report` finds it.
    blocks: A `gn.Blocks` or one of its kinds. Each layer of a stacked array has
      a range of its own.
    ranges: {glob on block labels: (low, high)}; the first that matches counts,
      an exact label before all. None for an end: open. An end may be an array
      of the block's shape (one number for each layer of a stack).
    learn: From how many readings the other blocks' ranges are learned; None: in
      other blocks only what is not finite is counted.
    tail: Share of those readings beyond either quantile, in [0, 0.5).
    margin: By which factor a learned range is wider than its quantiles, >= 1.
    of: "norm", or "ratio": norm of the updates / norm of the parameters, for a
      watcher at the end of a chain. Then `update` needs `params`.
    every: None, or n: reads in updates 0, n, 2n, ...; the others compute no
      norm.
    axis_name: As in `gn.normalize_by_block_norm`.

  Returns:
    A transformation with a `WatchState`, whose arrays never change shape.

  Raises:
    ValueError: A glob matches no block, an option is out of range, two blocks
      have one label, blocks do not fit, `params` is missing for ratios.
    TypeError: `name` is no string; a leaf is not a floating-point array.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> tx = gn.watch('gradient', ranges={'Dense_*': (1e-3, 1e3)})
    >>> tree = lambda x: {'Dense_0': {'kernel': jnp.full((2, 2), x)}}
    >>> state = tx.init(tree(0.))
    >>> for x in (1.0, 1e-6, 1.0, jnp.nan):
    ...   _, state = tx.update(tree(x), state)
    >>> row = gn.watch_report(state, 'gradient')['Dense_0']
    >>> row['below'], row['first_below'], row['above'], row['first_above']
    (1, 1, 1, 3)
  """
  _recorded.check_name(name, _NAME, 'watch_report')
  nth = _recorded.check_every(every, _NAME)
  if of not in ('norm', 'ratio'):
    raise ValueError(f'watch(of={of!r}): "norm" or "ratio".')
  rules = _ranges.Rules(ranges or {}, learn, tail, margin)
  blocks = as_blocks(blocks, _NAME)

  def init(params):
    if _tree.is_placeholder(params):
      # No reading is like a parameter; one number stands for all of them.
      one = jnp.zeros([], jnp.float32)
      return WatchState(one, one, one)  # type: ignore
    readings = _recorded.zeros(resolve(blocks, params, _NAME), _NAME)
    given = rules.given(_shapes(readings))
    return WatchState(
        {name: readings}, _ranges.start(given, rules, _packed(readings)),
        jnp.zeros([], jnp.int32))

  def update(updates, state, params=None, **extra_args):
    del extra_args
    if of == 'ratio':
      _tree.require_params(params, 'watch(of="ratio")')
      _tree.require_same(_NAME, updates, params, 'parameters')
    layout = resolve(blocks, updates, _NAME)
    _recorded.require_readings(state.watched, name, layout, _NAME)
    given = rules.given(_shapes(state.watched[name]))

    def read(updates, params, state):
      like = state.watched[name]
      readings = _recorded.norms(layout, updates, axis_name, like, _NAME)
      if of == 'ratio':
        readings = _recorded.ratios(readings, _recorded.norms(
            layout, params, axis_name, like, _NAME))
      return state._replace(
          watched={name: readings}, table=_ranges.step(
              state.table, given, rules, _packed(readings), state.count))

    if nth > 1:
      new = lax.cond(
          _recorded.due(state.count, nth), read,
          lambda updates, params, state: state, updates, params, state)
    else:
      new = read(updates, params, state)
      if axis_name is None:
        # As in `record_block_norms`.
        updates, new = lax.optimization_barrier((updates, new))
    return updates, new._replace(count=optax.safe_increment(state.count))

  return optax.GradientTransformationExtraArgs(init, update)


def watch_report(
    opt_state: Any, name: str | None = None
) -> dict[str, dict[str, Any]]:
  """Reads what watchers have seen, as plain numbers.

  Args:
    opt_state: The state of a chain, as in `gn.block_norms`, on the host.
    name: A watcher's name; None for all of them.

  Returns:
    {block: row}, or {name: {block: row}} without a name. Layers of a stacked
    array are blocks `label[0]`, `label[1]`, ... A row is a dict: `reading` (the
    last), `low` and `high` (0 and inf as long as no range is known), `readings`
    (finite ones), `below` and `above` (how many were out of range),
    `first_below`, `last_below`, `first_above`, `last_above` (steps, or None).

  Raises:
    KeyError: No watcher has that name.
    ValueError: Two watchers of one name hold the same block.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> tx = gn.watch('layers', gn.Blocks(stacked={'*': 0}))
    >>> g = {'mlp': {'kernel': jnp.stack([jnp.ones(4), jnp.full(4, jnp.inf)])}}
    >>> _, state = tx.update(g, tx.init(g))
    >>> {block: row['above']
    ...  for block, row in gn.watch_report(state, 'layers').items()}
    {'mlp[0]': 0, 'mlp[1]': 1}
  """
  found = _recorded.merged(
      map(_by_name, _recorded.states(opt_state, WatchState)), 'watch_report',
      'gn.watch', 'watchers', 'block')
  return _recorded.named(found, name, 'watch_report', 'watcher')


def _by_name(state: Any) -> dict[str, dict[str, Any]]:
  """The rows of one watcher, on the host: {its name: {block: row}}."""
  table, watched = jax.device_get((
      {field: _recorded.array(x) for field, x in state['table'].items()},
      {key: {label: _recorded.array(x) for label, x in readings.items()}
       for key, readings in state['watched'].items()}))
  return {key: _rows(readings, table) for key, readings in watched.items()}


def _rows(
    readings: dict[str, np.ndarray], table: dict[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
  blocks = [
      (label + ''.join(f'[{n}]' for n in place), readings[label][place])
      for label in sorted(readings)
      for place in np.ndindex(readings[label].shape)]
  rows: dict[str, dict[str, Any]] = {}
  for n, (block, reading) in enumerate(blocks):
    rows[block] = {
        'reading': float(reading), 'low': float(table['low'][n]),
        'high': float(table['high'][n])}
    for field in ('readings', *_ranges.COUNTS):
      rows[block][field] = int(table[field][n])
    for field in _ranges.DATES:
      step = int(table[field][n])
      rows[block][field] = None if step < 0 else step
  return rows


def _shapes(readings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
  return {label: np.shape(readings[label]) for label in sorted(readings)}


def _packed(readings: Mapping[str, jax.Array]) -> jax.Array:
  """Returns all readings in one vector, by sorted label.

  A state that went through `jit` has its keys sorted; and a few operations on
  one vector cost less than as many for each block.
  """
  parts = [readings[label].reshape(-1) for label in sorted(readings)]
  return jnp.concatenate(parts) if parts else jnp.zeros(0, jnp.float32)
