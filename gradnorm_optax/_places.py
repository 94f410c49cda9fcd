"""Where the fan-in, the layers and the shards of each array lie.

What `Blocks` says of an array counts first; what it leaves open follows from
names, shapes and neighbours (`_fan_in`, `_conventions`).
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from jax.sharding import PartitionSpec

from gradnorm_optax import _fan_in, _tree
from gradnorm_optax._conventions import CONVENTIONS
from gradnorm_optax._globs import Globs
from gradnorm_optax.blocks import Blocks

# In `Place.cut`: cut over every mesh axis over which the array is cut at all.
ANY = '(any)'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
  """One array and its axes."""

  path: str
  shape: tuple[int, ...]
  dtype: Any
  stack: tuple[int, ...]  # layer axes, in the order the user gave them
  fan_in: tuple[int, ...] | None  # () for a vector, None where unknown
  explicit: bool  # fan_in or units named this leaf
  replicated: bool
  cut: tuple[tuple[Any, ...], ...] | None  # mesh axes by array axis; sharded=
  doubt: str  # why the fan-in is unknown, or a vector may be several
  layers: bool  # whether it looks like several layers
  guessed: bool = False  # whether only the shape of a window speaks for it


def places(
    blocks: Blocks, tree: Any, name: str
) -> dict[int, Place]:
  """Returns {index: place} of the arrays that do not pass through.

  Args:
    blocks: The user's.
    tree: Parameters or updates.
    name: The transformation that asks, for messages.

  Raises:
    ValueError: A glob matches nothing, or an axis does not fit.
  """
  leaves, paths = _tree.flatten(tree)[0], _tree.paths(tree)
  tables = _Tables(blocks, paths, leaves, name)
  arrays: dict[int, _Array] = {}
  sizes: dict[str, tuple[int, ...]] = {}
  for index, (path, leaf) in enumerate(zip(paths, leaves, strict=True)):
    if _tree.is_hole(leaf):
      continue
    skipped = tables.globs['skip'].first(path) is not None
    try:
      array = _Array(path, *_tree.shape_dtype(leaf, path), tables, name)
    except (TypeError, ValueError):
      if skipped:  # it need not be an array, nor fit what others are told
        continue
      raise
    if math.prod(array.shape):
      sizes[path] = array.sizes
      if not skipped:
        arrays[index] = array
  odd = _odd_layers(list(arrays.values()))
  found = {index: array.place(sizes, odd.get(array.scanned_at, ''))
           for index, array in arrays.items()}
  stacks = _stacks(found, arrays)
  for index, place in found.items():
    if place.guessed and any(
        place.path.startswith(scope) and length == place.shape[0]
        for scope, length in stacks):
      found[index] = dataclasses.replace(
          place, fan_in=None, layers=True,
          doubt='arrays near it are stacked to the length of its first axis')
  return found


def _stacks(
    found: dict[int, Place], arrays: dict[int, '_Array']
) -> set[tuple[str, int]]:
  """Returns (scope, length) of layer axes that were told, or may be there."""
  stacks = set()
  for index, place in found.items():
    scope = '/'.join(place.path.split('/')[:-2])
    axes = place.stack if arrays[index].told else (
        range(len(place.shape)) if place.layers and place.fan_in == () else ())
    stacks |= {(scope, place.shape[a]) for a in axes}
  return stacks


def _odd_layers(arrays: list['_Array']) -> dict[str, str]:
  """Returns what speaks against the preset's layer axes, by place of the scan.

  All arrays that one scan has stacked are as long along its axis.
  """
  found: dict[str, list[_Array]] = {}
  for array in arrays:
    if array.scanned_at:
      found.setdefault(array.scanned_at, []).append(array)
  return {
      place: f'arrays below {place!r} differ in length along axis'
             f' {members[0].stack[0]}: is scan_axis right?'
      for place, members in found.items()
      if len({tuple(m.shape[a] for a in m.stack) for m in members}) > 1}


class _Tables:
  """What the user said, ready to be looked up by path."""

  def __init__(
      self, blocks: Blocks, paths: list[str], leaves: list[Any], name: str
  ):
    self.convention = CONVENTIONS[blocks.convention]
    self.scan_axis = blocks.scan_axis
    self.tables: dict[str, Mapping[str, Any]] = {
        option: getattr(blocks, option)
        for option in ('stacked', 'fan_in', 'units')}
    # An entry of an `in_specs`-like tree may stand for all below it.
    known = set(paths)
    self.tables['sharded'] = {
        f'{key}/*' if key not in known and any(
            path.startswith(f'{key}/') for path in paths) else key: value
        for key, value in blocks.sharded.items()}
    patterns = {**self.tables, 'skip': blocks.skip,
                'replicated': blocks.replicated}
    self.globs = {option: Globs(given, paths)
                  for option, given in patterns.items()}
    self.scanned = Globs([glob for glob, _ in self.convention.stacked], paths)
    if not all(map(_tree.is_hole, leaves)):
      self._refuse_idle(paths, leaves, name)

  def _refuse_idle(
      self, paths: list[str], leaves: list[Any], name: str
  ) -> None:
    # A masked subtree is one hole; the glob may be meant for what it hides.
    holes = [path for path, leaf in zip(paths, leaves, strict=True)
             if _tree.is_hole(leaf) and leaf is not None]
    for option, globs in self.globs.items():
      for glob in globs.idle():
        if any(_may_hide(hole, glob) for hole in holes):
          continue
        raise ValueError(
            f'{name}: Blocks({option}=...): the glob {glob!r} matches no path'
            f' of this tree.{_tree.nearest(glob, paths)} gn.explain(params)'
            ' lists the paths.')

  def given(self, option: str, path: str) -> tuple[str, Any] | None:
    """Returns the pattern that counts for a path, and what it says."""
    glob = self.globs[option].first(path)
    return None if glob is None else (glob, self.tables[option][glob])


class _Array:
  """One array, while its axes are being found."""

  def __init__(
      self, path: str, shape: tuple[int, ...], dtype: Any, tables: _Tables,
      name: str,
  ):
    self.path, self.shape, self.dtype = path, shape, dtype
    self.tables = tables
    self.where = f'{name}: leaf {path!r} of shape {shape}'
    self.fan_in, self.units = self._axes('fan_in'), self._axes('units')
    self.scanned_at = ''
    stack = self._axes('stacked')
    self.told = stack is not None  # also where it is told to have no layer axis
    self.stack = self._scanned() if stack is None else stack
    if self.fan_in is not None and self.units is not None:
      self._read_both()

  @property
  def own(self) -> tuple[int, ...]:
    return tuple(a for a in range(len(self.shape)) if a not in self.stack)

  @property
  def sizes(self) -> tuple[int, ...]:
    return tuple(self.shape[a] for a in self.own)

  def place(self, tree: Mapping[str, tuple[int, ...]], odd: str) -> Place:
    """Returns what was given and, where it leaves it open, what is usual."""
    given = self._given_fan_in()
    if odd:
      return self._place(None, self.stack, odd, layers=True)
    usual = _fan_in.infer(
        self.tables.convention, self.path, self.sizes, tree)
    own = self.own
    fan_in, stack, doubt = given, self.stack, ''
    if given is None:
      stack = (*stack, *(own[n] for n in usual.stack))
      if usual.stack:
        stack = tuple(sorted(stack))
      if usual.fan_in is not None:
        fan_in = tuple(own[n] for n in usual.fan_in)
      if not (self.told and fan_in == ()):
        doubt = usual.doubt
    return self._place(
        fan_in, stack, doubt, usual.layers and not self.told,
        given is not None, given is None and usual.guessed)

  def _place(
      self, fan_in, stack, doubt, layers, explicit=False, guessed=False
  ) -> Place:
    return Place(
        path=self.path, shape=self.shape, dtype=self.dtype, stack=stack,
        fan_in=fan_in, explicit=explicit, doubt=doubt, layers=layers,
        guessed=guessed,
        cut=self._cut(), replicated=self.tables.globs['replicated'].first(
            self.path) is not None)

  def _scanned(self) -> tuple[int, ...]:
    glob = self.tables.scanned.first(self.path)
    first = self.tables.scan_axis
    if glob is None or first is None:
      return ()
    count = dict(self.tables.convention.stacked)[glob]
    # Up to what the glob names: `a/layers/` of `a/layers/mlp/kernel`.
    literal = max(re.split(r'\[.*?\]|\*', glob), key=len)
    self.scanned_at = self.path[:self.path.index(literal) + len(literal)]
    if len(self.shape) < count:
      return ()
    # `nn.scan` puts the layer axis of a short array last.
    first = min(first, len(self.shape) - count)
    return tuple(range(first, first + count))

  def _read_both(self) -> None:
    """Takes axes that neither fan_in nor units names for layer axes."""
    assert self.fan_in is not None and self.units is not None
    if set(self.fan_in) & set(self.units):
      raise ValueError(
          f'{self.where}: fan_in={self.fan_in} and units={self.units} disagree:'
          ' an axis cannot be both.')
    if not self.told:
      self.stack = tuple(a for a in range(len(self.shape))
                         if a not in self.fan_in + self.units)

  def _given_fan_in(self) -> tuple[int, ...] | None:
    for option, axes in (('fan_in', self.fan_in), ('units', self.units)):
      wrong = set(axes or ()) - set(self.own)
      if wrong:
        raise ValueError(
            f'{self.where}: {option} names axis {min(wrong)}, which `stacked`'
            ' names as a layer axis. A layer axis is never fan-in or output.')
    rest = None if self.units is None else tuple(
        a for a in self.own if a not in self.units)
    if self.fan_in is not None and rest is not None and (
        set(self.fan_in) != set(rest)):
      raise ValueError(
          f'{self.where}: fan_in={self.fan_in}, units={self.units} and the'
          f' layer axes {self.stack} leave out an axis. Keep one of the two.')
    return rest if self.fan_in is None else tuple(sorted(self.fan_in))

  def _axes(self, option: str) -> tuple[int, ...] | None:
    found = self.tables.given(option, self.path)
    return None if found is None else self._in_range(option, *found)

  def _in_range(
      self, option: str, glob: str, axes: tuple[int, ...]
  ) -> tuple[int, ...]:
    rank = len(self.shape)
    for axis in axes:
      if not -rank <= axis < rank:
        raise ValueError(
            f'{self.where}: {option}={{{glob!r}: {axis}}} is out of range; the'
            f' array has {rank} axes. Narrow the glob or mend the axis.')
    axes = tuple(axis % rank for axis in axes)
    if len(set(axes)) < len(axes):
      raise ValueError(f'{self.where}: {option} names axis twice: {axes}.')
    return axes

  def _cut(self) -> tuple[tuple[Any, ...], ...] | None:
    found = self.tables.given('sharded', self.path)
    if found is None:
      return None
    glob, given = found
    if not isinstance(given, PartitionSpec):
      axes = self._in_range('sharded', glob, given)
      return tuple((ANY,) if a in axes else () for a in range(len(self.shape)))
    if len(given) > len(self.shape):
      raise ValueError(
          f'{self.where}: sharded={{{glob!r}: {given}}} names'
          f' {len(given)} axes. Narrow the glob or mend the PartitionSpec.')
    entries = tuple(given) + (None,) * (len(self.shape) - len(given))
    return tuple(() if entry is None else tuple(entry) if isinstance(
        entry, (tuple, list)) else (entry,) for entry in entries)


def _may_hide(hole: str, glob: str) -> bool:
  """Whether a masked subtree could hold a path that the glob matches."""
  literal = glob[:min((glob.find(c) for c in '*?[' if c in glob),
                      default=len(glob))]
  below = '' if hole == _tree.ROOT else hole + '/'
  return below.startswith(literal) or literal.startswith(below)
