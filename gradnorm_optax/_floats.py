"""Arithmetic that stays inside the range of the floating-point numbers."""

from typing import Any

import jax
from jax import lax, numpy as jnp


def accumulator(leaves: list[Any]) -> Any:
  """Returns float64 if a leaf has 64-bit reals, else float32."""
  double = any(jnp.finfo(leaf.dtype).bits == 64 for leaf in leaves)
  return jnp.dtype('float64' if double else 'float32')


def widen(leaf: Any, dtype: Any) -> jax.Array:
  """Converts a leaf to a real accumulator dtype, or to its complex partner."""
  if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
    dtype = 'complex128' if dtype == 'float64' else 'complex64'
  return lax.convert_element_type(leaf, dtype)


def times(entries: jax.Array, factor: jax.Array) -> jax.Array:
  """Multiplies real or complex entries by a real factor, broadcast."""
  if factor.dtype != entries.dtype:
    factor = lax.convert_element_type(factor, entries.dtype)
  return entries * factor


def abs_squared(entries: jax.Array) -> jax.Array:
  """Returns |x|^2, real."""
  if jnp.issubdtype(entries.dtype, jnp.complexfloating):
    return lax.square(entries.real) + lax.square(entries.imag)
  return lax.square(entries)


def root(squares: jax.Array) -> jax.Array:
  """Returns the square root, with derivative 0 at 0."""
  empty = lax.eq(squares, lax.full_like(squares, 0))
  safe = lax.select(empty, lax.full_like(squares, 1), squares)
  return lax.select(empty, squares, lax.sqrt(safe))


def low(dtype: Any) -> float:
  """Least sum of squares that cannot have lost entries to underflow."""
  return 2.0 ** (-jnp.finfo(dtype).maxexp * 5 // 8)


def high(dtype: Any) -> float:
  """Largest sum of squares that is still safe to compute with."""
  return 2.0 ** (jnp.finfo(dtype).maxexp * 15 // 16)


def safe_scale(total: jax.Array) -> jax.Array:
  """Returns the power of two that brings a sum of squares into range."""
  exponent = jnp.finfo(total.dtype).maxexp
  constant = lambda value: lax.full_like(total, value)  # noqa: E731
  # An infinite or NaN sum compares false twice and is scaled down.
  return lax.select(
      lax.lt(total, constant(low(total.dtype))),
      constant(2.0 ** (exponent // 2 - 1)),
      lax.select(
          lax.lt(total, constant(high(total.dtype))), constant(1),
          constant(2.0 ** (-exponent * 5 // 8))))


def inverse_magnitude(largest: jax.Array) -> jax.Array:
  """Returns the power of two that brings a magnitude near 1."""
  limit = jnp.finfo(largest.dtype).maxexp - 2
  exponent = jnp.clip(jnp.frexp(largest)[1], -limit, limit)
  return jnp.ldexp(jnp.ones_like(largest), -exponent)


def reciprocal(eps: Any, squares: jax.Array, scale: jax.Array) -> jax.Array:
  """Returns 1 / (norm + eps) for scaled squares.

  Args:
    eps: A scalar, not scaled.
    squares: Sums of squares of scale x entries.
    scale: Powers of two.

  Returns:
    What scale x entries are multiplied by: 0 for a zero block, NaN for one with
    a non-finite entry.
  """
  norm = root(squares)
  divisor = norm
  if not (isinstance(eps, (int, float)) and eps == 0):
    divisor = norm + jnp.asarray(eps).astype(norm.dtype) * scale
  empty = lax.eq(norm, lax.full_like(norm, 0))
  one = lax.full_like(norm, 1)
  factor = lax.select(
      empty, norm, lax.div(one, lax.select(empty, one, divisor)))
  return lax.select(
      lax.is_finite(norm), factor, lax.full_like(norm, float('nan')))
