"""Plain weights from weight-normalized ones, for inference and export."""

import collections
from typing import Any

from flax import nnx

from gradnorm_optax.nnx.weight_norm import WeightNorm, formed, weights

__all__ = ['fold']


def fold(model: Any) -> Any:
  """Replaces g and v by w = g v/||v||, and takes the wrappers off.

  Args:
    model: A `WeightNorm`, or a module with some inside. It is not changed.

  Returns:
    A copy as it would be had nothing been wrapped: the same graph and parameter
    tree, with equal outputs.

  Raises:
    ValueError: There is nothing to fold, or a weight is used outside its
      `WeightNorm` too.

  Examples:
    >>> import gradnorm_optax.nnx as gnn
    >>> from flax import nnx
    >>> wrapped = gnn.WeightNorm(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> plain = gnn.fold(wrapped)
    >>> type(plain).__name__, sorted(nnx.state(plain, nnx.Param))
    ('Linear', ['bias', 'kernel'])
  """
  model = nnx.clone(model)
  nodes = [node for _, node in nnx.iter_graph(model)]
  wrappers = [node for node in nodes if isinstance(node, WeightNorm)]
  if not wrappers:
    raise ValueError(
        'fold: the model holds no gradnorm_optax.nnx.WeightNorm.')
  places = collections.Counter(
      id(value) for node in nodes if isinstance(node, nnx.Module)
      for value in vars(node).values())
  outside = _outside(model, wrappers)
  for wrapper in wrappers:
    for weight in weights(wrapper):
      if id(weight.v) in outside or (
          places[id(weight.v)] > len(weight.holders)):
        raise ValueError(
            f'fold: {weight.path!r} is used outside its WeightNorm too, where'
            ' it would become w. Put both uses into one WeightNorm.')
      w = formed(wrapper, weight)
      weight.v.set_value(w.astype(weight.v[...].dtype))
      delattr(weight.owner, weight.g_name)
  for node in nodes:
    if isinstance(node, nnx.Module):
      for name, value in list(vars(node).items()):
        bare = _unwrap(value)
        if bare is not value:
          setattr(node, name, bare)
  return _unwrap(model)


def _outside(model: Any, wrappers: list[WeightNorm]) -> set[int]:
  """Returns ids of what can be reached without entering a wrapper."""
  layers = [wrapper.layer for wrapper in wrappers]
  for wrapper in wrappers:
    vars(wrapper)['layer'] = None
  found = {id(node) for _, node in nnx.iter_graph(model)}
  for wrapper, layer in zip(wrappers, layers, strict=True):
    vars(wrapper)['layer'] = layer
  return found


def _unwrap(node: Any) -> Any:
  """Returns the node without wrappers at its top and in plain containers."""
  if isinstance(node, WeightNorm):
    return _unwrap(node.layer)
  if type(node) in (list, tuple):
    parts = [_unwrap(value) for value in node]
    same = all(a is b for a, b in zip(parts, node, strict=True))
    return node if same else type(node)(parts)
  if type(node) is dict:
    items = {key: _unwrap(value) for key, value in node.items()}
    return node if all(items[k] is node[k] for k in node) else items
  return node
