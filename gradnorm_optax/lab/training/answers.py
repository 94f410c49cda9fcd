"""What a model answers on a part of the data, example by example."""

from typing import Any

import jax
from jax import numpy as jnp

from gradnorm_optax.lab.data.dataset import Split
from gradnorm_optax.lab.objective import evidence
from gradnorm_optax.lab.training.problem import EVALUATION_BATCH, Problem


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

  rows = len(split.y)
  whole = rows - rows % EVALUATION_BATCH
  found = []
  if whole:
    found.append(jax.lax.map(one, jax.tree.map(
        lambda a: a[:whole].reshape(-1, EVALUATION_BATCH, *a.shape[1:]), split)
        ).reshape(whole, -1))
  if rows > whole:
    found.append(one(jax.tree.map(lambda a: a[whole:], split)))
  return jnp.concatenate(found)
