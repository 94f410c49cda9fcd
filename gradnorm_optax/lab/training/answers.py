"""What a model answers on a part of the data, example by example."""

from typing import Any

import jax
from jax import numpy as jnp

from gradnorm_optax.lab.data.dataset import Split
from gradnorm_optax.lab.objective import evidence
from gradnorm_optax.lab.training.problem import Problem, in_batches


def answers(problem: Problem, params: Any, extra: Any,
            split: Split) -> jax.Array:
  """Computes what the score of a part is computed of.

  Returns:
    Float32, shape (examples, k); see `objective.evidence`.
  """
  objective = problem.dataset.objective
  spread = objective.spread(split.y, objective.mask(split.y, split.lengths))

  def one(part: Split) -> jax.Array:
    outputs = problem.outputs(params, extra, part.x, part.lengths, train=False)
    return evidence.of(
        objective, outputs.astype(jnp.float32), part.y, part.lengths, spread)

  return jnp.concatenate([
      found.reshape(-1, found.shape[-1]) for found in in_batches(one, split)])
