"""Plain weights from weight-normalized ones, for inference and export."""

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn, traverse_util
from flax.core import FrozenDict, freeze, meta, unfreeze

from gradnorm_optax import _weight_norm_math as math
from gradnorm_optax.linen.weight_norm import WeightNorm, flatten

__all__ = ['fold']

Path = tuple[str, ...]


def fold(module: nn.Module, variables: Any) -> tuple[nn.Module, Any]:
  """Replaces g and v by w = g v/||v||.

  g is known by its name: a parameter `X_g` (`X_log_g`) beside an `X`, of size 1
  or of X's size along every axis. Give parameters of your own other names.

  Args:
    module: A `WeightNorm`, or a module with some inside.
    variables: Its variables, with the collection 'params'.

  Returns:
    The plain module and its variables: parameters of the same structure as
    those of a model that was never wrapped, and equal outputs. Wrappers held in
    attributes are taken off, and the weights rounded to the `dtype` of each.
    Those that a module's code creates stay, and run parameters without g as
    plain weights; with a `dtype` of their own outputs differ by its rounding.

  Raises:
    ValueError: There is no g to fold, or no collection 'params'.

  Examples:
    >>> import jax, flax.linen as nn, gradnorm_optax.linen as gnn
    >>> x = jax.numpy.ones((1, 2))
    >>> wrapped = gnn.WeightNorm(nn.Dense(3))
    >>> module, variables = gnn.fold(
    ...     wrapped, wrapped.init(jax.random.key(0), x))
    >>> type(module).__name__, sorted(variables['params'])
    ('Dense', ['bias', 'kernel'])
  """
  flat = params_of(variables, 'fold')
  frozen = isinstance(variables, FrozenDict)
  variables = unfreeze(variables) if frozen else dict(variables)
  result, wrappers = dict(flat), _wrappers(module, variables)
  for path, g_path, log_scale in pairs(flat):
    v, g = meta.unbox(flat[path]), meta.unbox(result.pop(g_path))
    dtype = _dtype(wrappers, path)
    w = math.weight(v, g, math.reduced_axes(v, g) or (), log_scale, dtype)
    result[path] = meta.replace_boxed(flat[path], w.astype(v.dtype))
  if len(result) == len(flat):
    raise ValueError(
        'fold: the parameters hold no weight-normalized layer (no leaf'
        " 'kernel_g' beside a 'kernel').")
  variables['params'] = traverse_util.unflatten_dict(result)
  return _unwrap(module), freeze(variables) if frozen else variables


def params_of(variables: Any, name: str) -> dict[Path, Any]:
  """Returns the parameters by path; else says that there are none."""
  if not isinstance(variables, Mapping) or 'params' not in variables:
    raise ValueError(
        f"{name}: `variables` has no collection 'params'. Pass what"
        " `module.init` returned, or {'params': params}.")
  return flatten(variables['params'])


def _wrappers(module: nn.Module, variables: Any) -> dict[Path, WeightNorm]:
  """Returns by path the wrappers held in attributes."""
  found: dict[Path, WeightNorm] = {}

  def visit(node):
    if isinstance(node, WeightNorm):
      found[node.path] = node
    for field in dataclasses.fields(node):
      if field.init and field.name not in ('parent', 'name'):
        for child in jax.tree.leaves(
            getattr(node, field.name),
            is_leaf=lambda held: isinstance(held, nn.Module)):
          if isinstance(child, nn.Module) and child.scope is not None:
            visit(child)

  visit(module.bind(variables))
  # A wrapper's parameters are those of its layer: no level is its own.
  return {tuple(name for n, name in enumerate(path) if path[:n] not in found):
          wrapper for path, wrapper in found.items()}


def _dtype(wrappers: dict[Path, WeightNorm], path: Path) -> Any:
  """Returns the dtype in which a wrapper gives this parameter to its layer."""
  for start in sorted(wrappers, key=len, reverse=True):
    inside = '/'.join(path[len(start):])
    where = math.check_where(wrappers[start].where, 'fold')
    if path[:len(start)] == start and any(
        fnmatch.fnmatchcase(inside, glob) for glob in where):
      return wrappers[start].dtype
  return None


def pairs(flat: dict[Path, Any]) -> list[Any]:
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
  if isinstance(node, (list, tuple)):
    parts = [_unwrap(value) for value in node]
    if all(a is b for a, b in zip(parts, node, strict=True)):
      return node
    named = hasattr(node, '_fields')
    return type(node)(*parts) if named else type(node)(parts)
  if isinstance(node, (dict, FrozenDict)):
    items = {key: _unwrap(value) for key, value in node.items()}
    same = all(items[key] is node[key] for key in node)
    return node if same else type(node)(items)
  return node
