"""Orders of a method's chain that undo themselves."""

from typing import Any

import jax

import gradnorm_optax as gn
from gradnorm_optax.check_chain import Finding
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import chain
from gradnorm_optax.lab.methods.registry import Context


def found(method: schema.Method, rate: float, context: Context,
          params: Any) -> list[Finding]:
  """What `gn.check_chain` finds in a method's chain.

  The rate is constant, as a warm-up would hide the first updates. Without
  `sampling` and `lookahead`, which stand around the chain and change no order
  in it.

  Args:
    method: The table.
    rate: The learning rate.
    context: What the method may know about the model.
    params: The model's parameters; only shapes and places count.
  """
  plain = method.model_copy(update={'sampling': None, 'lookahead': None})
  tx = chain.build(plain, rate, context).tx
  shapes = jax.tree.map(
      lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
  return gn.check_chain(tx, shapes)
