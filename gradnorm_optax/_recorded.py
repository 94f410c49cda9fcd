"""What recorders and watchers share: readings of blocks, found by label."""

import sys
from collections.abc import Iterator
from typing import Any

import jax
from jax import lax, numpy as jnp

from gradnorm_optax import _floats, _norms, _tree
from gradnorm_optax._apply import leaves_at
from gradnorm_optax._layout import Layout

Readings = dict[str, jax.Array]  # {block label: an array of the block's shape}


def check_name(name: Any, who: str, reader: str) -> None:
  """Raises `TypeError` for a name that is no string."""
  if not isinstance(name, str):
    raise TypeError(
        f'{who}(name={name!r}): a string, to be read with'
        f' gn.{reader}(opt_state, name).')


def require_static(who: str, **values: Any) -> None:
  """Raises `TypeError` for arrays where a plain number is needed."""
  for key, value in values.items():
    if isinstance(value, jax.Array):
      raise TypeError(
          f'{who}({key}=...): a plain number, not an array, because it shapes'
          f' the state. Under optax.inject_hyperparams add {key!r} to'
          ' static_args.')


def check_every(every: Any, who: str) -> int:
  """Returns it, 1 for None; raises for what is no number of updates."""
  require_static(who, every=every)
  if every is None:
    return 1
  if isinstance(every, bool) or not isinstance(every, int) or every < 1:
    raise ValueError(
        f'{who}(every={every!r}): in each how many-th update, so a whole number'
        ' of at least 1.')
  return every


def labels(layout: Layout, who: str) -> list[str]:
  """Returns the blocks' labels as strings, in the order of the tree."""
  found = [str(label) for label in layout.groups]
  if len(set(found)) < len(found):
    twice = next(label for label in found if found.count(label) > 1)
    raise ValueError(
        f'{who}: two blocks are called {twice!r}. Let'
        ' Blocks(by=...) return labels that differ as strings.')
  return found


def shapes(layout: Layout, who: str) -> dict[str, tuple[int, ...]]:
  """Returns {block label: shape of its readings}."""
  return {label: layout.spec(members[0]).block_shape
          for label, members in zip(
              labels(layout, who), layout.groups.values(), strict=True)}


def zeros(layout: Layout, who: str) -> Readings:
  """Returns readings before the first update."""
  dtype = _floats.accumulator([
      jax.ShapeDtypeStruct((), jax.dtypes.canonicalize_dtype(spec.dtype))
      for spec in map(layout.spec, layout.active)])
  return {label: jnp.zeros(shape, dtype)
          for label, shape in shapes(layout, who).items()}


def require_readings(
    kept: dict[str, Readings], name: str, layout: Layout, who: str
) -> None:
  """Raises `ValueError` where a state is not that of these blocks."""
  here = f'{who}({name!r})'
  if name not in kept:
    raise ValueError(
        f'{here}: the state is of one called {next(iter(kept))!r}. Keep that'
        ' name, or call `init` again.')
  wanted = shapes(layout, who)
  if set(wanted) != set(kept[name]):
    raise ValueError(
        f'{here}: the tree changed: the updates have blocks {list(wanted)} and'
        f' the state {list(kept[name])}. Call `init` again after changing the'
        ' model.')
  for label, shape in wanted.items():
    if kept[name][label].shape != shape:
      raise ValueError(
          f'{here}: block {label!r} has norms of shape {shape}, and the state'
          f' {kept[name][label].shape}. Keep `blocks`, or call `init` again.')


def norms(
    layout: Layout, tree: Any, axis_name: Any, like: Readings, who: str
) -> Readings:
  """Returns the L2 norm of each block of a tree, in the dtypes of `like`."""
  leaves = leaves_at(layout, tree)
  found = _norms.block_norms(layout, leaves, axis_name) if leaves else []
  return {label: norm.astype(like[label].dtype)
          for label, norm in zip(labels(layout, who), found, strict=True)}


def ratios(above: Readings, below: Readings) -> Readings:
  """Divides readings; 0 where nothing moves, inf where only the update does."""

  def ratio(norm: jax.Array, other: jax.Array) -> jax.Array:
    still = lax.eq(norm, lax.full_like(norm, 0))
    one = lax.full_like(norm, 1)
    return lax.div(norm, lax.select(still, one, other))

  return {label: ratio(norm, below[label]) for label, norm in above.items()}


def due(count: jax.Array, every: int) -> jax.Array:
  """Tells whether a reading is taken in the update after `count` others."""
  return lax.eq(lax.rem(count, jnp.int32(every)), jnp.int32(0))


def mean_step(
    mean: jax.Array, seen: jax.Array, reading: jax.Array, decay: Any
) -> tuple[jax.Array, jax.Array]:
  """Takes a reading into a debiased exponential mean.

  Args:
    mean: Of the readings so far, each `decay` times as heavy as the next.
    seen: How many they are, int32.
    reading: The next; left out where it is not finite.
    decay: A scalar in [0, 1).

  Returns:
    The new mean and number.
  """
  good = lax.is_finite(reading)
  seen = seen + good.astype(jnp.int32)
  number = jnp.maximum(seen, jnp.int32(1)).astype(reading.dtype)
  decay = jnp.broadcast_to(jnp.asarray(decay, reading.dtype), number.shape)
  one = lax.full_like(number, 1)
  weight = (one - decay) / (one - decay ** number)
  return lax.select(good, mean + weight * (reading - mean), mean), seen


def states(opt_state: Any, kind: type) -> Iterator[dict[str, Any]]:
  """Yields {field: value} of each state of a kind, also after `nnx.split`."""
  fields = kind._fields  # type: ignore[attr-defined]
  stop = lambda node: (  # noqa: E731
      isinstance(node, kind) or _is_split(node, fields))
  for node in jax.tree.leaves(opt_state, is_leaf=stop):
    if isinstance(node, kind):
      yield node._asdict()  # type: ignore[attr-defined]
    elif _is_split(node, fields):
      yield {**dict.fromkeys(fields, ()), **dict(node)}


def _is_split(node: Any, fields: tuple[str, ...]) -> bool:
  """Tells whether this is a state with these fields after `nnx.split`.

  NNX keeps the names of the fields that hold arrays and forgets the class; the
  moments of a module of such a name look alike but for the variables that hold
  them.
  """
  nnx = sys.modules.get('flax.nnx')
  if nnx is None or not isinstance(node, (dict, nnx.State)) or (
      fields[0] not in node or not set(node) <= set(fields)):
    return False
  leaves = jax.tree.leaves(
      dict(node), is_leaf=lambda x: isinstance(x, nnx.Variable))
  return bool(leaves) and all(
      isinstance(leaf, nnx.optimizer.OptArray) for leaf in leaves)


def merged(
    found: Iterator[dict[str, Readings]], who: str, maker: str,
    what: str = 'recorders', held: str = 'norms of block',
) -> dict[str, dict[str, Any]]:
  """Joins {name: {label: reading}} of several states; no label comes twice."""
  result: dict[str, dict[str, Any]] = {}
  for by_name in found:
    for name, readings in by_name.items():
      have = result.setdefault(name, {})
      twice = have.keys() & readings.keys()
      if twice:
        raise ValueError(
            f'{who}: two {what} called {name!r} hold {held}'
            f' {min(twice)!r}. Give each {maker} a name of its own.')
      have.update({label: array(x) for label, x in readings.items()})
  return result


def named(
    found: dict[str, Any], name: str | None, who: str, what: str = 'recorder'
) -> Any:
  """Returns what has a name, or all; raises `KeyError` naming those there."""
  if name is None:
    return found
  if name not in found:
    raise KeyError(
        f'{who}: no {what} called {name!r} in this state.'
        f'{_tree.nearest(name, list(found))} There are: {sorted(found)}.')
  return found[name]


def array(x: Any) -> Any:
  """Returns the array; NNX keeps each of an optimizer's in a variable."""
  return x.get_value() if hasattr(x, 'get_value') else x
