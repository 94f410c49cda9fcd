"""Rules of what only moves, copies or sums entries: linear in its operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradnorm_optax.paths import meshes
from gradnorm_optax.paths.lift import Lifter
from gradnorm_optax.paths.values import Const, Data, Mask, Value, Weight

Rule = Callable[..., Any]


def keeps_bias(rule: Rule) -> Rule:
  """Marks a rule that carries the pending bias of `merge_affine` itself."""
  rule.keeps_bias = True  # type: ignore[attr-defined]
  return rule


@keeps_bias
def identity(lifter: Lifter, eqn: Any, *args: Value) -> Any:
  """Passes its operands on; for any function whose slopes are at most 1.

  Args:
    lifter: The interpreter that calls rules.
    eqn: The equation in the traced program.
    *args: The operands, lifted.

  Returns:
    The first operand; all of them where the primitive has several results.

  Examples:
    >>> from gradnorm_optax import paths
    >>> rule = paths.register_rule('my_activation')(paths.identity)
  """
  del lifter
  return list(args) if eqn.primitive.multiple_results else args[0]


def structural(*operands: int) -> Rule:
  """Returns the rule of a primitive that is linear in `operands` together.

  Args:
    *operands: Positions of these operands; none means all. The others (indices)
      must be constants.

  Returns:
    A rule for `register_rule`: the primitive itself, applied to the lifted
    operands.

  Raises:
    LiftError: By the rule, where one of the others depends on the data.

  Examples:
    >>> from gradnorm_optax import paths
    >>> rule = paths.register_rule('my_flip')(paths.structural(0))
  """

  def rule(lifter: Lifter, eqn: Any, *args: Value) -> Any:
    places = operands or range(len(args))
    others = [arg for i, arg in enumerate(args) if i not in places]
    if any(isinstance(args[i], Mask) for i in places):
      return _of_mask(eqn, args)
    if not all(isinstance(arg, Const | Weight) for arg in others):
      raise lifter.error(eqn, *_TOKENS)
    params = for_lifted(lifter, eqn)

    def bind(*values: Any) -> Any:
      full = [getattr(arg, 'value', None) for arg in args]
      for i, value in zip(places, values):
        full[i] = value
      return eqn.primitive.bind(*full, **params)

    nums = [lifter.lifted(args[i]) for i in places]
    if eqn.primitive.multiple_results:
      return _several(lifter, eqn, args, nums, bind)
    return lifter.result(eqn, args, lifter.linear(bind, *nums))

  return rule


def scatter(function: Rule) -> Rule:
  """Returns the rule of a scatter; its primitive holds a typed program."""

  def rule(lifter: Lifter, eqn: Any, *args: Value) -> Any:
    operand, indices, updates = args
    if isinstance(operand, Mask) or isinstance(updates, Mask):
      return _of_mask(eqn, args)
    if not isinstance(indices, Const | Weight):
      raise lifter.error(eqn, *_TOKENS)
    kept = 'indices_are_sorted unique_indices mode'.split()
    options = {name: eqn.params[name] for name in kept}
    numbers = eqn.params['dimension_numbers']
    num = lifter.linear(
        lambda a, b: function(a, indices.value, b, numbers, **options),
        lifter.lifted(operand),
        lifter.lifted(updates),
    )
    return lifter.result(eqn, args, num)

  return rule


_TOKENS = (
    'its indices depend on the input',
    'Pass the one-hot or the embedded input as x instead of token ids',
)


def _of_mask(eqn: Any, args: tuple[Value, ...]) -> Any:
  """Truth values and indices of data stay what they are when moved about."""
  masks = [arg for arg in args if isinstance(arg, Mask)]
  mask = Mask(
      all(mask.homogeneous for mask in masks),
      truth=all(mask.truth for mask in masks),
  )
  if len(masks) == 1 and len(args) == 1:
    mask = masks[0]
  return [mask] * len(eqn.outvars) if eqn.primitive.multiple_results else mask


def _several(
    lifter: Lifter, eqn: Any, args: Any, nums: Any, bind: Rule
) -> list[Value]:
  """Handles the primitives with several results: split, unstack."""
  values, log2 = lifter.align(nums)
  lifted = [type(nums[0])(value, log2) for value in bind(*values)]
  if any(isinstance(arg, Data) for arg in args):
    return [Data(num) for num in lifted]
  plain = lifter.evaluate(eqn, args)
  return [
      Weight(value.value, num)  # type: ignore[union-attr]
      for value, num in zip(plain, lifted)
  ]


def for_lifted(lifter: Lifter, eqn: Any) -> dict[str, Any]:
  """Returns a primitive's parameters, made fit for lifted operands."""
  params = meshes.without_sharding(eqn.params)
  if 'preferred_element_type' in params:
    params['preferred_element_type'] = lifter.dtype
  if 'fill_value' in params:
    params['fill_value'] = None if params['fill_value'] is None else 0
  return params
