"""Keeps examples cut over the devices of a run, wherever they are computed."""

from typing import Any

import jax
from jax.sharding import PartitionSpec

ROWS = ('data', 'fsdp')  # the mesh axes that cut a batch, together


def rows(tree: Any, axis: int = 0) -> Any:
  """Cuts arrays of examples over the mesh that is traced for, if there is one.

  Args:
    tree: Arrays.
    axis: Theirs of the examples.
  """
  if not set(ROWS) <= set(jax.sharding.get_abstract_mesh().axis_names):
    return tree
  spec = PartitionSpec(*([None] * axis), ROWS)
  return jax.tree.map(
      lambda a: jax.lax.with_sharding_constraint(a, spec), tree)
