"""Rules of what selects: maxima, pooling, clipping, comparisons, masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gradnorm_optax.paths.lift import Lifter
from gradnorm_optax.paths.values import Const, Data, Mask, Num, Value, Weight


def maximum(lifter: Lifter, eqn: Any, left: Value, right: Value) -> Any:
  """max(x, c) is x (ReLU, clip); max(x, y) is the sum over both (maxout)."""
  if isinstance(left, Mask) or isinstance(right, Mask):
    return NotImplemented
  if not (isinstance(left, Data) or isinstance(right, Data)):
    return NotImplemented
  if isinstance(left, Const):
    return Data(_spread(lifter, eqn, right))
  if isinstance(right, Const):
    return Data(_spread(lifter, eqn, left))
  return _either(lifter, left, right)


def _spread(lifter: Lifter, eqn: Any, value: Value) -> Num:
  """Returns the lifted number in the shape of the result."""
  shape = eqn.outvars[0].aval.shape
  return lifter.linear(
      lambda v: jnp.broadcast_to(v, shape), lifter.lifted(value)
  )


def _either(lifter: Lifter, left: Value, right: Value) -> Data:
  """One of two values, which one depends on the input."""
  nums = lifter.lifted(left), lifter.lifted(right)
  same = (
      isinstance(left, Data)
      and isinstance(right, Data)
      and left.origin is right.origin
  )
  # Two multiples of one value (leaky ReLU): the steeper slope. Otherwise there
  # are paths through both.
  return Data(lifter.linear(jnp.maximum if same else jnp.add, *nums))


def clamp(lifter: Lifter, eqn: Any, low: Value, x: Value, high: Value) -> Any:
  """Clipping to constant bounds is the identity, as published."""
  del eqn
  if isinstance(x, Data) and all(isinstance(b, Const) for b in (low, high)):
    return Data(lifter.lifted(x), origin=x.origin, multiple=x.multiple)
  return NotImplemented


def reduce_maximum(lifter: Lifter, eqn: Any, arg: Value) -> Any:
  """The maximum over axes becomes the sum over them."""
  if not isinstance(arg, Data):
    return NotImplemented
  axes = eqn.params['axes']
  return Data(lifter.linear(lambda v: jnp.sum(v, axes), arg.lifted))


def cumulative_maximum(lifter: Lifter, eqn: Any, arg: Value) -> Any:
  """The running maximum becomes the running sum."""
  if not isinstance(arg, Data):
    return NotImplemented
  axis, reverse = eqn.params['axis'], eqn.params['reverse']
  return Data(lifter.linear(lambda v: lax.cumsum(v, axis, reverse), arg.lifted))


def window_maximum(lifter: Lifter, eqn: Any, arg: Value) -> Any:
  """Max-pooling becomes the sum over the same windows, zeros as padding."""
  if not isinstance(arg, Data):
    return NotImplemented
  params = eqn.params

  def pool(value: jax.Array) -> jax.Array:
    return lax.reduce_window(
        value,
        np.zeros([], value.dtype),
        lax.add,
        params['window_dimensions'],
        params['window_strides'],
        params['padding'],
        params['base_dilation'],
        params['window_dilation'],
    )

  return Data(lifter.linear(pool, arg.lifted))


def pad(lifter: Lifter, eqn: Any, arg: Value, filling: Value) -> Any:
  """Pads with the lifted filling; -inf, which no maximum takes, as zero."""
  if isinstance(arg, Mask) or isinstance(filling, Mask | Data):
    return NotImplemented
  number = number_of(filling)
  if number is not None and np.isinf(number):
    filling = Const(np.zeros([], lifter.dtype))
  config = eqn.params['padding_config']
  num = lifter.linear(
      lambda v, f: lax.pad(v, f, config),
      lifter.lifted(arg),
      lifter.lifted(filling),
  )
  return lifter.result(eqn, (arg, filling), num)


def compare(lifter: Lifter, eqn: Any, left: Value, right: Value) -> Any:
  """A comparison of data stays under rescaling if it is with data or zero."""
  if isinstance(left, Mask) or isinstance(right, Mask):
    return logical(lifter, eqn, left, right)
  if not (isinstance(left, Data) or isinstance(right, Data)):
    return NotImplemented
  if isinstance(left, Data) and isinstance(right, Data):
    return Mask(True)
  data, other = (left, right) if isinstance(left, Data) else (right, left)
  assert isinstance(data, Data)
  threshold = number_of(other)
  if threshold:  # in units of the origin
    threshold = threshold / data.multiple if data.multiple else None
  return Mask(threshold == 0, data.origin, threshold)


def logical(lifter: Lifter, eqn: Any, *args: Value) -> Any:
  """Combines truth values."""
  del lifter, eqn
  masks = [arg for arg in args if isinstance(arg, Mask)]
  if not masks or any(isinstance(arg, Data) for arg in args):
    return NotImplemented
  return Mask(all(mask.homogeneous for mask in masks))


def sign(lifter: Lifter, eqn: Any, arg: Value) -> Any:
  """The sign of data stays when they are scaled."""
  del lifter, eqn
  return Mask(True) if isinstance(arg, Data) else NotImplemented


def position(lifter: Lifter, eqn: Any, arg: Value) -> Any:
  """The place of the maximum stays when the data are scaled."""
  del lifter, eqn
  return Mask(True, truth=False) if isinstance(arg, Data) else NotImplemented


def finite(lifter: Lifter, eqn: Any, arg: Value) -> Any:
  """Whether data are finite is no matter of paths."""
  del lifter, eqn
  return Mask(True) if isinstance(arg, Data) else NotImplemented


def select(lifter: Lifter, eqn: Any, which: Value, *cases: Value) -> Any:
  """Chooses among cases: constant masks as they are, masks of data by kind."""
  if not isinstance(which, Mask):
    if any(isinstance(case, Mask) for case in cases):
      return Mask(False, truth=False)
    nums = [lifter.lifted(case) for case in cases]
    plain = which.value  # type: ignore[union-attr]
    num = lifter.linear(lambda *values: lax.select_n(plain, *values), *nums)
    return lifter.result(eqn, (which, *cases), num)
  if any(isinstance(case, Mask) for case in cases):
    return Mask(False, truth=False)
  chosen = [case for case in cases if number_of(case) != 0]
  moving = [case for case in chosen if isinstance(case, Data)]
  if len(chosen) == len(moving) == 1:
    (data,) = moving
    # where(x > 0, x, 0), or a gate of other data. where(x > 1, x, 0) jumps.
    if which.homogeneous:
      return Data(data.lifted)
  elif len(chosen) == 2 and len(moving) == 1:
    (data,) = moving
    (other,) = (case for case in chosen if case is not data)
    # where(x > c, c, x): clipping, the identity as published. Where the
    # constant is another one, the function jumps.
    if which.origin is data.origin and _meets(which, data, other):
      return Data(data.lifted, None, data.origin, data.multiple)
  if which.homogeneous and len(chosen) == 2 and not _has_const(chosen):
    return _either(lifter, *chosen)
  raise lifter.error(
      eqn,
      'a choice by a condition on the input that rescaling the input changes, '
      'or with a constant branch',
  )


def _meets(which: Mask, data: Data, other: Value) -> bool:
  """Whether data are equal to a constant where the condition changes."""
  constant = number_of(other)
  if None in (constant, which.threshold, data.multiple):
    return False
  assert constant is not None and which.threshold is not None
  assert data.multiple is not None
  return math.isclose(constant, which.threshold * data.multiple, rel_tol=1e-6)


def _has_const(cases: list[Value]) -> bool:
  return any(isinstance(case, Const | Weight) for case in cases)


def number_of(value: Value) -> float | None:
  """Returns the number that all entries of a known constant are, or None."""
  if not isinstance(value, Const) or isinstance(value.value, jax.core.Tracer):
    return None
  entries = np.asarray(value.value)
  if entries.size == 0 or not np.all(entries == entries.flat[0]):
    return None
  return float(entries.flat[0])


SELECTION: dict[str, Callable[..., Any]] = {
    'max': maximum,
    'min': maximum,
    'clamp': clamp,
    'reduce_max': reduce_maximum,
    'reduce_min': reduce_maximum,
    'cummax': cumulative_maximum,
    'cummin': cumulative_maximum,
    'reduce_window_max': window_maximum,
    'reduce_window_min': window_maximum,
    'pad': pad,
    'argmax': position,
    'argmin': position,
    'is_finite': finite,
    'sign': sign,
    'select_n': select,
    **dict.fromkeys('eq ne ge gt le lt'.split(), compare),
    **dict.fromkeys('and or xor not reduce_and reduce_or'.split(), logical),
}
