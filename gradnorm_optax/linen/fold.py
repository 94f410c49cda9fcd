"""Plain weights from weight-normalized ones, for inference and export."""

import dataclasses
from typing import Any

from flax import linen as nn, traverse_util
from flax.core import FrozenDict, freeze, meta, unfreeze

from gradnorm_optax import _weight_norm_math as math
from gradnorm_optax.linen.weight_norm import WeightNorm, flatten

__all__ = ['fold']


def fold(module: nn.Module, variables: Any) -> tuple[nn.Module, Any]:
  """Replaces g and v by w = g v/||v||.

  Args:
    module: A `WeightNorm`, or a module with some inside.
    variables: Its variables, with the collection 'params'.

  Returns:
    The plain module and its variables: parameters of the same structure as
    those of a model that was never wrapped, and equal outputs. Wrappers held in
    attributes are taken off; those that a module's code creates stay, and run
    parameters without g as plain weights.

  Raises:
    ValueError: There is no g to fold.

  Examples:
    >>> import jax, flax.linen as nn, gradnorm_optax.linen as gnn
    >>> x = jax.numpy.ones((1, 2))
    >>> wrapped = gnn.WeightNorm(nn.Dense(3))
    >>> module, variables = gnn.fold(
    ...     wrapped, wrapped.init(jax.random.key(0), x))
    >>> type(module).__name__, sorted(variables['params'])
    ('Dense', ['bias', 'kernel'])
  """
  frozen = isinstance(variables, FrozenDict)
  variables = unfreeze(variables) if frozen else dict(variables)
  flat = flatten(variables.get('params', {}))
  result = dict(flat)
  for path, g_path, log_scale in pairs(flat):
    v, g = meta.unbox(flat[path]), meta.unbox(result.pop(g_path))
    w = math.weight(v, g, math.reduced_axes(v, g) or (), log_scale)
    result[path] = meta.replace_boxed(flat[path], w)
  if len(result) == len(flat):
    raise ValueError(
        'fold: the parameters hold no weight-normalized layer (no leaf'
        " 'kernel_g' beside a 'kernel').")
  variables['params'] = traverse_util.unflatten_dict(result)
  return _unwrap(module), freeze(variables) if frozen else variables


def pairs(flat: dict[tuple[str, ...], Any]) -> list[Any]:
  """Returns (path of v, path of g, whether it is log g)."""
  result = []
  for path in flat:
    for log_scale in (False, True):
      g_path = path[:-1] + (math.g_name(path[-1], log_scale),)
      if g_path in flat and math.reduced_axes(
          meta.unbox(flat[path]), meta.unbox(flat[g_path])) is not None:
        result.append((path, g_path, log_scale))
  return result


def _unwrap(node: Any) -> Any:
  if isinstance(node, WeightNorm):
    return _unwrap(node.layer)
  if isinstance(node, nn.Module):
    fields = [f.name for f in dataclasses.fields(node)
              if f.init and f.name not in ('parent', 'name')]
    old = {name: getattr(node, name) for name in fields}
    new = {name: _unwrap(value) for name, value in old.items()}
    changed = {name: new[name] for name in fields
               if new[name] is not old[name]}
    return node.clone(**changed) if changed else node
  if isinstance(node, (list, tuple)) and not hasattr(node, '_fields'):
    parts = [_unwrap(value) for value in node]
    same = all(a is b for a, b in zip(parts, node, strict=True))
    return node if same else type(node)(parts)
  if isinstance(node, dict):
    items = {key: _unwrap(value) for key, value in node.items()}
    return node if all(items[k] is node[k] for k in node) else items
  return node
