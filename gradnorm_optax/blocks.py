"""Which entries of a parameter tree are normalized together."""

import dataclasses
import difflib
import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax

from gradnorm_optax import _muon, _tree
from gradnorm_optax._conventions import CONVENTIONS

KINDS = ('leaf', 'layer', 'unit', 'global')

Axes = int | Sequence[int]
_AXES_FIELDS = ('stacked', 'fan_in', 'units')
_GLOB_FIELDS = ('skip', 'replicated')
By = str | Callable[[str, Any], Hashable]


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Says which entries of a parameter tree are normalized together.

  Paths are written `a/b/kernel`. Globs are matched by `fnmatch.fnmatchcase` on
  the whole path, `*` crosses `/`, the first match wins (an exact path before
  all globs), and one that matches nothing is an error. Axes are those of the
  stored array; negative ones count from its end.

  Default fan-in axes (`Blocks.flax()`): leaves named `bias` and `scale` are
  vectors; `embedding` (V, d): the last axis; a `kernel` of rank 3 under
  `query`, `key`, `value` (in, heads, head_dim): the first; under `out` (heads,
  head_dim, out): all but the last. Of another `kernel` the bias beside it tells
  how many of its last axes are outputs; without a bias it is (in, out), or a
  convolution by its name or its taps. What neither says is refused by all that
  needs a fan-in, until `fan_in` or `units` names it, as is a vector of rank 2
  that no kernel beside it explains: it looks stacked (block norms warn).

  Attributes:
    by: "leaf" (each array), "layer" (all arrays under one parent path, so
      kernel and bias together), "unit" (each output unit of arrays of rank
      >= 2; an array of lower rank is one block), "global", or a function
      `(path, leaf) -> hashable label`, called with a `jax.ShapeDtypeStruct`.
    stacked: {glob: axis or axes} of leaves that carry a layer axis made by
      `nn.scan`, `nnx.vmap` or `nnx.scan`. Every index along it is a block of
      its own, and it is never part of fan-in or rank. () for none.
    fan_in: {glob: axes} over which the entries of one output unit lie.
    skip: Globs of leaves that pass through untouched.
    replicated: Globs of leaves counted once inside a manual mesh axis.
    units: {glob: axis or axes} of the outputs; all others are fan-in. With all
      axes named every entry is a unit. Where `fan_in` names a leaf too, axes
      that neither names are layer axes.
    sharded: How leaves are cut inside `shard_map`, where a reduction does not
      cover the whole array: {glob: PartitionSpec}, or the tree of specs that
      `shard_map` takes as `in_specs`; {glob: axis} says that the leaf is cut
      along that axis alone, over all of `axis_name`.
    convention: Whose names and layouts these are; set by the presets.
    scan_axis: Where the preset's layer axes lie; set by the presets.

  Raises:
    ValueError: `by` or `convention` is unknown, or a field is no glob mapping.

  Examples:
    >>> import gradnorm_optax as gn, jax
    >>> layer = {'kernel': jax.ShapeDtypeStruct((6, 8, 4), 'float32'),
    ...          'bias': jax.ShapeDtypeStruct((6, 4), 'float32')}
    >>> print(gn.explain({'mlp': layer}, gn.Blocks(stacked={'mlp/*': 0})))
    path        shape      dtype    block  block size  fan-in axes  stacked axis
    mlp/bias    (6, 4)     float32  mlp    6 x 36      -            0
    mlp/kernel  (6, 8, 4)  float32  mlp    6 x 36      1            0
  """

  by: By = 'layer'
  stacked: Mapping[str, Axes] = dataclasses.field(default_factory=dict)
  fan_in: Mapping[str, Axes] = dataclasses.field(default_factory=dict)
  skip: Sequence[str] = ()
  replicated: Sequence[str] = ()
  units: Mapping[str, Axes] = dataclasses.field(default_factory=dict)
  sharded: Any = dataclasses.field(default_factory=dict)
  convention: str = 'flax'
  scan_axis: int | None = None

  def __post_init__(self) -> None:
    if isinstance(self.by, str):
      if self.by not in KINDS:
        close = difflib.get_close_matches(self.by, KINDS, n=1, cutoff=0.0)
        raise ValueError(
            f'Blocks(by={self.by!r}): unknown kind of block, did you mean'
            f' {close[0]!r}? Use one of {", ".join(map(repr, KINDS))} or a'
            ' function (path, leaf) -> label.')
    elif not callable(self.by):
      raise ValueError(
          f'Blocks(by={self.by!r}): use one of {", ".join(map(repr, KINDS))}'
          ' or a function (path, leaf) -> label. Under'
          ' optax.inject_hyperparams name the argument in static_args.')
    if self.convention not in CONVENTIONS:
      raise ValueError(
          f'Blocks(convention={self.convention!r}): use one of'
          f' {", ".join(map(repr, CONVENTIONS))}.')
    for name in _AXES_FIELDS:
      object.__setattr__(self, name, _freeze_axes(name, getattr(self, name)))
    for name in _GLOB_FIELDS:
      object.__setattr__(self, name, _freeze_globs(name, getattr(self, name)))
    object.__setattr__(self, 'sharded', _freeze_sharded(self.sharded))

  @classmethod
  def flax(cls, by: By = 'layer', **options: Any) -> 'Blocks':
    """Returns blocks for Flax's parameter names and layouts (the default)."""
    return cls(by, convention='flax', **options)

  @classmethod
  def haiku(cls, by: By = 'layer', **options: Any) -> 'Blocks':
    """Returns blocks for Haiku's: `w` (in, out) and HWIO, `b`, `embeddings`.

    `hk.Conv*Transpose` stores (..., out, in): name it in `units`.
    """
    return cls(by, convention='haiku', **options)

  @classmethod
  def equinox(cls, by: By = 'layer', **options: Any) -> 'Blocks':
    """Returns blocks for Equinox's and torch's: `weight` (out, in, ...)."""
    return cls(by, convention='equinox', **options)

  @classmethod
  def maxtext(cls, by: By = 'layer', *, scan_axis: int | None = 1,
              **options: Any) -> 'Blocks':
    """Returns blocks for MaxText's decoders, scanned or not.

    Args:
      by: As in `Blocks`.
      scan_axis: Its `param_scan_axis`.
      **options: As in `Blocks`; what they name counts first.
    """
    return cls(by, convention='maxtext', scan_axis=scan_axis, **options)

  @classmethod
  def t5x(cls, by: By = 'layer', *, scan_axis: int | None = 1,
          **options: Any) -> 'Blocks':
    """Returns blocks for T5X's models, scanned (at `scan_axis`) or not."""
    return cls(by, convention='t5x', scan_axis=scan_axis, **options)

  @classmethod
  def big_vision(cls, by: By = 'layer', **options: Any) -> 'Blocks':
    """Returns blocks for Big Vision's ViT, scanned or not."""
    return cls(by, convention='big_vision', scan_axis=0, **options)

  @classmethod
  def gemma(cls, by: By = 'layer', **options: Any) -> 'Blocks':
    """Returns blocks for the Gemma library's einsums."""
    return cls(by, convention='gemma', **options)

  @classmethod
  def keras(cls, by: By = 'layer', **options: Any) -> 'Blocks':
    """Returns blocks for Keras' layers on JAX, in trees with their names."""
    return cls(by, convention='keras', **options)

  @classmethod
  def levanter(cls, by: By = 'layer', **options: Any) -> 'Blocks':
    """Returns blocks for Levanter's models: `weight/array`, `stacked`."""
    return cls(by, convention='levanter', scan_axis=0, **options)

  @classmethod
  def from_muon(cls, dimension_numbers: Any, by: By = 'leaf',
                **options: Any) -> 'Blocks':
    """Returns blocks with the axes of a table for `optax.contrib.muon`.

    Args:
      dimension_numbers: A tree like the parameters of
        `optax.contrib.MuonDimensionNumbers`, None for leaves that muon leaves
        to Adam; or one for all leaves. Axes that it does not name are layer
        axes, as muon takes them for batch axes.
      by: As in `Blocks`.
      **options: As in `Blocks`, without `fan_in` and `units`.

    Raises:
      TypeError: The tree holds something else.
    """
    fan_in, units = _muon.axes(dimension_numbers)
    return cls(by, fan_in=fan_in, units=units, **options)


class FrozenMapping(dict[str, Any]):
  """A mapping that hashes by its items in order: the first glob wins."""

  def __hash__(self) -> int:  # type: ignore[override]
    return hash(tuple(self.items()))

  def __eq__(self, other: Any) -> bool:
    return list(self.items()) == list(dict(other).items())


def _freeze_axes(name: str, given: Any) -> FrozenMapping:
  try:
    return FrozenMapping({
        _glob(name, glob): tuple(map(
            operator.index, axes if isinstance(axes, Sequence) else (axes,)))
        for glob, axes in dict(given).items()})
  except (TypeError, ValueError) as error:
    raise ValueError(
        f'Blocks({name}={given!r}): expected {{glob: axis or axes}}, such as'
        f" {{'layers/*': 0}}.") from error


def _freeze_sharded(given: Any) -> FrozenMapping:
  if isinstance(given, FrozenMapping):
    return given
  spec = lambda x: isinstance(x, jax.sharding.PartitionSpec)  # noqa: E731
  axes = lambda x: isinstance(x, int) or (  # noqa: E731
      isinstance(x, Sequence) and all(isinstance(n, int) for n in x))
  if spec(given):
    return FrozenMapping({'*': given})
  found = {}
  leaf = lambda x: x is None or spec(x) or axes(x)  # noqa: E731
  leaves = jax.tree.leaves(given, is_leaf=leaf)
  for path, entry in zip(_tree.paths(given, leaf), leaves, strict=True):
    if entry is None:
      entry = jax.sharding.PartitionSpec()
    if not spec(entry):
      try:
        entry = _freeze_axes('sharded', {path: entry})[path]
      except ValueError:
        raise ValueError(
            f'Blocks(sharded=...): {entry!r} at {path!r}: expected a'
            ' PartitionSpec, or the axis along which the leaf is cut.'
        ) from None
    found[path] = entry
  return FrozenMapping(found)


def _freeze_globs(name: str, given: Any) -> tuple[str, ...]:
  try:
    globs = (given,) if isinstance(given, str) else tuple(given)
  except TypeError:
    raise ValueError(
        f"Blocks({name}={given!r}): expected globs, such as ('*bias',)."
    ) from None
  return tuple(_glob(name, glob) for glob in globs)


def _glob(name: str, glob: Any) -> str:
  if not isinstance(glob, str):
    raise ValueError(f'Blocks({name}=...): {glob!r} is not a glob string.')
  return glob


def as_blocks(blocks: Any, name: str) -> Blocks:
  """Returns `Blocks` for what a transformation's `blocks=` was given."""
  if isinstance(blocks, Blocks):
    return blocks
  if isinstance(blocks, str) or callable(blocks):
    return Blocks(by=blocks)
  raise TypeError(
      f'{name}(blocks=...) takes a gn.Blocks, one of {KINDS} or a function, not'
      f' {type(blocks).__name__}. Under optax.inject_hyperparams name `blocks`'
      ' in static_args.')
