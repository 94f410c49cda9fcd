"""The norm of every block of a model."""

from typing import Any

import gradnorm_optax as gn
from gradnorm_optax.lab.training.problem import Problem


def norms(problem: Problem, tree: Any) -> dict[str, Any]:
  """The norm of every layer in a tree like the parameters.

  Returns:
    {layer: norm}, or an array of norms where layers are stacked.
  """
  blocks = gn.Blocks(by='layer', stacked=dict(problem.context.stacked))
  recorder = gn.record_block_norms('block', blocks)
  _, state = recorder.update(tree, recorder.init(tree))
  return gn.block_norms(state, 'block')
