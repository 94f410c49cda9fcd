"""The table of rules, and the decorator that extends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradnorm_optax.paths.rules import BUILTIN

_USER: dict[str, Callable[..., Any]] = {}


def register_rule(
    primitive: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
  """Registers the lifting rule of a primitive; a decorator.

  A rule is a function `rule(lifter, eqn, *values)`. `values` are `Const`,
  `Weight`, `Data` or `Mask`, `eqn` is the equation of the traced program
  (`eqn.params` holds the primitive's parameters), and `lifter` computes:
  `lifter.lifted(value)` gives the lifted number (`|.|^p`), `lifter.linear(f,
  *nums)` and `lifter.bilinear(f, a, b)` apply a function to lifted numbers,
  `lifter.result(eqn, values, num)` wraps the outcome, `lifter.error(eqn, why)`
  is the exception to raise. Ready-made rules: `paths.identity` (any activation
  with slopes of at most 1), `paths.structural(0)` (linear in operand 0),
  `paths.bilinear`. A rule returns `NotImplemented` for what it does not cover.

  Args:
    primitive: The name of a primitive, or the primitive itself. A rule
      registered here comes before the built-in one.

  Returns:
    The decorator; it returns the rule unchanged.

  Raises:
    TypeError: `primitive` is neither.

  Examples:
    >>> from gradnorm_optax import paths
    >>> @paths.register_rule('my_clipped_relu')
    ... def my_rule(lifter, eqn, x):
    ...   return paths.Data(lifter.lifted(x))
  """
  name = primitive if isinstance(primitive, str) else getattr(
      primitive, 'name', None
  )
  if not isinstance(name, str):
    raise TypeError(
        f'register_rule needs a primitive or its name, got {primitive!r}. '
        "Use it as @register_rule('name')."
    )

  def decorate(rule: Callable[..., Any]) -> Callable[..., Any]:
    _USER[name] = rule
    return rule

  return decorate


def rules() -> dict[str, Callable[..., Any]]:
  """Returns all rules, the user's before the built-in ones."""
  return BUILTIN | _USER
