"""One array of a tree with the right answer, and trees built from them."""

from typing import Any, NamedTuple

import jax


class Leaf(NamedTuple):
  """Shape, fan-in axes, stacked axes, and 'matrix' or 'vector'."""

  shape: tuple[int, ...]
  fan_in: tuple[int, ...]
  stack: tuple[int, ...]
  kind: str


def mat(shape: tuple[int, ...], *fan_in: int, stack=()) -> Leaf:
  """An array contracted over `fan_in`; `stack` holds experts."""
  return Leaf(shape, fan_in, stack, 'matrix')


def vec(*shape: int, stack=()) -> Leaf:
  """A bias, a scale or the like, whatever its shape."""
  return Leaf(shape, (), stack, 'vector')


def at(prefix: str, *tables: dict[str, Leaf]) -> dict[str, Leaf]:
  """Puts tables below a path."""
  return {f'{prefix}/{path}': leaf
          for table in tables for path, leaf in table.items()}


def scan(table: dict[str, Leaf], axis: int, length: int) -> dict[str, Leaf]:
  """Inserts a layer axis, as `nn.scan(variable_axes=...)` does."""
  shift = lambda axes: tuple(a + (a >= axis) for a in axes)  # noqa: E731
  return {
      path: Leaf(
          (*leaf.shape[:axis], length, *leaf.shape[axis:]), shift(leaf.fan_in),
          tuple(sorted((axis, *shift(leaf.stack)))), leaf.kind)
      for path, leaf in table.items()}


def shapes(table: dict[str, Leaf]) -> dict[str, Any]:
  """The tree as one flat dict."""
  return {path: jax.ShapeDtypeStruct(leaf.shape, 'float32')
          for path, leaf in table.items()}


def nested(table: dict[str, Leaf]) -> dict[str, Any]:
  """The tree as the nested dict that projects train."""
  tree: dict[str, Any] = {}
  for path, array in shapes(table).items():
    *parents, name = path.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[name] = array
  return tree
