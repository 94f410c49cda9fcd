"""Leaves of a parameter tree and their names.

A *hole* is a place of the tree without an array: `None` (a frozen or filtered
parameter) or `optax.MaskedNode` (what `optax.masked` and `optax.partition` put
where they hide a leaf). Holes keep their place and their path.
"""

import collections
import difflib
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

ROOT = '(root)'


def is_hole(node: Any) -> bool:
  """Tells whether a node of a tree stands for an absent leaf."""
  return node is None or isinstance(node, optax.MaskedNode)


def is_placeholder(tree: Any) -> bool:
  """Tells whether this is what `optax.tree.map_params` calls `init` with.

  An object without leaves stands there for the whole tree, so that what `init`
  makes of it shows which parts of a state are like the parameters.
  """
  return not flatten(tree)[0] and not isinstance(tree, (Mapping, Sequence))


def flatten(tree: Any) -> tuple[list[Any], Any]:
  """Returns the leaves of a tree, holes included, and its structure."""
  return jax.tree.flatten(tree, is_leaf=is_hole)


def paths(
    tree: Any, is_leaf: Callable[[Any], bool] = is_hole
) -> list[str]:
  """Returns the path of each leaf, holes included, written `a/b/kernel`.

  A parameter has one name, bare or boxed: the segment is dropped under which a
  box keeps its only array (`value` of Flax's `Partitioned` and of an NNX
  variable, `array` of a named array, the place in a node without names). Keys
  that are tuples are several segments, as `flatten_dict` makes them. The leaf
  of a tree without any keys is called `ROOT`.
  """
  every = _keys(tree, is_leaf)
  alone = collections.Counter(keys[:-1] for keys in every)
  names = [keys[:-1] if keys and opens(keys[-1]) and alone[keys[:-1]] == 1
           else keys for keys in every]
  return ['/'.join(itertools.chain.from_iterable(map(_segments, keys))) or ROOT
          for keys in names]


def _keys(tree: Any, is_leaf: Callable[[Any], bool]) -> list[Any]:
  """Returns the keys of each leaf, without those that open an NNX variable."""
  found = []
  stop = lambda node: is_leaf(node) or _is_nnx_variable(node)  # noqa: E731
  for keys, node in jax.tree_util.tree_flatten_with_path(tree, stop)[0]:
    if _is_nnx_variable(node):
      inside = jax.tree_util.tree_flatten_with_path(node, is_leaf)[0]
      found += [keys + inner[1:] for inner, _ in inside]
    else:
      found.append(keys)
  return found


def _is_nnx_variable(node: Any) -> bool:
  # The core does not import Flax; where nobody has, there is no NNX variable.
  nnx = sys.modules.get('flax.nnx')
  return nnx is not None and isinstance(node, nnx.Variable)


# What a node with one child may call it and still be a box around an array.
# (A module with one field, of such a name, is taken for a box as well.)
_BOXED = ('value', 'array', 'raw_value')


def opens(key: Any) -> bool:
  """Tells whether a key may be the one inside a box."""
  return (isinstance(key, jax.tree_util.GetAttrKey) and key.name in _BOXED
          or isinstance(key, jax.tree_util.FlattenedIndexKey) and key.key == 0)


def _segments(key: Any) -> tuple[str, ...]:
  for attribute in ('key', 'name', 'idx'):
    if hasattr(key, attribute):
      name = getattr(key, attribute)
      return tuple(map(str, name)) if isinstance(name, tuple) else (str(name),)
  return (str(key),)


def by_path(tree: Any) -> dict[str, Any]:
  """Returns {path: leaf}, holes included, in the tree's order."""
  return dict(zip(paths(tree), flatten(tree)[0], strict=True))


def shape_dtype(leaf: Any, path: str) -> tuple[tuple[int, ...], np.dtype]:
  """Returns shape and dtype of an array-like leaf; else raises `TypeError`."""
  try:
    dtype = leaf.dtype if hasattr(leaf, 'dtype') else jnp.result_type(leaf)
    return tuple(np.shape(leaf)), dtype
  except (TypeError, ValueError):
    raise TypeError(
        f'leaf {path!r} is a {type(leaf).__name__}, not an array.'
        ' Filter it out of the tree (equinox.filter, nnx.state(model,'
        ' nnx.Param)) or put None in its place.') from None


def nearest(word: str, known: Sequence[str]) -> str:
  """Returns " Did you mean ...?" for the likeliest of the known words."""
  close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.4)
  return f' Did you mean {" or ".join(map(repr, close))}?' if close else ''


def require_params(params: Any, name: str) -> None:
  """Raises `ValueError` where a transformation that needs params has none."""
  if params is None:
    raise ValueError(
        f'{name} needs the parameters: call `update(updates, state, params)`.')


def require_same(name: str, updates: Any, params: Any, other: str) -> None:
  """Raises `ValueError` where an update has no parameter of its shape.

  Trees are compared on normalized paths. A hole among the updates may face a
  parameter (a frozen one); an update may not face a hole.

  Args:
    name: The transformation that asks, for the message.
    updates: The tree given to `update`.
    params: The tree to compare with.
    other: What `params` is, for the message.
  """
  have, given = by_path(params), by_path(updates)
  wanted = {path: leaf for path, leaf in given.items() if not is_hole(leaf)}
  for path, leaf in wanted.items():
    if path not in have or is_hole(have[path]):
      raise ValueError(
          f'{name}: the tree changed: the updates have a leaf {path!r}'
          f' and the {other} have none.{nearest(path, list(have))} Pass both'
          ' from the same model, and call `init` again after changing it.')
    if np.shape(leaf) != np.shape(have[path]):
      raise ValueError(
          f'{name}: leaf {path!r} has shape {np.shape(leaf)} in the'
          f' updates and {np.shape(have[path])} in the {other}. Pass both from'
          ' the same model, and call `init` again after changing it.')
  hidden = [path for path in given if path not in wanted]
  for path, leaf in have.items():
    covered = path in given or any(path.startswith(h + '/') for h in hidden)
    if not covered and not is_hole(leaf):
      raise ValueError(
          f'{name}: the tree changed: the {other} have a leaf {path!r}'
          ' and the updates have none. Pass both from the same model, and call'
          ' `init` again after changing it.')
