"""How `weight_normalized` keeps its state: by path, in boxes, and checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax import numpy as jnp

from gradnorm_optax import _tree
from gradnorm_optax._layout import LeafSpec
from gradnorm_optax._weight_norm_step import is_coarse

# By the first field of a state: the lengths it is of, and the other one.
_LENGTHS = {'scale': 'trained', 'length': 'fixed'}
_OTHER = {'scale': 'length', 'length': 'scale'}


def unit_shape(spec: LeafSpec) -> tuple[int, ...]:
  """Returns the shape of one number for each unit: size 1 along fan-in."""
  return tuple(1 if axis in spec.reduced else size
               for axis, size in enumerate(spec.shape))


def _is_box(node: Any) -> bool:
  """Tells whether a node is a box around one array, as `_tree.paths` does."""
  inside = jax.tree_util.tree_flatten_with_path(
      node, lambda child: child is not node)[0]
  if len(inside) != 1 or not inside[0][0]:
    return False
  (key, *_), child = inside[0]
  return _tree.opens(key) and len(_tree.flatten(child)[0]) == 1 and (
      _tree.is_hole(child) or jax.tree_util.all_leaves([child]))


def boxes(tree: Any) -> tuple[list[Any], Any]:
  """Flattens a tree like `_tree.flatten`, but leaves arrays in their boxes."""
  return jax.tree.flatten(
      tree, is_leaf=lambda node: _tree.is_hole(node) or _is_box(node))


def bare(tree: Any, leaves: Sequence[Any]) -> Any:
  """Puts leaves in the places of a tree's arrays, without their boxes.

  A box may hold the names of its array's axes, which arrays of other shapes
  must not take over.
  """
  return jax.tree.unflatten(boxes(tree)[1], leaves)


def rebox(box: Any, leaf: Any) -> Any:
  """Puts a leaf into the box, if there is one."""
  return jax.tree.unflatten(jax.tree.structure(box), [leaf])


def no_lengths(leaves: Sequence[Any]) -> list[Any]:
  """Returns an array of size 0 for each leaf, and holes where there are."""
  return [leaf if _tree.is_hole(leaf) else jnp.zeros(0, jnp.float32)
          for leaf in leaves]


def fill(state: Any) -> Any:
  """Puts a zero in place of each empty array, which orbax does not save."""
  return jax.tree.map(
      lambda x: jnp.zeros(1, x.dtype) if 0 in jnp.shape(x) else x, state)


def refill(state: Any, before: Any) -> Any:
  """Does the same with the zeros of the step before."""
  return jax.tree.map(
      lambda x, old: old if 0 in jnp.shape(x) else x, state, before)


def empty(state: Any, like: Any, name: str) -> Any:
  """Undoes `fill`, given the shapes of inner's state."""
  held_def: Any = jax.tree.structure(state)
  if held_def != jax.tree.structure(like):
    held, wanted = (
        {jax.tree_util.keystr(keys) for keys, _ in
         jax.tree_util.tree_leaves_with_path(part)} for part in (state, like))
    changed = ', '.join(sorted(held ^ wanted)[:3]) or 'a kind of node'
    raise ValueError(
        f'{name}: `inner`, or the tree, changed since `init`: the states of'
        f' inner differ in {changed}. Call `init` again after changing the'
        ' model or the optimizer.')
  return jax.tree.map(
      lambda x, shape: jnp.zeros(shape.shape, shape.dtype)
      if 0 in shape.shape else x, state, like)


def require_state(
    state: Any, kind: Any, specs: Sequence[LeafSpec], leaves: Mapping[str, Any],
    name: str,
) -> None:
  """Raises `ValueError` where the state is not that of these leaves.

  Args:
    state: As given to `update`.
    kind: Class of the states of such lengths. The first field is {path: array}.
    specs: Of the leaves to normalize.
    leaves: All leaves of the parameters by path, holes included.
    name: Who asks, for messages.
  """
  field = kind._fields[0]
  scales = getattr(state, field, None)
  if isinstance(getattr(state, _OTHER[field], None), Mapping):
    given, wanted = (_LENGTHS[_OTHER[field]], _LENGTHS[field])
    saved = (' One of fixed lengths that an earlier version saved becomes'
             ' FixedLengthsState(*state).' if wanted == 'fixed' else '')
    raise ValueError(
        f'{name}: this is a state of lengths="{given}", and with lengths='
        f'"{wanted}" the steps of inner mean something else. Give lengths='
        f'"{given}", or start from these weights: call `init` again.{saved}')
  if not isinstance(scales, Mapping):
    raise ValueError(
        f'{name}: this is no state of the present version; an earlier one kept'
        ' v and g. Take tx.init(params)._replace(inner=old.inner, scale={path:'
        ' g / norm of v}). Without `scale`, v restarts from the parameters.')
  for spec in specs:
    where, shape = f'{name}: leaf {spec.path!r}', unit_shape(spec)
    if spec.path not in scales:
      raise ValueError(
          f'{where} is to be normalized, and the state has nothing for its'
          ' units: `where`, or the tree, changed since `init`. Give the same'
          ' `where`. Call `init` again after changing the model.')
    if jnp.shape(scales[spec.path]) != shape:
      raise ValueError(
          f'{where} of shape {spec.shape} has units of shape {shape}, and in'
          f' the state they have shape {jnp.shape(scales[spec.path])}:'
          ' `blocks`, or the array, changed since `init`. Give the same'
          ' `blocks`. Call `init` again after changing the model.')
    if (spec.path in state.weights) != is_coarse(spec.dtype):
      raise ValueError(
          f'{where} has dtype {spec.dtype} and had another one at `init`: only'
          ' beside coarser parameters than float32 stand float32 weights. Call'
          ' `init` again.')
  for path in sorted(set(scales) - {spec.path for spec in specs}):
    if path not in leaves:
      raise ValueError(
          f'{name}: the tree changed since `init`: the state has units of a'
          f' leaf {path!r} and the parameters have no such leaf. Call `init`'
          ' again after changing the model.')
    if not _tree.is_hole(leaves[path]):
      raise ValueError(
          f'{name}: leaf {path!r} was normalized, and `where` does not match it'
          ' any more. Give the same `where`, or call `init` again.')
