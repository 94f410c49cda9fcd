"""Block norms and fan-in means at work: what the methods call."""

import functools
from typing import Any

import jax
from jax import lax, numpy as jnp

from gradnorm_optax import _floats, _shards, _stats
from gradnorm_optax._bundles import bundle
from gradnorm_optax._layout import Layout
from gradnorm_optax._readings import (
    is_centered,
    means_of,
    read,
    unit_scales,
)
from gradnorm_optax._stats import Stats

# On a CPU, up to this many blocks have a `lax.cond` each, so that a layer's
# gradient is used as soon as it is known, and freed: on 12 M parameters a
# training step's scratch is 35 MB where one cond for the tree takes 50, and an
# optimizer's step with `standardize` 1.21x of AdamW's where it takes 1.36x.
# Elsewhere a cond waits for the host, so there is one; and one spares
# collectives inside shard_map, and compilation: both forms are traced, and a
# cond for each block is compiled.
SEPARATE = 128


def normalize(
    layout: Layout, leaves: list[Any], eps: Any, axis_name: Any, center: bool
) -> list[Any]:
  """Divides leaves by their block's L2 norm + eps, centered first or not.

  Args:
    layout: The blocks.
    leaves: The active leaves, in the order of `layout.active`.
    eps: Added to the norm.
    axis_name: Mesh axes over which leaves are sharded.
    center: Whether to subtract each output unit's fan-in mean first. A leaf
      that is constant along its fan-in up to rounding then gives zeros.

  Returns:
    Leaves of the same dtypes. A zero block gives zeros, a block with a
    non-finite entry NaN.
  """
  # An eps of 0 that is known costs nothing.
  run = (_normalize_static if isinstance(eps, (int, float))
         else _normalize_traced)
  if any(isinstance(x, jax.core.Tracer) for x in (eps, *leaves)):
    return run(layout, leaves, eps, axis_name, center)
  result = list(leaves)  # outside of jit, one program for blocks alike
  for block, places in layout.blocks:
    for n, new in zip(places, run(
        block, [leaves[n] for n in places], eps, axis_name, center),
                      strict=True):
      result[n] = new
  return result


def _normalize(
    layout: Layout, leaves: list[Any], eps: Any, axis_name: Any, center: bool
) -> list[Any]:
  given, bundles = layout, bundle(layout, leaves, axis_name)
  layout = bundles.layout

  def together(layout: Layout, leaves: list[Any]) -> Any:
    return _numbers(layout, leaves, eps, axis_name, center)

  def separately(leaves: list[Any]) -> Any:
    by_block, by_leaf = [], list(leaves)
    for block, places in layout.blocks:
      own, found = together(block, [leaves[n] for n in places])
      by_block += own
      for n, numbers in zip(places, found, strict=True):
        by_leaf[n] = numbers
    return by_block, by_leaf

  if axis_name is not None or not 1 < len(layout.groups) <= SEPARATE:
    by_block, by_leaf = together(layout, bundles.leaves)
  else:  # By the platform that is compiled for; XLA gets one of the two.
    by_block, by_leaf = lax.platform_dependent(
        bundles.leaves, cpu=separately,
        default=functools.partial(together, layout))
  scale, factor = map(
      list, zip(*bundles.by_block(by_block), strict=True))
  result = []
  for leaf, spec, s, f, (own, mean) in zip(
      leaves, map(given.spec, given.active), _stats.spread(given, scale),
      _stats.spread(given, factor), bundles.by_leaf(by_leaf), strict=True):
    entries = _floats.times(_floats.widen(leaf, s.dtype), s)
    if mean is not None:
      entries = lax.sub(entries, mean)
    if own is not None:
      own = _stats.expand(own, spec)
      zero = lax.full_like(own, 0)
      f = lax.select(lax.eq(own, zero), zero, f)
    result.append(_floats.times(entries, f).astype(leaf.dtype))
  return result


def _numbers(
    layout: Layout, leaves: list[Any], eps: Any, axis_name: Any, center: bool
) -> tuple[list[Any], list[Any]]:
  """Returns what the result, (s x - m) f, is made of.

  Returns:
    For each block s and f. For each leaf its squares, where these tell what the
    block's do not: that it is constant, and to be 0; and m.
  """
  specs = [layout.spec(index) for index in layout.active]
  # In a block of one leaf the factor says already what is only noise.
  shared = [center and len(layout.groups[spec.label]) > 1
            and is_centered(spec, leaf, axis_name)
            for spec, leaf in zip(specs, leaves, strict=True)]

  def finish(squares: list[jax.Array], scale: Stats) -> Any:
    totals = _stats.gather(layout, squares)
    return ([_floats.reciprocal(eps, v, s)
             for v, s in zip(totals, scale, strict=True)],
            [own if many else None
             for own, many in zip(squares, shared, strict=True)])

  scale, (factor, squares), means = read(
      layout, leaves, axis_name, center, finish)
  return (list(zip(scale, factor, strict=True)),
          list(zip(squares, means, strict=True)))


_normalize_static = jax.jit(
    _normalize, static_argnums=(0, 2, 3, 4), inline=True)
_normalize_traced = jax.jit(_normalize, static_argnums=(0, 3, 4), inline=True)


@functools.partial(jax.jit, static_argnums=(0, 2), inline=True)
def block_norms(
    layout: Layout, leaves: list[Any], axis_name: Any
) -> list[jax.Array]:
  """Returns the L2 norm of each block, in the order of `layout.groups`.

  An array of norms where a label stands for several blocks.
  """
  return _norms(layout, leaves, axis_name)


@functools.partial(jax.jit, static_argnums=(0, 5), inline=True)
def scale_by_norms(
    layout: Layout, leaves: list[Any], others: list[Any], ratio: Any,
    min_norm: Any, axis_name: Any,
) -> list[Any]:
  """Multiplies leaves by ratio x max(norm of the same block of others, floor).

  Args:
    layout: The blocks.
    leaves: The active leaves.
    others: Arrays of the same shapes, whose block norms are taken.
    ratio: A scalar.
    min_norm: The floor of the norms.
    axis_name: Mesh axes over which leaves are sharded.
  """
  factor = [
      jnp.asarray(ratio).astype(v.dtype)
      * jnp.maximum(v, jnp.asarray(min_norm).astype(v.dtype))
      for v in _norms(layout, others, axis_name)]
  return [
      _floats.times(_floats.widen(leaf, f.dtype), f).astype(leaf.dtype)
      for leaf, f in zip(leaves, _stats.spread(layout, factor), strict=True)]


@functools.partial(jax.jit, static_argnums=(0, 2), inline=True)
def centralize(
    layout: Layout, leaves: list[Any], axis_name: Any
) -> list[Any]:
  """Subtracts each output unit's fan-in mean; other leaves stay as they are."""
  chosen = [n for n, (index, leaf) in enumerate(
      zip(layout.active, leaves, strict=True))
            if is_centered(layout.spec(index), leaf, axis_name)]
  if not chosen:
    return leaves
  bundles = bundle(
      Layout(tuple(layout.spec(layout.active[n]) for n in chosen),
             {n: (n,) for n in range(len(chosen))}, ()),
      [leaves[n] for n in chosen], axis_name)
  result = list(leaves)
  for n, shift in zip(chosen, bundles.by_leaf(_shifts(
      bundles.layout, bundles.leaves, axis_name)), strict=True):
    result[n] = _shifted(leaves[n], *shift)
  return result


def _shifted(
    leaf: Any, scale: jax.Array, mean: jax.Array, inverse: jax.Array
) -> jax.Array:
  entries = _floats.times(_floats.widen(leaf, scale.dtype), scale)
  return _floats.times(lax.sub(entries, mean), inverse).astype(leaf.dtype)


def _shifts(
    layout: Layout, leaves: list[Any], axis_name: Any
) -> list[tuple[jax.Array, jax.Array, jax.Array]]:
  """Returns by output unit a power of two s, the mean of s x entries, 1 / s."""
  specs = [layout.spec(index) for index in layout.active]
  dtype = _floats.accumulator(leaves)
  wide = [_floats.widen(leaf, dtype) for leaf in leaves]
  common = means_of(specs, wide, axis_name)
  # A sum that overflowed, or that may have lost entries to underflow.
  unsafe = _stats.either([
      ~((abs(m) > _floats.low(dtype)) & (abs(m) < _floats.high(dtype)))
      for m in common])

  def rescaled():
    scales = unit_scales(specs, wide, axis_name)
    entries = [_floats.times(x, s) for x, s in zip(wide, scales, strict=True)]
    return list(zip(scales, means_of(specs, entries, axis_name), strict=True))

  found = lax.cond(
      _shards.agree([unsafe], specs, wide,
                    [spec.inputs for spec in specs], axis_name), rescaled,
      lambda: [(lax.full_like(m.real, 1), m) for m in common])
  return [(scale, mean, 1 / scale) for scale, mean in found]


def _norms(layout: Layout, leaves: list[Any], axis_name: Any) -> Stats:
  bundles = bundle(layout, leaves, axis_name)

  def finish(squares: list[jax.Array], scale: Stats) -> Stats:
    return [lax.div(_floats.root(total), s) for total, s in zip(
        _stats.gather(bundles.layout, squares), scale, strict=True)]

  return bundles.by_block(read(
      bundles.layout, bundles.leaves, axis_name, False, finish).found)
