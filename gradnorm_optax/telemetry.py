"""Block norms recorded inside a chain, and read from its state."""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import optax
from jax import lax, numpy as jnp

from gradnorm_optax import _floats, _norms, _tree
from gradnorm_optax._apply import leaves_at
from gradnorm_optax._layout import Layout, resolve
from gradnorm_optax.blocks import as_blocks

__all__ = ['RecordBlockNormsState', 'block_norms', 'record_block_norms']


class RecordBlockNormsState(NamedTuple):
  """Norms of the last updates, {name: {block label: norm}}."""

  norms: dict[str, dict[str, jax.Array]]


def record_block_norms(
    name: str, blocks: Any = 'layer', *, axis_name: Any = None
) -> optax.GradientTransformationExtraArgs:
  """Keeps the L2 norm of each block of the updates; changes nothing.

  Put one in front of a normalization and one behind it, train, and read both
  with `block_norms`. Before the first update the norms are 0. Works inside
  `optax.masked`, `optax.partition`, `optax.MultiSteps` (where it records the
  accumulated gradient), `lax.scan`, Linen and NNX training states.

  Args:
    name: Under which `block_norms` finds the norms.
    blocks: A `gn.Blocks` or one of its kinds.
    axis_name: As in `gn.normalize_by_block_norm`.

  Returns:
    A transformation with a `RecordBlockNormsState`: float32 scalars (float64
    where the tree has float64 leaves), arrays for stacked and unit blocks.

  Raises:
    ValueError: Two blocks have one label as strings; blocks do not fit.
    TypeError: `name` is no string; a leaf is not a floating-point array.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp, optax
    >>> tx = optax.chain(gn.record_block_norms('raw'),
    ...                  gn.normalize_by_block_norm(),
    ...                  gn.record_block_norms('normalized'))
    >>> g = {'Dense_0': {'kernel': jnp.array([[3.]]), 'bias': jnp.array([4.])}}
    >>> _, state = tx.update(g, tx.init(g))
    >>> print(gn.block_norms(state, 'raw')['Dense_0'].round(3))
    5.0
    >>> sorted(gn.block_norms(state))
    ['normalized', 'raw']
  """
  if not isinstance(name, str):
    raise TypeError(
        f'record_block_norms(name={name!r}): a string, to be read with'
        ' gn.block_norms(opt_state, name).')
  blocks = as_blocks(blocks, 'record_block_norms')

  def init(params):
    if _tree.is_placeholder(params):
      # No norm is like a parameter; one number stands for all of them.
      return RecordBlockNormsState(jnp.zeros([], jnp.float32))  # type: ignore
    layout = resolve(blocks, params, 'record_block_norms')
    dtype = _floats.accumulator([
        jax.ShapeDtypeStruct((), jax.dtypes.canonicalize_dtype(spec.dtype))
        for spec in map(layout.spec, layout.active)])
    return RecordBlockNormsState({name: {
        label: jnp.zeros(layout.spec(members[0]).block_shape, dtype)
        for label, members in zip(
            _labels(layout), layout.groups.values(), strict=True)}})

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    layout = resolve(blocks, updates, 'record_block_norms')
    labels = _labels(layout)
    if name not in state.norms:
      raise ValueError(
          f'record_block_norms({name!r}): the state is of a recorder called'
          f' {next(iter(state.norms))!r}. Keep that name, or call `init`'
          ' again.')
    if set(labels) != set(state.norms[name]):
      raise ValueError(
          f'record_block_norms({name!r}): the tree changed: the updates have'
          f' blocks {labels} and the state {list(state.norms[name])}. Call'
          ' `init` again after changing the model.')
    for label, members in zip(labels, layout.groups.values(), strict=True):
      shape = layout.spec(members[0]).block_shape
      if state.norms[name][label].shape != shape:
        raise ValueError(
            f'record_block_norms({name!r}): block {label!r} has norms of shape'
            f' {shape}, and the state {state.norms[name][label].shape}. Keep'
            ' `blocks`, or call `init` again.')
    leaves = leaves_at(layout, updates)
    norms = _norms.block_norms(layout, leaves, axis_name) if leaves else []
    found = {label: norm.astype(state.norms[name][label].dtype)
             for label, norm in zip(labels, norms, strict=True)}
    if axis_name is None:
      # Without an order XLA shares the squares with an optimizer behind, and
      # writes them to memory. (Inside shard_map a barrier would make whole
      # leaves count as sharded.)
      updates, found = lax.optimization_barrier((updates, found))
    return updates, RecordBlockNormsState({name: found})

  return optax.GradientTransformationExtraArgs(init, update)


def _labels(layout: Layout) -> list[str]:
  labels = [str(label) for label in layout.groups]
  if len(set(labels)) < len(labels):
    twice = next(label for label in labels if labels.count(label) > 1)
    raise ValueError(
        f'record_block_norms: two blocks are called {twice!r}. Let'
        ' Blocks(by=...) return labels that differ as strings.')
  return labels


def block_norms(opt_state: Any, name: str | None = None) -> dict[str, Any]:
  """Reads the norms that `record_block_norms` kept.

  Args:
    opt_state: The state of a chain, wherever in it the recorders are; also a
      whole training state, an `nnx.Optimizer`'s `opt_state`, or what
      `nnx.split` makes of it.
    name: A recorder's name; None for all of them.

  Returns:
    {block label: norm}, or {name: {block label: norm}} without a name. Norms of
    recorders of one name (one in each part of an `optax.partition`) are merged.

  Raises:
    KeyError: No recorder has that name.
    ValueError: Two recorders of one name hold norms of the same block.
  """
  found: dict[str, dict[str, Any]] = {}
  for norms_by_name in _records(opt_state):
    for key, norms in norms_by_name.items():
      have = found.setdefault(key, {})
      twice = have.keys() & norms.keys()
      if twice:
        raise ValueError(
            f'block_norms: two recorders called {key!r} hold norms of block'
            f' {min(twice)!r}. Give each record_block_norms a name of its own.')
      have.update({label: _array(norm) for label, norm in norms.items()})
  if name is None:
    return found
  if name not in found:
    raise KeyError(
        f'block_norms: no recorder called {name!r} in this state.'
        f'{_tree.nearest(name, list(found))} Recorders: {sorted(found)}.')
  return found[name]


def _records(opt_state: Any) -> Iterator[dict[str, dict[str, Any]]]:
  """Yields {name: {label: norm}} of each recorder in a state."""
  stop = lambda node: (  # noqa: E731
      isinstance(node, RecordBlockNormsState) or _is_split(node))
  for node in jax.tree.leaves(opt_state, is_leaf=stop):
    if isinstance(node, RecordBlockNormsState):
      yield node.norms
    elif _is_split(node):
      yield node['norms']


def _is_split(node: Any) -> bool:
  """Tells whether this is a recorder's state after `nnx.split`.

  NNX keeps the name of the field and forgets the class; the moments of a module
  called `norms` look alike but for the variables that hold them.
  """
  nnx = sys.modules.get('flax.nnx')
  if nnx is None or not isinstance(node, (dict, nnx.State)) or (
      list(node) != ['norms']):
    return False
  leaves = jax.tree.leaves(
      node['norms'], is_leaf=lambda x: isinstance(x, nnx.Variable))
  return bool(leaves) and all(
      isinstance(leaf, nnx.optimizer.OptArray) for leaf in leaves)


def _array(norm: Any) -> Any:
  # NNX keeps each array of an optimizer's state in a variable.
  return norm.get_value() if hasattr(norm, 'get_value') else norm
