"""Blocks resolved on one tree: what every reduction needs, in plain Python."""

import dataclasses
import fnmatch
import functools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from gradnorm_optax import _tree
from gradnorm_optax.blocks import Blocks, as_blocks, default_fan_in


@dataclasses.dataclass(frozen=True)
class LeafSpec:
  """One array of the tree, with its place in the blocks."""

  path: str
  shape: tuple[int, ...]
  dtype: Any
  label: Hashable
  stack: tuple[int, ...]  # layer axes, in the order the user gave them
  fan_in: tuple[int, ...] | None  # () for a vector, None where unknown
  explicit: bool  # fan_in or units named this leaf
  kept: tuple[int, ...]  # axes along which the blocks of this leaf lie
  replicated: bool
  cut: tuple[int, ...] | None  # from Blocks.sharded

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
  def centered(self) -> bool:
    """Whether the leaf has a fan-in mean to subtract."""
    return bool(self.fan_in) and self.rank >= 2 and self.fan_in_size > 1

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
    """One layout for each label, with its leaves' places in `active`."""
    place = {index: n for n, index in enumerate(self.active)}
    return tuple(
        (Layout(tuple(spec if i in members else None
                      for i, spec in enumerate(self.specs)),
                {label: members}, self.all_paths),
         tuple(place[i] for i in members))
        for label, members in self.groups.items())

  def spec(self, index: int) -> LeafSpec:
    """Returns the entry of a leaf that belongs to a block."""
    found = self.specs[index]
    assert found is not None
    return found


_CACHE: dict[Any, Layout] = {}
_CACHE_SIZE = 256


def resolve(
    blocks: Any, tree: Any, name: str, *, fan_in: bool = False
) -> Layout:
  """Resolves blocks on a tree, once per tree structure.

  Args:
    blocks: What the user gave a transformation as `blocks=`.
    tree: Parameters or updates; arrays or `jax.ShapeDtypeStruct`.
    name: The transformation that asks, for messages.
    fan_in: Whether every array of rank >= 2 must have known fan-in axes.

  Returns:
    The layout.

  Raises:
    TypeError: A leaf is not a floating-point array.
    ValueError: A glob matches nothing, an axis is out of range, leaves of one
      label have different layer axes, or a fan-in is unknown.
  """
  blocks = as_blocks(blocks, name)
  leaves, treedef = _tree.flatten(tree)
  avals = tuple(
      None if _tree.is_hole(leaf) else (np.shape(leaf), str(leaf.dtype))
      if hasattr(leaf, 'dtype') else type(leaf) for leaf in leaves)
  key = (blocks, treedef, avals, fan_in)
  try:
    found = _CACHE.get(key)
  except TypeError:  # a registered node with unhashable static data
    return _resolve(blocks, tree, leaves, name, fan_in)
  if found is None:
    found = _resolve(blocks, tree, leaves, name, fan_in)
    if len(_CACHE) >= _CACHE_SIZE:
      _CACHE.pop(next(iter(_CACHE)))
    _CACHE[key] = found
  return found


def _resolve(
    blocks: Blocks, tree: Any, leaves: list[Any], name: str, fan_in: bool
) -> Layout:
  paths = _tree.paths(tree)
  _check_globs(blocks, paths, leaves, name)
  roots = {path.split('/')[0] for path in paths}
  together = all(default_fan_in(blocks.convention, root, (0, 1)) is not None
                 for root in roots)
  specs: list[LeafSpec | None] = []
  groups: dict[Hashable, list[int]] = {}
  for index, (path, leaf) in enumerate(zip(paths, leaves, strict=True)):
    spec = None
    if not _tree.is_hole(leaf) and not _match(blocks.skip, path):
      spec = _leaf_spec(blocks, path, leaf, name, together, fan_in)
    specs.append(spec)
    if spec is not None:
      groups.setdefault(spec.label, []).append(index)
  for label, members in groups.items():
    _check_group(label, [specs[i] for i in members], name)
  return Layout(
      tuple(specs), {k: tuple(v) for k, v in groups.items()}, tuple(paths))


def _leaf_spec(
    blocks: Blocks, path: str, leaf: Any, name: str, together: bool,
    fan_in: bool,
) -> LeafSpec | None:
  shape, dtype = _tree.shape_dtype(leaf, path)
  if math.prod(shape) == 0:
    return None
  if not jnp.issubdtype(dtype, jnp.inexact):
    raise TypeError(
        f'{name}: leaf {path or _tree.ROOT!r} has dtype {dtype}, and only'
        ' floating-point leaves have a gradient to scale. Hide it with'
        ' optax.masked or optax.partition, or pass it through with'
        f' gn.Blocks(skip=({path!r},)).')
  where = f'{name}: leaf {path or _tree.ROOT!r} of shape {shape}'
  stack = _axes(blocks.stacked, path, shape, where, 'stacked') or ()
  own = tuple(a for a in range(len(shape)) if a not in stack)
  given = _explicit_fan_in(blocks, path, shape, own, where)
  axes = given
  if axes is None:
    axes = default_fan_in(blocks.convention, path, own)
  if axes is None and (fan_in or blocks.by == 'unit'):
    raise ValueError(
        f'{where} has no known output axis. Name it:'
        f' gn.Blocks(units={{{path or "*"!r}: -1}}) if its last axis is the'
        ' output, fan_in={glob: axes} for the others, or use the preset of'
        ' your library: gn.Blocks.haiku(), gn.Blocks.equinox().')
  label, kept = _label(blocks, path, shape, dtype, name, together), stack
  if blocks.by == 'global':
    kept = ()
  elif blocks.by == 'unit' and axes:
    kept = tuple(a for a in range(len(shape)) if a not in axes)
  return LeafSpec(
      path, shape, dtype, label, stack, axes, given is not None, kept,
      _match(blocks.replicated, path),
      _axes(blocks.sharded, path, shape, where, 'sharded'))


def _explicit_fan_in(
    blocks: Blocks, path: str, shape: tuple[int, ...], own: tuple[int, ...],
    where: str,
) -> tuple[int, ...] | None:
  fan_in = _axes(blocks.fan_in, path, shape, where, 'fan_in')
  units = _axes(blocks.units, path, shape, where, 'units')
  for option, axes in (('fan_in', fan_in), ('units', units)):
    wrong = set(axes or ()) - set(own)
    if wrong:
      raise ValueError(
          f'{where}: {option} names axis {min(wrong)}, which `stacked` names as'
          ' a layer axis. A layer axis is never fan-in or output.')
  rest = None if units is None else tuple(a for a in own if a not in units)
  if fan_in is not None and rest is not None and set(fan_in) != set(rest):
    raise ValueError(
        f'{where}: fan_in={fan_in} and units={units} disagree. Keep one.')
  return rest if fan_in is None else tuple(sorted(fan_in))


def _axes(
    table: Mapping[str, Any], path: str, shape: tuple[int, ...], where: str,
    option: str,
) -> tuple[int, ...] | None:
  for glob, axes in table.items():
    if not fnmatch.fnmatchcase(path, glob):
      continue
    for axis in axes:
      if not -len(shape) <= axis < len(shape):
        raise ValueError(
            f'{where}: {option}={{{glob!r}: {axis}}} is out of range; the array'
            f' has {len(shape)} axes. Narrow the glob or mend the axis.')
    axes = tuple(axis % len(shape) for axis in axes)
    if len(set(axes)) < len(axes):
      raise ValueError(f'{where}: {option} names axis twice: {axes}.')
    return axes
  return None


def _match(globs: Sequence[str], path: str) -> bool:
  return any(fnmatch.fnmatchcase(path, glob) for glob in globs)


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
          f'{name}: Blocks(by=...) gave leaf {path or _tree.ROOT!r} the label'
          f' {label!r}, which is not hashable. Return a string or a tuple.'
      ) from None
    return label
  if blocks.by == 'global':
    return 'global'
  if blocks.by == 'layer':
    parent, slash, _ = path.rpartition('/')
    return parent if slash else _tree.ROOT if together else path or _tree.ROOT
  return path or _tree.ROOT


def _check_group(label: Hashable, members: list[Any], name: str) -> None:
  first = members[0]
  for spec in members[1:]:
    if spec.block_shape != first.block_shape:
      raise ValueError(
          f'{name}: leaves of block {label!r} have different layer axes:'
          f' {first.path!r} {first.block_shape}, {spec.path!r}'
          f' {spec.block_shape}. Let `stacked` name all of them'
          f" ({{'{label}/*': axis}}) or give them different labels.")


def _check_globs(
    blocks: Blocks, paths: list[str], leaves: list[Any], name: str
) -> None:
  if all(_tree.is_hole(leaf) for leaf in leaves):
    return
  # A masked subtree is one hole; the glob may be meant for what it hides.
  holes = [p for p, leaf in zip(paths, leaves, strict=True)
           if _tree.is_hole(leaf) and leaf is not None]
  for option in ('stacked', 'fan_in', 'units', 'sharded', 'skip', 'replicated'):
    for glob in getattr(blocks, option):
      if any(fnmatch.fnmatchcase(path, glob) for path in paths):
        continue
      if any(_may_hide(hole, glob) for hole in holes):
        continue
      raise ValueError(
          f'{name}: Blocks({option}=...): the glob {glob!r} matches no path of'
          f' this tree.{_tree.nearest(glob, paths)} gn.explain(params) lists'
          ' the paths.')


def _may_hide(hole: str, glob: str) -> bool:
  """Whether a masked subtree could hold a path that the glob matches."""
  literal = glob[:min((glob.find(c) for c in '*?[' if c in glob),
                      default=len(glob))]
  below = hole + '/' if hole else ''
  return below.startswith(literal) or literal.startswith(below)
