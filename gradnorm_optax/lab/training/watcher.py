"""Watches every block beside the training step, which goes on as without it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gradnorm_optax as gn
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import block_norms
from gradnorm_optax.lab.training.problem import Problem

SELDOM = 10  # readings of the gradient for one of the update
_DATES = ('first_below', 'last_below', 'first_above', 'last_above')


class Watched(NamedTuple):
  """What a watcher has seen; of one size from the first step to the last.

  Attributes:
    gradient: Of the raw gradient, a `gn.WatchState`.
    update: Of the update over the parameters, the same; () if that is not read.
  """

  gradient: Any
  update: Any


class Watcher:
  """`gn.watch` on the raw gradient and on the update of a step.

  They stand beside the optimizer's chain, not in it: what it is given, and its
  state, are the same with and without them.
  """

  def __init__(self, problem: Problem, table: schema.Watch,
               update: bool = True):
    """Makes it as `[run.watch]` says; `every` must be above 0.

    Args:
      problem: Whose blocks.
      table: The options.
      update: Whether the update over the parameters is read, too.
    """
    blocks = block_norms.blocks(problem)

    def ends(ranges: dict[str, Any]) -> dict[str, Any]:
      return {glob: (*pair, None)[:2] for glob, pair in ranges.items()}

    self.every = table.every
    try:
      self._gradient = gn.watch(
          'gradient', blocks, ranges=ends(table.ranges),
          learn=max(1, table.learn // table.every) if table.learn else None,
          margin=table.margin, every=table.every)
      # Two more norms: where nothing is asked of them they are seldom read.
      self._update = gn.watch(
          'update', blocks, ranges=ends(table.ratios), learn=None, of='ratio',
          every=table.every * (1 if table.ratios else SELDOM)
      ) if update else None
    except ValueError as error:
      raise LabError(f'[run.watch] {error}') from error

  def start(self, params: Any, step: int = 0) -> Watched:
    """The state before any reading, `step` steps into the run.

    Raises:
      LabError: A range is given for a block that is not there.
    """
    def begin(watch: Any) -> Any:
      return watch.init(params)._replace(
          count=jnp.int32(step)) if watch is not None else ()

    try:
      return Watched(begin(self._gradient), begin(self._update))
    except ValueError as error:
      raise LabError(f'[run.watch] {error}') from error

  def step(self, state: Watched, gradient: Any, updates: Any,
           params: Any) -> Watched:
    """Takes a step's trees in, all like the model's parameters before it."""
    return Watched(
        self._gradient.update(gradient, state.gradient)[1],
        () if self._update is None else
        self._update.update(updates, state.update, params)[1])

  def record(self, state: Watched) -> dict[str, Any]:
    """All of the state as JSON holds it; null where not finite.

    Returns:
      `read`: the step of the last reading, from 1; `taken`: how many readings
      there were; `blocks`; for `gradient` and `update` each a column for every
      field of `gn.watch_report`, steps counted from 1, besides `least` and
      `largest`, from which ranges are learned.
    """
    state = jax.device_get(state)
    last = (int(state.gradient.count) - 1) // self.every
    found: dict[str, Any] = {'read': last * self.every + 1, 'taken': last + 1}
    for name, one in _read(state):
      rows = gn.watch_report(one, name)
      found['blocks'] = list(rows)
      found[name] = _columns(list(rows.values()), one.table)
    return found


def _columns(rows: list[dict[str, Any]], table: Any) -> dict[str, Any]:
  """The fields of a report, a list for each."""
  columns = {field: [_plain(row[field]) for row in rows] for field in rows[0]}
  for field in _DATES:
    columns[field] = [
        None if step is None else step + 1 for step in columns[field]]
  for field in ('least', 'largest'):
    if field in table:
      columns[field] = [[_plain(x) for x in row] for row in table[field]]
  return columns


def restored(like: Watched, columns: dict[str, Any], step: int) -> Watched:
  """The state of which `record` made these columns, after so many steps.

  Args:
    like: A state of the same watcher.
    columns: What `record` returned.
    step: How many steps the run had taken.

  Raises:
    LabError: They are of other blocks.
  """
  return like._replace(**{
      name: _restored(one, columns[name], step) for name, one in _read(like)})


def _read(state: Watched) -> list[tuple[str, Any]]:
  """What is read, with its name."""
  return [(name, one) for name, one in state._asdict().items() if one]


def _restored(like: Any, columns: dict[str, Any], step: int) -> Any:
  """The same for one of both."""
  table = {}
  for field, old in like.table.items():
    missing = {'high': np.inf, 'least': np.inf}.get(field, np.nan)
    values: Any = np.array(columns[field], np.float64)
    if field in _DATES:
      values, missing = values - 1, -1.0
    values = np.where(np.isnan(values), missing, values)
    table[field] = jnp.asarray(values.reshape(old.shape).astype(old.dtype))
  (name, readings), = like.watched.items()
  flat, at = np.array(columns['reading'], np.float64), 0
  new = {}
  for label in sorted(readings):
    size = readings[label].size
    new[label] = jnp.asarray(flat[at:at + size].reshape(
        readings[label].shape).astype(readings[label].dtype))
    at += size
  return like._replace(watched={name: new}, table=table,
                       count=jnp.int32(step))


def _plain(value: Any) -> Any:
  """A number with the digits that its own type needs; null if not finite."""
  if value is None or isinstance(value, int):
    return value
  return float(f'{value:.9g}') if np.isfinite(value) else None
