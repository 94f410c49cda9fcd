"""The gradient through time of a recurrent problem."""

import functools
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from gradnorm_optax import sgr
from gradnorm_optax.lab.data.dataset import Split
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.support.json_safe import numbers
from gradnorm_optax.lab.training.problem import Problem

LOOKED_AT = 50  # validation examples of a profile


def has_time(problem: Problem) -> bool:
  """Whether the gradient can be followed back through time.

  The model must take `perturb`, added to its pre-activations, and hold nothing
  but parameters (no dropout, no batch statistics); the sequences must end
  together: steps are counted from the last one.
  """
  return hasattr(problem.module, 'perturb_shape') and (
      problem.dataset.train.lengths is None) and not problem.held()


def shape(problem: Problem, x: Any) -> tuple[int, int, int]:
  """The shape of `perturb` for inputs: (steps, examples, pre-activations)."""
  if problem.dataset.train.lengths is not None:
    raise LabError(
        'sampling and pascanu count steps from the end of a sequence, and '
        'these are of unequal length; cut them to one length')
  if not hasattr(problem.module, 'perturb_shape'):
    raise LabError(
        'sampling and pascanu need a recurrent model, whose gradient through '
        'time can be looked at: kind = "recurrent", or your own whose __call__ '
        'takes `perturb` and which has `perturb_shape(steps, batch)`')
  held = problem.held()
  if held:
    raise LabError(
        'sampling and pascanu look at a model by its parameters alone, and '
        f'{problem.named} also holds {", ".join(held)}; train it '
        'without dropout and batch statistics, or without them')
  image: Any = getattr(problem.module, 'image', None)
  flat = image is not None and jnp.issubdtype(x.dtype, jnp.floating)
  return problem.module.perturb_shape(
      image[0] if flat else x.shape[1], len(x))


def per_example_loss(problem: Problem) -> sgr.norms.PerExampleLoss:
  """Returns `loss(params, split, perturb) -> (B,)`, what `gn.sgr` takes."""
  def loss(params: Any, part: Split, perturb: jax.Array) -> jax.Array:
    return by_example(problem, problem.outputs(
        params, {}, part.x, train=False, perturb=perturb), part)
  return loss


def by_example(problem: Problem, outputs: jax.Array,
               part: Split) -> jax.Array:
  """The loss of each example, the mean over its labels: (B,)."""
  return problem.dataset.objective.by_example(
      outputs.astype(jnp.float32), part.y.astype(jnp.int32) if (
          jnp.issubdtype(part.y.dtype, jnp.unsignedinteger)) else part.y)


def profile(problem: Problem, params: Any, part: Split) -> jax.Array:
  """Computes log10 of the mean norm of delta(k) at every step k: (T,)."""
  few = jax.tree.map(lambda a: a[:LOOKED_AT], part)
  wide = shape(problem, few.x)
  found = sgr.deltas(per_example_loss(problem), params, few, wide)
  measure = functools.partial(sgr.long_term_log_norm, found)
  return jax.lax.map(measure, jnp.arange(wide[0] - 1, -1, -1))


def moments(profiles: np.ndarray, every: int,
            count: int = 4) -> dict[str, list[float | None]]:
  """Keeps the profiles of a few moments of a run.

  Args:
    profiles: One row for every evaluation; (evaluations, T).
    every: Steps between evaluations.
    count: How many are kept, the first and the last among them.

  Returns:
    {step: log10 norms}, rounded; None where a norm is zero or not finite.
  """
  rows = np.unique(np.linspace(0, len(profiles) - 1, count).round().astype(int))
  return {str(int((row + 1) * every)): numbers(profiles[row]) for row in rows}
