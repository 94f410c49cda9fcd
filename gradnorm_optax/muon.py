"""The axes of a tree for `optax.contrib.muon`."""

from typing import Any

import jax

from gradnorm_optax import _tree
from gradnorm_optax._layout import resolve
from gradnorm_optax._muon import Numbers

__all__ = ['muon_dimension_numbers']


def muon_dimension_numbers(params: Any, blocks: Any = 'leaf') -> Any:
  """Returns the table of axes that `optax.contrib.muon` needs for a tree.

  muon takes every matrix for (in, out) and everything else for a vector, unless
  `muon_weight_dimension_numbers` says otherwise: here is that table, from the
  fan-in axes, outputs and layer axes that every transformation of this library
  goes by.

  Make the table once, of all parameters: muon calls a function in its place
  with a part of the tree, where the biases that tell are hidden.

  Args:
    params: Parameters, arrays or `jax.ShapeDtypeStruct`.
    blocks: A `gn.Blocks` or one of its kinds; only its axes and its `skip`
      matter.

  Returns:
    A tree like `params` of `optax.contrib.MuonDimensionNumbers`: fan-in as
    reduction axes, outputs as output axes; layer axes are named by neither.
    None for vectors, skipped leaves and holes: muon gives those to Adam.

  Raises:
    ValueError: An array of rank >= 2 has no known fan-in axes.
    TypeError: A leaf is not a floating-point array.

  Examples:
    >>> import gradnorm_optax as gn, jax, optax
    >>> shape = lambda *axes: jax.ShapeDtypeStruct(axes, 'float32')
    >>> params = {'query': {'kernel': shape(8, 2, 4), 'bias': shape(2, 4)}}
    >>> table = gn.muon_dimension_numbers(params)
    >>> table['query']['kernel']
    MuonDimensionNumbers(reduction_axis=(0,), output_axis=(1, 2))
    >>> tx = optax.contrib.muon(
    ...     1e-3, muon_weight_dimension_numbers=table)
  """
  layout = resolve(blocks, params, 'muon_dimension_numbers', fan_in=True)
  table: list[Any] = [None] * len(layout.specs)
  for index in layout.active:
    spec = layout.spec(index)
    outputs = tuple(a for a in range(len(spec.shape))
                    if a not in (*spec.stack, *spec.inputs))
    if spec.rank >= 2 and spec.inputs and outputs:
      table[index] = Numbers(spec.inputs, outputs)
  return jax.tree.unflatten(_tree.flatten(params)[1], table)
