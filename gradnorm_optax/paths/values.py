"""The four kinds of value that a lifted program carries, and lifted numbers.

A lifted program computes with the p-th powers of magnitudes. Every value in it
is

* `Const`: independent of the input and not an edge by itself; evaluated as the
  program says, and raised to |.|^p where it meets data or weights;
* `Weight`: an expression multiplicative in the parameters, carried twice: as
  the number the program has, and lifted;
* `Data`: what depends on the input, carried lifted only;
* `Mask`: a truth value or an index computed from data, which may only select.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# log2 of "nothing at all": an array of zeros takes no part when scales are
# aligned. Sums of some thousands of these stay exact in float32.
_NOTHING = -float(2**17)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Num:
  """Represents the non-negative array `value * 2**log2`.

  Attributes:
    value: The array, in the dtype of the computation.
    log2: A scalar, or None where the computation is not rescaled.
  """

  value: jax.Array
  log2: Any = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Const:
  """Holds a value that is no edge by itself: a constant of the network.

  Attributes:
    value: The value as the traced program has it.
  """

  value: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Weight:
  """Holds an expression multiplicative in parameters: plain and lifted.

  Attributes:
    value: The value as the traced program has it.
    lifted: Its absolute value to the power p.
  """

  value: Any
  lifted: Num


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Data:
  """Holds what depends on the input, lifted.

  Attributes:
    lifted: The sum over paths into each unit.
    bias: With `merge_affine`, the signed bias that is not lifted yet.
    origin: Values with one origin are constant multiples of one value; this is
      how the two branches of a leaky ReLU are recognized.
    multiple: Which multiple of the origin this is, where one number says it.
  """

  lifted: Num
  bias: Any = None
  origin: Any = dataclasses.field(
      default_factory=object, metadata={'static': True}
  )
  multiple: float | None = dataclasses.field(
      default=1.0, metadata={'static': True}
  )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Mask:
  """Holds what is known of a truth value or an index computed from data.

  Attributes:
    homogeneous: Whether it stays the same when the data are scaled.
    origin: The origin of the data it was computed from.
    threshold: The number that the origin was compared with, or None.
    truth: Whether it is a truth value or a sign, a number from -1 to 1.
  """

  homogeneous: bool = dataclasses.field(metadata={'static': True})
  origin: Any = dataclasses.field(default=None, metadata={'static': True})
  threshold: float | None = dataclasses.field(
      default=None, metadata={'static': True}
  )
  truth: bool = dataclasses.field(default=True, metadata={'static': True})


Value: TypeAlias = Const | Weight | Data | Mask


class LiftError(ValueError):
  """Reports a network that has no path norm, and what to do about it.

  Examples:
    >>> import jax.numpy as jnp
    >>> from gradnorm_optax import paths
    >>> try:
    ...   paths.path_norm(lambda w, x: jnp.tanh(x @ w), jnp.ones((2, 1)),
    ...                   jnp.zeros(2))
    ... except paths.LiftError as error:
    ...   print('tanh' in str(error))
    True
  """


def _power_of_two(exponent: jax.Array) -> jax.Array:
  """Returns 2**exponent exactly (exp2 is not), 0 below the normal range."""
  wide = exponent.dtype == np.float64
  bits, integer = (52, 'int64') if wide else (23, 'int32')
  bias = int(jnp.finfo(exponent.dtype).maxexp) - 1
  biased = jnp.clip(exponent + bias, 0, 2 * bias + 1)
  return lax.bitcast_convert_type(
      biased.astype(integer) << bits, exponent.dtype
  )


def _shift(value: jax.Array, exponent: jax.Array) -> jax.Array:
  """Multiplies by 2**exponent in two halves, so that neither overflows."""
  half = jnp.floor(exponent / 2)
  return value * _power_of_two(half) * _power_of_two(exponent - half)


def _top(value: jax.Array) -> jax.Array:
  """Returns the largest magnitude, 0 for an empty array."""
  if value.ndim:
    value = jnp.max(jnp.abs(value), initial=0)
  return lax.stop_gradient(jnp.abs(value))


def _exponent(top: jax.Array) -> jax.Array:
  """Returns floor(log2(top)), well within the exponents of float32."""
  one = jnp.ones_like(top)
  safe = jnp.where(top == 0, one, jnp.maximum(top, 2.0**-120))
  return jnp.minimum(jnp.floor(jnp.log2(safe)), 120.0)


@dataclasses.dataclass(frozen=True)
class Arithmetic:
  """Computes with lifted numbers.

  Attributes:
    p: The exponent of the norm.
    dtype: The dtype of every lifted array, float32 or float64.
    scaled: Whether each array carries a power of two of its own, so that
      neither deep nets nor tiny or huge weights leave the dtype's range.
  """

  p: float
  dtype: Any
  scaled: bool

  def power(self, value: jax.Array) -> jax.Array:
    """Returns |value|^p."""
    if self.p == 2:
      return value * value
    if self.p == 1:
      return jnp.abs(value)
    return jnp.abs(value) ** self.p

  def lift(self, value: Any) -> Num:
    """Lifts a plain array: |value|^p."""
    if self.scaled and isinstance(value, np.ndarray | np.generic | float | int):
      return self._lift_known(np.asarray(value, np.float64))
    return self.lift_all([value])[0]

  def _lift_known(self, value: np.ndarray) -> Num:
    """Lifts a constant while tracing.

    Left to XLA, which multiplies constants together first, the scales of a
    squared constant would overflow.
    """
    top = np.max(np.abs(value), initial=0)
    if top == 0 or not np.isfinite(top):
      exponent = 0
    else:
      exponent = int(np.floor(np.log2(top)))
    log2 = np.floor(self.p * exponent)
    lifted = np.abs(value * 2.0**-exponent) ** self.p
    lifted *= 2.0 ** (self.p * exponent - log2)
    log2 = _NOTHING if top == 0 else log2
    return Num(jnp.asarray(lifted, self.dtype), jnp.asarray(log2, self.dtype))

  def lift_all(self, values: Sequence[Any]) -> list[Num]:
    """Lifts plain arrays, with one vector of scales: small to compile."""
    plain = [
        lax.convert_element_type(jnp.asarray(v), self.dtype) for v in values
    ]
    if not self.scaled:
      return [Num(self.power(value)) for value in plain]
    if not plain:
      return []
    tops = jnp.stack([_top(value) for value in plain])
    exponents = _exponent(tops)
    factors = _power_of_two(-exponents)
    log2 = self.p * exponents
    rest = None
    if self.p != int(self.p):  # scales are whole powers of two
      rest = jnp.exp2(log2 - jnp.floor(log2))
      log2 = jnp.floor(log2)
    log2 = jnp.where(tops == 0, _NOTHING, log2)
    lifted = [self.power(v * factors[i]) for i, v in enumerate(plain)]
    if rest is not None:
      lifted = [value * rest[i] for i, value in enumerate(lifted)]
    return [Num(value, log2[i]) for i, value in enumerate(lifted)]

  def rescale(self, value: jax.Array, log2: jax.Array | None) -> Num:
    """Moves the magnitude of `value` into `log2`, if numbers are rescaled."""
    if log2 is None:
      return Num(value)
    top = _top(value)
    exponent = _exponent(top)
    return Num(
        value * _power_of_two(-exponent),
        jnp.where(top == 0, _NOTHING, jnp.maximum(log2 + exponent, _NOTHING)),
    )

  def align(self, nums: Sequence[Num]) -> tuple[list[jax.Array], Any]:
    """Brings numbers to one scale; returns their values and its log2."""
    if not self.scaled:
      return [num.value for num in nums], None
    top = nums[0].log2
    if len(nums) == 1:
      return [nums[0].value], top
    for num in nums[1:]:
      top = jnp.maximum(top, num.log2)
    return [num.value * _power_of_two(num.log2 - top) for num in nums], top

  def linear(self, function: Callable[..., jax.Array], *nums: Num) -> Num:
    """Applies a function that is linear in all its operands together."""
    values, log2 = self.align(nums)
    return Num(function(*values), log2)

  def bilinear(
      self, function: Callable[..., jax.Array], left: Num, right: Num
  ) -> Num:
    """Applies a function that is linear in each of two operands."""
    log2 = left.log2 + right.log2 if self.scaled else None
    return self.rescale(function(left.value, right.value), log2)

  def divide(self, left: Num, right: Num) -> Num:
    """Divides one lifted number by another."""
    log2 = left.log2 - right.log2 if self.scaled else None
    return self.rescale(left.value / right.value, log2)

  def restack(self, value: jax.Array, log2: jax.Array | None) -> Num:
    """Brings the slices of a stack, each with its own scale, to one scale."""
    if log2 is None:
      return Num(value)
    top = jnp.max(log2)
    shape = log2.shape + (1,) * (value.ndim - 1)
    return Num(value * _power_of_two(jnp.reshape(log2 - top, shape)), top)

  def root(self, num: Num) -> jax.Array:
    """Returns num^(1/p), with a zero gradient where it is zero."""
    value, log2 = num.value, num.log2
    exponent = jnp.zeros([], self.dtype)
    if log2 is not None:
      exponent = jnp.floor(log2 / self.p)
      rest = log2 - self.p * exponent
      exact = self.p == int(self.p)
      value = value * (_power_of_two(rest) if exact else jnp.exp2(rest))
    some = value > 0
    safe = jnp.where(some, value, jnp.ones_like(value))
    if self.p == 2:
      rooted = jnp.sqrt(safe)
    else:
      rooted = safe if self.p == 1 else safe ** (1 / self.p)
    rooted = jnp.where(some, _shift(rooted, exponent), jnp.zeros_like(value))
    # Only parameters that are not finite lead to NaN here.
    return jnp.where(jnp.isnan(value), jnp.full_like(value, jnp.inf), rooted)
