"""Whether a model's outputs are what its loss expects."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training.problem import FIRST_BATCH, Problem


def check(problem: Problem, train: schema.Train, params: Any,
          extra: Any, jit: Callable[..., Any] = jax.jit) -> None:
  """Refuses probabilities where scores before any softmax are expected.

  A softmax twice still trains, slowly and to a loss that never comes near zero.
  `jit` compiles for the devices of the parameters.
  """
  labels = problem.dataset.train
  if labels.y.dtype.kind not in 'iu' or train.loss not in (
      'auto', 'cross_entropy'):
    return
  part = jax.tree.map(lambda a: a[:FIRST_BATCH], labels)
  found = np.asarray(jit(
      lambda p, e: problem.outputs(p, e, part.x, part.lengths, train=False))(
          params, extra), np.float32)
  if found.shape[-1] > 1 and (found >= 0).all() and (
      np.abs(found.sum(-1) - 1) < 1e-2).all():
    raise LabError(
        f'{problem.named} returns probabilities (none below 0, and every row '
        'sums to 1), but its loss takes scores before any softmax; leave the '
        'softmax out, or give [train] a loss of your own')
