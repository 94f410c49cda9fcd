"""What a score is computed of, example by example, and the score of it.

A finished comparison is judged from these arrays alone, without model and
data, and resampled by their rows.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from gradnorm_optax.lab.objective.objective import Objective


def of(objective: Objective, outputs: ArrayLike, y: ArrayLike,
       lengths: ArrayLike | None, spread: ArrayLike | None) -> jax.Array:
  """What the score is computed of.

  Args:
    objective: The score.
    outputs: The model's, float32; shape (B, ...).
    y: The labels.
    lengths: Positions of each sequence that are no padding, or None.
    spread: What the score must know of the whole part.

  Returns:
    Float32, shape (B, 2): the sum of an example's scores, and how many labels
    it has.
  """
  scores = objective.scores(outputs, y, lengths, spread)
  mask = objective.mask(y, lengths)
  held = jnp.ones(scores.shape, jnp.float32) if mask is None else mask
  axes = tuple(range(1, scores.ndim))
  return jnp.stack([scores.sum(axes), held.sum(axes).astype(jnp.float32)], 1)


def mean(found: np.ndarray) -> float:
  """The mean over the labels of some examples; NaN where they have none."""
  total, count = found.sum(0, dtype=np.float64)
  return float(total / count) if count else float('nan')


# How the rows of such an array become one score, by the name of the rule.
RULES: dict[str, Callable[[np.ndarray], float]] = {'mean': mean}
