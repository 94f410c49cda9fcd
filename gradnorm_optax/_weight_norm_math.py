"""w = g v/||v||: the arithmetic and the choice of leaves, for every caller.

The optimizer-level form, the Linen and the NNX modules share this file. g keeps
the rank of v, with size 1 along the axes of the norm: so g says by its shape
alone which axes were reduced, whatever options made it.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax, numpy as jnp

from gradnorm_optax import _tree
from gradnorm_optax._floats import root
from gradnorm_optax._globs import Globs
from gradnorm_optax._layout import Layout, resolve
from gradnorm_optax.blocks import as_blocks

_ZERO_UNIT = 2.0**-10  # first g of a zero unit under log_scale, relative


def accumulator(dtype: Any) -> Any:
  """Returns the dtype in which norms of such weights are computed."""
  # What NumPy calls float64 is float32 to JAX where x64 is off.
  double = jax.dtypes.canonicalize_dtype(dtype) == jnp.float64
  return jnp.float64 if double else jnp.float32


def norm(v: jax.Array, axes: Sequence[int]) -> jax.Array:
  """Returns the norm of each unit, size 1 along `axes`, at least float32."""
  v = v.astype(accumulator(v.dtype))
  return root(jnp.sum(v * v, tuple(axes), keepdims=True))


def inverse(norms: jax.Array) -> jax.Array:
  """Returns 1 / norms, and 0 for a zero unit."""
  empty = norms == 0
  return jnp.where(empty, norms, 1 / jnp.where(empty, 1, norms))


def scale(g: jax.Array, norms: jax.Array) -> jax.Array:
  """Returns g / ||v||; 1 for a zero unit, which is then a plain weight."""
  return jnp.where(norms == 0, 1, g * inverse(norms))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _compose(v: jax.Array, g: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  return v * scale(g, norm(v, axes))


@_compose.defjvp
def _compose_jvp(axes, primals, tangents):
  # dw = s dv + v (dg - s <v, dv>/||v||)/||v||, s = g/||v||. Its transpose reads
  # grad_w and v once for <grad_w, v> and once for grad_v, and keeps nothing of
  # the size of v; differentiating the forward pass as it stands costs a third
  # reading and a stored array.
  (v, g), (dv, dg) = primals, tangents
  norms = norm(v, axes)
  inv, s = inverse(norms), scale(g, norms)
  along = jnp.sum(v * dv, axes, keepdims=True) * inv
  return v * s, s * dv + v * ((dg - s * along) * inv)


def compose(
    v: jax.Array, g: jax.Array, axes: Sequence[int], dtype: Any = None
) -> jax.Array:
  """Returns w = g v/||v||, computed in at least float32.

  A unit of norm 0 gives zeros; its gradient is that of a plain weight, so it
  can leave zero.

  Args:
    v: Directions, any shape.
    g: Lengths, size 1 along `axes`.
    axes: Axes of the norm.
    dtype: Of the result; v's by default.
  """
  full = accumulator(v.dtype)
  w = _compose(v.astype(full), g.astype(full), tuple(axes))
  return w.astype(v.dtype if dtype is None else dtype)


def reduced_axes(v: Any, g: Any) -> tuple[int, ...] | None:
  """Returns the axes of the norm that made `g`, None if it does not fit `v`."""
  if len(v.shape) != len(g.shape):
    return None
  if any(b not in (1, a) for a, b in zip(v.shape, g.shape, strict=True)):
    return None
  return tuple(axis for axis, size in enumerate(g.shape) if size == 1)


def check_where(where: Any, name: str) -> tuple[str, ...]:
  """Returns `where` as a tuple of globs."""
  globs = (where,) if isinstance(where, str) else where
  if not isinstance(globs, Sequence) or not globs or not all(
      isinstance(glob, str) for glob in globs):
    raise TypeError(
        f"{name}(where=...) takes a glob such as '*kernel' or several of them,"
        f' not {where!r}.')
  return tuple(globs)


def check_blocks(blocks: Any, name: str) -> Any:
  """Returns `blocks` as `Blocks`, by "unit" or "leaf"."""
  found = as_blocks(blocks, name)
  if found.by not in ('unit', 'leaf'):
    raise ValueError(
        f'{name}(blocks=...): a weight is normalized by "unit" (one norm for'
        f' each output) or "leaf" (one for the array), not by {found.by!r}.'
        ' Write gn.Blocks(by="unit", ...).')
  return found


def matches(where: Sequence[str], tree: Any, name: str) -> list[str]:
  """Returns the paths that a glob matches, in the order of the tree.

  Args:
    where: Globs on paths.
    tree: Parameters.
    name: Who asks, for messages.

  Raises:
    ValueError: A glob matches no path of a tree that has leaves and no holes
      (what a hole hides may match).
  """
  paths = _tree.paths(tree)
  globs = Globs(where, paths)
  whole = paths and not any(map(_tree.is_hole, _tree.flatten(tree)[0]))
  for glob in globs.idle() if whole else ():
    raise ValueError(
        f'{name}: where={glob!r} matches no path of this tree.'
        f'{_tree.nearest(glob.strip("*/"), paths)} gn.explain(params) lists'
        ' the paths.')
  return [path for path in paths if globs.first(path) is not None]


def select(
    where: Sequence[str], blocks: Any, tree: Any, name: str, *,
    others: bool = True,
) -> Layout:
  """Resolves blocks on the leaves whose path matches.

  Args:
    where: Globs on paths.
    blocks: From `check_blocks`.
    tree: Parameters.
    name: Who asks, for messages.
    others: Whether leaves that no glob matches are trained too.

  Returns:
    A layout; `specs` holds None for leaves that are not normalized.

  Raises:
    ValueError: A glob matches no path of a tree that has leaves.
    TypeError: A leaf that is trained is not of real floating point.
  """
  leaves, paths = _tree.flatten(tree)[0], _tree.paths(tree)
  chosen = frozenset(matches(where, tree, name))
  mend = ('Hide it with optax.masked or optax.partition.' if others
          else 'Leave it out of `where`.')
  for path, leaf in zip(paths, leaves, strict=True):
    if not _tree.is_hole(leaf) and (others or path in chosen):
      _check_leaf(path, leaf, name, mend)
  if not others and blocks.convention == 'flax':  # a module wraps one layer
    blocks = dataclasses.replace(blocks, convention='flax layer')
  return resolve(blocks, tree, name, only=chosen)


def _check_leaf(path: str, leaf: Any, name: str, mend: str) -> None:
  shape, dtype = _tree.shape_dtype(leaf, path)
  if 0 not in shape and not jnp.issubdtype(dtype, jnp.floating):
    raise TypeError(
        f'{name}: leaf {path!r} has dtype {dtype}, and only real'
        f' floating-point leaves are trained here. {mend}')


def exp(log_g: jax.Array) -> jax.Array:
  """Returns exp(log g) in at least float32."""
  return lax.exp(log_g.astype(accumulator(log_g.dtype)))


def g_name(name: str, log_scale: bool) -> str:
  """Returns the name under which the modules keep g, beside v."""
  return f'{name}_log_g' if log_scale else f'{name}_g'


def find_g(name: str, names: Any) -> tuple[str, bool] | None:
  """Returns the name of g beside a parameter, and whether it is log g."""
  for log_scale in (False, True):
    if g_name(name, log_scale) in names:
      return g_name(name, log_scale), log_scale
  return None


def first_g(
    v: Any, axes: Sequence[int], log_scale: bool, dtype: Any = None
) -> jax.Array:
  """Returns ||v||, or its logarithm, from which g starts.

  A zero unit gives zeros whatever its g is, so that g is free. Its log g must
  not be that of zero, which no step could leave: it starts at 2^-10 of the
  largest norm in the array (2^-10 if all are zero). As soon as v has a
  direction, the unit is small and learns.
  """
  length = norm(jnp.asarray(v), axes)
  if log_scale:
    largest = jnp.max(length, initial=0)
    least = _ZERO_UNIT * jnp.where(largest == 0, 1, largest)
    length = jnp.log(jnp.where(length == 0, least, length))
  return length if dtype is None else length.astype(dtype)


def weight(
    v: Any, g: Any, axes: Sequence[int], log_scale: bool, dtype: Any = None
) -> jax.Array:
  """Returns w from v and g or log g."""
  return compose(v, exp(g) if log_scale else g, axes, dtype)
