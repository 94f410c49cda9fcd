"""What every block transformation does around its own mathematics."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from gradnorm_optax import _tree
from gradnorm_optax._layout import Layout, resolve
from gradnorm_optax.blocks import as_blocks

Apply = Callable[[Layout, list[Any], Any], list[Any]]


def stateless(
    name: str, blocks: Any, apply: Apply, *, needs_params: bool = False,
    fan_in: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Returns the transformation that maps the leaves of blocks by `apply`.

  Args:
    name: The transformation's, for messages.
    blocks: What the user gave as `blocks=`; checked at once.
    apply: Maps (layout, active leaves of the updates, those of the params or
      None) to new leaves.
    needs_params: Whether `apply` reads the parameters.
    fan_in: Whether every array of rank >= 2 must have known fan-in axes.
  """
  blocks = as_blocks(blocks, name)

  def init(params):
    resolve(blocks, params, name, fan_in=fan_in)
    return optax.EmptyState()

  def update(updates, state, params=None, **extra_args):
    del extra_args
    if needs_params:
      _tree.require_params(params, name)
    if params is not None:
      _tree.require_same(name, updates, params, 'parameters')
    layout = resolve(blocks, updates, name, fan_in=fan_in)
    others = leaves_at(layout, params) if needs_params else None
    result = map_active(layout, updates, lambda x: apply(layout, x, others))
    return result, state

  return optax.GradientTransformationExtraArgs(init, update)


def map_active(
    layout: Layout, tree: Any, function: Callable[[list[Any]], list[Any]]
) -> Any:
  """Replaces the leaves that belong to a block; the others pass through."""
  leaves, treedef = _tree.flatten(tree)
  if layout.active:
    new = function([jax.numpy.asarray(leaves[i]) for i in layout.active])
    for index, leaf in zip(layout.active, new, strict=True):
      leaves[index] = leaf
  return jax.tree.unflatten(treedef, leaves)


def leaves_at(layout: Layout, tree: Any) -> list[jax.Array]:
  """Returns a tree's leaves at the paths of the layout's active leaves."""
  found = _tree.by_path(tree)
  return [jax.numpy.asarray(found[layout.spec(i).path]) for i in layout.active]


def as_wide_as(updates: Any, params: Any) -> Any:
  """Returns updates in the parameters' dtype where that is wider."""
  found = _tree.by_path(params)
  leaves, treedef = _tree.flatten(updates)

  def widened(path: str, leaf: Any) -> Any:
    if _tree.is_hole(leaf) or _tree.is_hole(found[path]):
      return leaf
    leaf, like = jax.numpy.asarray(leaf), jax.numpy.asarray(found[path])
    return leaf.astype(jax.numpy.promote_types(leaf.dtype, like.dtype))

  with jax.numpy_dtype_promotion('standard'):
    return treedef.unflatten(map(widened, _tree.paths(updates), leaves))


def check_transformation(name: str, inner: Any) -> None:
  """Raises `TypeError` for what is not an optax transformation."""
  if not (hasattr(inner, 'init') and hasattr(inner, 'update')):
    what = getattr(inner, '__name__', repr(inner))
    raise TypeError(
        f'{name}(inner=...) takes an optax optimizer, not {what}: write'
        f' gn.{name}(optax.adam(1e-3)).')


def check_nonnegative(name: str, **values: Any) -> None:
  """Raises for what is no number, and `ValueError` below 0 (or for NaN)."""
  _check(name, values, lambda v: v >= 0, 'at least 0')


def check_positive(name: str, **values: Any) -> None:
  """Raises for what is no number, and `ValueError` where it is not above 0."""
  _check(name, values, lambda v: v > 0, 'above 0')


def check_decays(name: str, **values: Any) -> None:
  """Raises for what is no number, and `ValueError` outside [0, 1)."""
  _check(name, values, lambda v: (v >= 0) & (v < 1), 'in [0, 1)')


def check_schedules(name: str, **values: Any) -> None:
  """Raises for what is neither a schedule nor a number of at least 0."""
  check_nonnegative(
      name, **{key: v for key, v in values.items() if not callable(v)})


def _check(
    name: str, values: dict[str, Any], good: Callable[[Any], Any], rule: str
) -> None:
  for key, value in values.items():
    if callable(value):
      raise TypeError(
          f'{name}({key}=...): a number, not a function. A schedule goes'
          f' through optax.inject_hyperparams(gn.{name})({key}=schedule).')
    kind = None if value is None or isinstance(value, (str, bytes)) else (
        jax.numpy.result_type(value) if hasattr(value, 'dtype')
        else np.asarray(value).dtype)
    if kind is None or not any(
        jax.numpy.issubdtype(kind, real)
        for real in (jax.numpy.floating, jax.numpy.integer)):
      raise TypeError(f'{name}({key}={value!r}): a number, {rule}.')
    if np.shape(value) != ():
      raise ValueError(
          f'{name}({key}=...): one number for all, not an array of shape'
          f' {np.shape(value)}.')
    # A traced value (optax.inject_hyperparams) cannot be looked at.
    if not isinstance(value, jax.core.Tracer) and not good(np.asarray(value)):
      raise ValueError(f'{name}({key}={value}): must be {rule}.')
