"""Over which manual mesh axes values differ, as far as JAX tracks it."""

from typing import Any

import jax
from jax import lax


def varying(array: Any) -> frozenset[Any]:
  """Returns the mesh axes over which an array differs between devices."""
  aval: Any = jax.typeof(array)
  if hasattr(aval, 'manual_axis_type'):
    return frozenset(aval.manual_axis_type.varying)
  return frozenset(aval.vma)  # JAX below 0.10


def tracked(axis: Any) -> bool:
  """Tells whether JAX knows what varies over a mesh axis.

  Not with `check_vma=False`, nor in `pmap`.
  """
  return axis in varying(lax.axis_index(axis))
