"""A model as it answers: weights folded, nothing of training in it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from jax import numpy as jnp

from gradnorm_optax import linen as gnn
from gradnorm_optax.lab.models import user_linen
from gradnorm_optax.lab.training.problem import Problem


class Forward(NamedTuple):
  """A forward pass and its arrays.

  Attributes:
    apply: `apply(variables, x)`, `apply(variables, x, lengths)` of sequences
      of unequal length: outputs, (B, outputs), before any softmax. Pure.
    variables: {'params': ..., other collections}; weight normalization folded
      into the weights, where the model knows it.
  """

  apply: Callable[..., jax.Array]
  variables: Any


def forward(problem: Problem, params: Any, extra: Any) -> Forward:
  """Makes the forward pass of a model from what was trained."""
  module, variables = _folded(problem.module, {'params': params, **extra})

  def apply(variables: Any, x: jax.Array,
            lengths: jax.Array | None = None) -> jax.Array:
    params = variables['params']
    extra = {name: held for name, held in variables.items()
             if name != 'params'}
    return problem._replace(module=module).outputs(
        params, extra, x, lengths, train=False).astype(jnp.float32)

  return Forward(apply, variables)


def _folded(module: Any, variables: Any) -> tuple[Any, Any]:
  """Puts w = g v / ||v|| in the place of v and g, in Linen models."""
  if isinstance(module, user_linen.FromLinen):
    inner, variables = _folded(module.module, variables)
    return module._replace(module=inner), variables
  if not isinstance(module, nn.Module):
    return module, variables
  try:
    return gnn.fold(module, variables)
  except ValueError:  # there is nothing to fold
    return module, variables
