"""One small rule per primitive: what it does to lifted values.

A rule is a function `rule(lifter, eqn, *values)` that returns the value of the
output (a list where the primitive has several), or `NotImplemented` where it
has no answer: then an expression of parameters alone is taken as a plain
number, and data are an error. Operands that are all constant never reach a
rule.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gradnorm_optax.paths.lift import Lifter
from gradnorm_optax.paths.rules_calls import CALLS
from gradnorm_optax.paths.rules_linear import (
  Rule,
  for_lifted,
  identity,
  keeps_bias,
  scatter,
  structural,
)
from gradnorm_optax.paths.rules_select import SELECTION, number_of
from gradnorm_optax.paths.values import Const, Data, Mask, Value, Weight


@keeps_bias
def negate(lifter: Lifter, eqn: Any, arg: Value) -> Any:
  """-x has the paths of x."""
  if isinstance(arg, Data):
    bias = None if arg.bias is None else -arg.bias
    multiple = None if arg.multiple is None else -arg.multiple
    return Data(arg.lifted, bias, arg.origin, multiple)
  return lifter.result(eqn, [arg], lifter.lifted(arg))


@keeps_bias
def convert(lifter: Lifter, eqn: Any, arg: Value) -> Any:
  """A cast to another real type is the identity on lifted values."""
  if not jnp.issubdtype(eqn.params['new_dtype'], np.floating):
    return Mask(False, truth=False) if isinstance(arg, Data) else _keep(arg)
  if isinstance(arg, Data | Mask):
    return arg
  return lifter.result(eqn, [arg], lifter.lifted(arg))


def _keep(arg: Value) -> Any:
  return arg if isinstance(arg, Mask) else NotImplemented


@keeps_bias
def add(lifter: Lifter, eqn: Any, left: Value, right: Value) -> Any:
  """x + b: a constant or parameter is an edge from the constant unit."""
  if isinstance(left, Mask) or isinstance(right, Mask):
    return _index(eqn, left, right)
  if lifter.merge_affine and isinstance(left, Data) != isinstance(right, Data):
    sign = -1 if eqn.primitive.name == 'sub' else 1
    data, other = (left, right) if isinstance(left, Data) else (right, left)
    held = 0 if data.bias is None else data.bias  # type: ignore[union-attr]
    plain = _plain(lifter, other)
    bias = held + sign * plain if data is left else sign * held + plain
    # The bias may be what gives the result its shape.
    assert isinstance(data, Data)
    num = lifter.linear(
        lambda v: jnp.broadcast_to(v, eqn.outvars[0].aval.shape), data.lifted
    )
    return Data(num, bias)
  num = lifter.linear(jnp.add, lifter.lifted(left), lifter.lifted(right))
  return lifter.result(eqn, (left, right), num)


def _index(eqn: Any, *args: Value) -> Any:
  """Integer arithmetic on an index that depends on the input."""
  if not jnp.issubdtype(eqn.outvars[0].aval.dtype, np.integer):
    return NotImplemented
  masks = [arg for arg in args if isinstance(arg, Mask)]
  return Mask(all(mask.homogeneous for mask in masks), truth=False)


def _plain(lifter: Lifter, value: Any) -> jax.Array:
  return lax.convert_element_type(jnp.asarray(value.value), lifter.dtype)


@keeps_bias
def multiply(lifter: Lifter, eqn: Any, left: Value, right: Value) -> Any:
  """x · m: a factor multiplies every path."""
  if isinstance(left, Mask) or isinstance(right, Mask):
    return _gate(left, right)
  if isinstance(left, Data) and isinstance(right, Data):
    raise lifter.error(eqn, _BOTH, _BOTH_MEND)
  return _scale(lifter, eqn, left, right, jnp.multiply, lifter.bilinear)


_BOTH = 'a product of two values that both depend on the input'
_BOTH_MEND = (
    'Attention, gating, LayerNorm, RMSNorm and BatchNorm in training mode have '
    'no path norm: use inference mode (use_running_average=True), or let '
    'apply_fn leave this part out'
)


def _gate(left: Value, right: Value) -> Any:
  """x · [x > 0] is a ReLU, x · sign(x) is |x|; not so with other conditions."""
  mask, data = (left, right) if isinstance(left, Mask) else (right, left)
  assert isinstance(mask, Mask)
  if mask.homogeneous and mask.truth and isinstance(data, Data):
    return Data(data.lifted, data.bias)
  return NotImplemented


@keeps_bias
def divide(lifter: Lifter, eqn: Any, left: Value, right: Value) -> Any:
  """x / m: the divisor counts as a constant factor."""
  if isinstance(right, Data):
    raise lifter.error(
        eqn, 'division by a value that depends on the input', _BOTH_MEND
    )
  if isinstance(left, Const | Mask) or isinstance(right, Mask):
    return NotImplemented
  right = Const(right.value)
  return _scale(
      lifter, eqn, left, right, jnp.divide, lambda _, a, b: lifter.divide(a, b)
  )



def _scale(
    lifter: Lifter, eqn: Any, left: Any, right: Any, plain: Rule, lift: Rule
) -> Value:
  """Scales by a constant or parameter, the pending bias included."""
  data, other = (left, right) if isinstance(left, Data) else (right, left)
  if not isinstance(data, Data):
    num = lift(plain, lifter.lifted(left), lifter.lifted(right))
    return lifter.result(eqn, (left, right), num)
  bias = data.bias
  if bias is not None:
    bias = plain(bias, _plain(lifter, other))
  sides = (data.lifted, lifter.lifted(other))
  num = lift(plain, *(sides if data is left else sides[::-1]))
  # A constant multiple keeps the origin, so that leaky ReLU is recognized.
  if isinstance(other, Const):
    number = number_of(other)
    if number and plain is jnp.divide:
      number = 1 / number
    multiple = data.multiple
    if multiple is not None:
      multiple = None if number is None else multiple * number
    return Data(num, bias, data.origin, multiple)
  return Data(num, bias)


def bilinear(lifter: Lifter, eqn: Any, left: Value, right: Value) -> Any:
  """Lifts dot_general and convolution: products summed, one of them of data.

  For `register_rule`, where a primitive of your own is such a product.

  Args:
    lifter: The interpreter that calls rules.
    eqn: The equation in the traced program.
    left: The first operand, lifted.
    right: The second operand, lifted.

  Returns:
    The lifted result; `NotImplemented` where an operand is a truth value or an
    index.

  Raises:
    LiftError: Both operands depend on the data.

  Examples:
    >>> from gradnorm_optax import paths
    >>> rule = paths.register_rule('my_matmul')(paths.bilinear)
  """
  if isinstance(left, Mask) or isinstance(right, Mask):
    return NotImplemented
  if isinstance(left, Data) and isinstance(right, Data):
    raise lifter.error(eqn, _BOTH, _BOTH_MEND)
  params = for_lifted(lifter, eqn)
  num = lifter.bilinear(
      lambda a, b: eqn.primitive.bind(a, b, **params),
      lifter.lifted(left),
      lifter.lifted(right),
  )
  return lifter.result(eqn, (left, right), num)


def power(lifter: Lifter, eqn: Any, arg: Value) -> Any:
  """w^n of a parameter is n edges in a row; data only to the power 1."""
  exponent = eqn.params.get('y', 2)
  if isinstance(arg, Data) and exponent == 1:
    return arg
  if not isinstance(arg, Weight) or exponent < 1:
    return NotImplemented
  num = lifter.lifted(arg)
  total = num
  for _ in range(exponent - 1):
    total = lifter.bilinear(jnp.multiply, total, num)
  return lifter.result(eqn, [arg], total)


def exponential(lifter: Lifter, eqn: Any, arg: Value) -> Any:
  """exp(s) of a parameter (a log-scale): an edge whose slope is exp(s)."""
  if not isinstance(arg, Weight):
    return NotImplemented
  (plain,) = lifter.evaluate(eqn, [arg])
  num = lifter.lift(plain.value)  # type: ignore[union-attr]
  if lifter.by_lifted:
    held = lax.stop_gradient(num.value)
    change = arg.lifted.value - lax.stop_gradient(arg.lifted.value)
    # |exp(s)|^p moves by |slope|^p per unit of the lifted parameter.
    num = type(num)(held + held * change, num.log2)
  return Weight(plain.value, num)  # type: ignore[union-attr]


def magnitude(lifter: Lifter, eqn: Any, arg: Value) -> Any:
  """|x| has slopes 1 and -1."""
  if isinstance(arg, Mask):
    return NotImplemented
  return lifter.result(eqn, [arg], lifter.lifted(arg))


_IDENTITIES = (
    'copy copy_p device_put optimization_barrier name stop_gradient '
    'reduce_precision'
)
_MOVES = (
    'reshape transpose broadcast_in_dim squeeze slice rev expand_dims tile '
    'split unstack'
)
_SUMS = 'reduce_sum cumsum reduce_window_sum'

BUILTIN: dict[str, Rule] = {
    **CALLS,
    **SELECTION,
    **dict.fromkeys(_IDENTITIES.split(), identity),
    **dict.fromkeys(_MOVES.split(), structural(0)),
    **dict.fromkeys(_SUMS.split(), structural(0)),
    'gather': structural(0),
    'dynamic_slice': structural(0),
    'dynamic_update_slice': structural(0, 1),
    'scatter': scatter(lax.scatter),
    'scatter-add': scatter(lax.scatter_add),
    'scatter_add': scatter(lax.scatter_add),
    'concatenate': structural(),
    'stack': structural(),
    'neg': negate,
    'abs': magnitude,
    'convert_element_type': convert,
    'add': add,
    'add_any': add,
    'sub': add,
    'mul': multiply,
    'div': divide,
    'dot_general': bilinear,
    'conv_general_dilated': bilinear,
    'integer_pow': power,
    'square': power,
    'exp': exponential,
}
