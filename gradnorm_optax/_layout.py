"""Blocks resolved on one tree: what every reduction needs, in plain Python."""

import contextvars
import dataclasses
import functools
import math
from collections.abc import Hashable, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from gradnorm_optax import _doubts, _tree
from gradnorm_optax._conventions import CONVENTIONS
from gradnorm_optax._places import Place, places
from gradnorm_optax.blocks import Blocks, as_blocks


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeafSpec(Place):
  """One array of the tree, with its place in the blocks."""

  label: Hashable
  kept: tuple[int, ...]  # axes along which the blocks of this leaf lie

  @property
  def rank(self) -> int:
    """Number of axes without layer axes; 1 for a bias of any shape."""
    axes = len(self.shape) - len(self.stack)
    return min(axes, 1) if self.fan_in == () and not self.explicit else axes

  @property
  def reduced(self) -> tuple[int, ...]:
    """Axes over which a block of this leaf extends."""
    return tuple(a for a in range(len(self.shape)) if a not in self.kept)

  @property
  def block_shape(self) -> tuple[int, ...]:
    """Shape of the array of this leaf's blocks."""
    return tuple(self.shape[a] for a in self.kept)

  @property
  def likeness(self) -> 'LeafSpec':
    """This leaf without its name: equal for leaves that are read alike."""
    return dataclasses.replace(self, path='', label=None, doubt='')

  def centered(self, pieces: int = 1) -> bool:
    """Whether the leaf has a fan-in mean to subtract.

    Args:
      pieces: Into how many the fan-in is cut.
    """
    return (bool(self.fan_in) and self.rank >= 2
            and self.fan_in_size * pieces > 1)

  @property
  def inputs(self) -> tuple[int, ...]:
    """Fan-in axes, () where there are none or they are unknown."""
    return self.fan_in or ()

  @property
  def fan_in_size(self) -> int:
    """Number of entries of one output unit, 1 for a vector."""
    return math.prod(self.shape[a] for a in self.inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
  """A tree's leaves and groups. Hashes by identity, so it can be static.

  Attributes:
    specs: One entry for each leaf of the tree, holes included: None where the
      leaf passes through (holes, empty arrays, skipped leaves).
    groups: {label: indices into `specs`}, in the order of the tree.
    all_paths: Paths of all leaves, holes included.
  """

  specs: tuple[LeafSpec | None, ...]
  groups: Mapping[Hashable, tuple[int, ...]]
  all_paths: tuple[str, ...]

  @property
  def active(self) -> tuple[int, ...]:
    """Indices of the leaves that belong to a block, in the tree's order."""
    return tuple(i for i, spec in enumerate(self.specs) if spec is not None)

  @functools.cached_property
  def blocks(self) -> tuple[tuple['Layout', tuple[int, ...]], ...]:
    """One layout for each label, with its leaves' places in `active`.

    Blocks that differ in nothing but their names share a layout, so that `jit`
    takes them for the same.
    """
    place = {index: n for n, index in enumerate(self.active)}
    return tuple(
        (_alone(tuple(self.spec(i).likeness for i in members)),
         tuple(place[i] for i in members))
        for members in self.groups.values())

  def spec(self, index: int) -> LeafSpec:
    """Returns the entry of a leaf that belongs to a block."""
    found = self.specs[index]
    assert found is not None
    return found


@functools.lru_cache(maxsize=1024)
def _alone(specs: tuple[LeafSpec, ...]) -> Layout:
  """Returns the layout of one block."""
  return Layout(specs, {None: tuple(range(len(specs)))}, ())


# Where it is a list, each call of `resolve` adds (blocks, tree, name) to it.
heard: contextvars.ContextVar[list[tuple[Blocks, Any, str]] | None] = (
    contextvars.ContextVar('heard', default=None))

_CACHE: dict[Any, Layout] = {}
_CACHE_SIZE = 256


def resolve(
    blocks: Any, tree: Any, name: str, *, fan_in: bool = False,
    only: frozenset[str] | None = None,
) -> Layout:
  """Resolves blocks on a tree, once per tree structure.

  Args:
    blocks: What the user gave a transformation as `blocks=`.
    tree: Parameters or updates; arrays or `jax.ShapeDtypeStruct`.
    name: The transformation that asks, for messages.
    fan_in: Whether every array of rank >= 2 must have known fan-in axes.
    only: Paths of the leaves to act on; None for all.

  Returns:
    The layout.

  Raises:
    TypeError: A leaf is not a floating-point array.
    ValueError: A glob matches nothing, an axis is out of range, leaves of one
      label have different layer axes, or a fan-in is unknown.
  """
  blocks = as_blocks(blocks, name)
  if (calls := heard.get()) is not None:
    calls.append((blocks, tree, name))
  leaves, treedef = _tree.flatten(tree)
  avals = tuple(
      None if _tree.is_hole(leaf) else (np.shape(leaf), str(leaf.dtype))
      if hasattr(leaf, 'dtype') else type(leaf) for leaf in leaves)
  key = (blocks, treedef, avals, fan_in, only)
  try:
    found = _CACHE.get(key)
  except TypeError:  # a registered node with unhashable static data
    return _resolve(blocks, tree, name, fan_in, only)
  if found is None:
    found = _resolve(blocks, tree, name, fan_in, only)
    if len(_CACHE) >= _CACHE_SIZE:
      _CACHE.pop(next(iter(_CACHE)))
    _CACHE[key] = found
  return found


def _resolve(
    blocks: Blocks, tree: Any, name: str, fan_in: bool,
    only: frozenset[str] | None,
) -> Layout:
  paths = _tree.paths(tree)
  found = places(blocks, tree, name)
  convention = CONVENTIONS[blocks.convention]
  together = all(convention.knows(path.split('/')[0]) for path in paths)
  specs: list[LeafSpec | None] = [None] * len(paths)
  groups: dict[Hashable, list[int]] = {}
  for index, place in found.items():
    if only is not None and place.path not in only:
      continue
    if not jnp.issubdtype(place.dtype, jnp.inexact):
      raise TypeError(
          f'{name}: leaf {place.path!r} has dtype {place.dtype}, and only'
          ' floating-point leaves have a gradient to scale. Hide it with'
          ' optax.masked or optax.partition, or pass it through with'
          f' gn.Blocks(skip=({place.path!r},)).')
    label = _label(
        blocks, place.path, place.shape, place.dtype, name, together)
    specs[index] = _leaf_spec(blocks, place, label)
    groups.setdefault(label, []).append(index)
  for label, members in groups.items():
    _check_group(label, [specs[i] for i in members], name)
  _doubts.report(
      [spec for spec in specs if spec is not None], blocks, name, fan_in)
  return Layout(
      tuple(specs), {k: tuple(v) for k, v in groups.items()}, tuple(paths))


def _leaf_spec(blocks: Blocks, place: Place, label: Hashable) -> LeafSpec:
  kept = place.stack
  if blocks.by == 'global':
    kept = ()
  elif blocks.by == 'unit' and (place.fan_in or place.explicit):
    kept = tuple(a for a in range(len(place.shape))
                 if a not in (place.fan_in or ()))
  return LeafSpec(**vars(place), label=label, kept=kept)


def _label(
    blocks: Blocks, path: str, shape: tuple[int, ...], dtype: Any, name: str,
    together: bool,
) -> Hashable:
  if callable(blocks.by):
    label = blocks.by(path, jax.ShapeDtypeStruct(shape, dtype))
    try:
      hash(label)
    except TypeError:
      raise TypeError(
          f'{name}: Blocks(by=...) gave leaf {path!r} the label'
          f' {label!r}, which is not hashable. Return a string or a tuple.'
      ) from None
    return label
  if blocks.by == 'global':
    return 'global'
  if blocks.by == 'layer':
    parent, slash, _ = path.rpartition('/')
    return parent if slash else _tree.ROOT if together else path
  return path


def _check_group(label: Hashable, members: list[Any], name: str) -> None:
  first = members[0]
  for spec in members[1:]:
    if spec.block_shape != first.block_shape:
      raise ValueError(
          f'{name}: leaves of block {label!r} have different layer axes:'
          f' {first.path!r} {first.block_shape}, {spec.path!r}'
          f' {spec.block_shape}. Let `stacked` name all of them'
          f" ({{'{label}/*': axis}}) or give them different labels.")
