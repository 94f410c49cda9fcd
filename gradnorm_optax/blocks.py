"""Which entries of a parameter tree are normalized together."""

import dataclasses
import difflib
import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

KINDS = ('leaf', 'layer', 'unit', 'global')

Axes = int | Sequence[int]
_AXES_FIELDS = ('stacked', 'fan_in', 'units', 'sharded')
_GLOB_FIELDS = ('skip', 'replicated')


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Says which entries of a parameter tree are normalized together.

  Paths are written `a/b/kernel`. Globs are matched by `fnmatch.fnmatchcase` on
  the whole path, `*` crosses `/`, the first match wins, and one that matches
  nothing is an error. Axes are those of the stored array; negative ones count
  from its end.

  Default fan-in axes (`Blocks.flax()`): leaves named `bias` and `scale` are
  vectors whatever their shape; `embedding` (V, d): the last axis; `kernel` of
  rank 3 under `query`, `key`, `value` (in, heads, head_dim): the first; any
  other `kernel` (Dense (in, out), Conv HWIO, depthwise, attention out
  (heads, head_dim, out)): all but the last. Arrays of rank >= 2 under other
  names have no default: what needs a fan-in then raises until `fan_in` or
  `units` names them. `ConvTranspose(transpose_kernel=True)` stores
  (..., out, in) under the name `kernel` and needs `units={glob: -2}`.

  Attributes:
    by: "leaf" (each array), "layer" (all arrays under one parent path, so
      kernel and bias together), "unit" (each output unit of arrays of rank
      >= 2; an array of lower rank is one block), "global", or a function
      `(path, leaf) -> hashable label`, called with a `jax.ShapeDtypeStruct`.
    stacked: {glob: axis or axes} of leaves that carry a layer axis made by
      `nn.scan`, `nnx.vmap` or `nnx.scan`. Every index along it is a block of
      its own, and it is never part of fan-in or rank.
    fan_in: {glob: axes} over which the entries of one output unit lie.
    skip: Globs of leaves that pass through untouched.
    replicated: Globs of leaves counted once inside a manual mesh axis.
    units: {glob: axis or axes} of the outputs; all others are fan-in.
    sharded: {glob: axis or axes} along which the leaf is cut inside
      `shard_map`, where a reduction does not cover the whole array.
    convention: The names that have default fan-in axes; set by the presets
      `Blocks.flax`, `Blocks.haiku`, `Blocks.equinox`.

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

  by: str | Callable[[str, Any], Hashable] = 'layer'
  stacked: Mapping[str, Axes] = dataclasses.field(default_factory=dict)
  fan_in: Mapping[str, Axes] = dataclasses.field(default_factory=dict)
  skip: Sequence[str] = ()
  replicated: Sequence[str] = ()
  units: Mapping[str, Axes] = dataclasses.field(default_factory=dict)
  sharded: Mapping[str, Axes] = dataclasses.field(default_factory=dict)
  convention: str = 'flax'

  def __post_init__(self):
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

  @classmethod
  def flax(cls, by='layer', **options) -> 'Blocks':
    """Returns blocks for Flax's parameter names and layouts (the default)."""
    return cls(by, convention='flax', **options)

  @classmethod
  def haiku(cls, by='layer', **options) -> 'Blocks':
    """Returns blocks for Haiku's: `w` (in, out) and HWIO, `b`, `embeddings`.

    `hk.Conv*Transpose` stores (..., out, in): name it in `units`.
    """
    return cls(by, convention='haiku', **options)

  @classmethod
  def equinox(cls, by='layer', **options) -> 'Blocks':
    """Returns blocks for Equinox's and torch's: `weight` (out, in, ...)."""
    return cls(by, convention='equinox', **options)


class FrozenMapping(dict):
  """A mapping that hashes by its items in order: the first glob wins."""

  def __hash__(self):  # type: ignore[override]
    return hash(tuple(self.items()))

  def __eq__(self, other):
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


# Names a library gives its parameters -> where their fan-in lies. 'vector': the
# array counts as rank 1; 'last': the last axis; 'all but last', 'all but
# first': the others are outputs; 'kernel': 'all but last' but for attention's.
CONVENTIONS: dict[str, dict[str, str]] = {
    'flax': {
        'kernel': 'kernel', 'embedding': 'last', 'bias': 'vector',
        'scale': 'vector',
        # lengths that `gradnorm_optax.linen` and `nnx` keep beside a weight
        'kernel_g': 'vector', 'kernel_log_g': 'vector',
        'embedding_g': 'vector', 'embedding_log_g': 'vector'},
    'haiku': {
        'w': 'all but last', 'w_i': 'all but last', 'w_h': 'all but last',
        'embeddings': 'last', 'b': 'vector', 'scale': 'vector',
        'offset': 'vector'},
    'equinox': {
        'weight': 'all but first', 'weight_ih': 'all but first',
        'weight_hh': 'all but first', 'bias': 'vector', 'bias_n': 'vector'},
}
_PROJECTIONS = ('query', 'key', 'value')


def default_fan_in(
    convention: str, path: str, axes: tuple[int, ...]
) -> tuple[int, ...] | None:
  """Returns the fan-in axes that a leaf's name implies.

  Args:
    convention: A key of `CONVENTIONS`.
    path: The leaf's path.
    axes: The leaf's axes, layer axes left out.

  Returns:
    Some of `axes`; () for a vector; None for an unknown name of rank >= 2.
  """
  *_, parent, name = ('', '', *path.split('/'))
  rule = CONVENTIONS[convention].get(name)
  if rule == 'vector' or len(axes) < 2:
    return ()
  if rule == 'kernel':
    headed = parent in _PROJECTIONS and len(axes) == 3
    return axes[:1] if headed else axes[:-1]
  if rule == 'last':
    return axes[-1:]
  if rule == 'all but last':
    return axes[:-1]
  if rule == 'all but first':
    return axes[1:]
  return None
