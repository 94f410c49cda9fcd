"""Which arrays of a model a method acts on."""

import math
from typing import Any, NamedTuple

import jax
import optax

import gradnorm_optax as gn
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods.registry import (
  NORMALIZERS,
  OPTIMIZERS,
  WRAPPERS,
  Context,
  blocks,
)


class Scope(NamedTuple):
  """What one part of a method acts on.

  Attributes:
    part: The part's name.
    arrays: How many arrays it acts on.
    share: The share of all parameters that these hold.
    left: Paths of the arrays that it leaves as they are.
  """

  part: str
  arrays: int
  share: float
  left: tuple[str, ...]

  @property
  def partial(self) -> bool:
    """Whether it leaves out most of the parameters."""
    return self.share < 0.5

  def text(self) -> str:
    """One line.

    >>> Scope('weight_normalized', 1, 0.25, ('wrec', 'win')).text()
    'weight_normalized acts on 1 of 3 arrays, 25% of the parameters; not on \
wrec, win'
    """
    count = self.arrays + len(self.left)
    told = (f'{self.part} acts on {self.arrays} of {count} arrays, '
            f'{self.share:.0%} of the parameters')
    if not self.left:
      return told
    few = ', '.join(self.left[:6]) + (', ...' if len(self.left) > 6 else '')
    return f'{told}; not on {few}'


def scopes(method: schema.Method, params: Any,
           context: Context) -> tuple[Scope, ...]:
  """What the parts of a method act on; of optax's own optimizers nothing.

  Args:
    method: The method's table.
    params: The parameters, arrays or shapes.
    context: What the method may know about the model.
  """
  row = OPTIMIZERS.get(method.optimizer)
  own = row.blocks if row and row.bare else None
  if not method.normalize and own is None and method.wrap is None:
    return ()
  found = []
  # By the method's own table: stacked layers are told, and leave no doubt.
  sizes = {row.path: math.prod(row.shape) for row in gn.explain(
      params, blocks(method, 'leaf', context, shared=True)).rows}

  def add(part: str, acted: set[str]) -> None:
    total = sum(sizes.values()) or 1
    found.append(Scope(
        part, len(acted), sum(sizes[path] for path in acted) / total,
        tuple(path for path in sizes if path not in acted)))

  for name in method.normalize:
    default = NORMALIZERS[name].blocks
    if default is not None:
      add(name, _in_blocks(params, blocks(method, default, context)))
  if own is not None:
    add(method.optimizer, _in_blocks(
        params, blocks(method, own, context, bool(method.normalize))))
  if method.wrap is not None:
    tx = WRAPPERS[method.wrap].make(optax.identity(), method, context)
    # A number for each unit of each array that it acts on, by path.
    add(method.wrap, set(jax.eval_shape(tx.init, params)[0]))
  return tuple(found)


def _in_blocks(params: Any, given: gn.Blocks) -> set[str]:
  """Paths of the arrays that are in some block."""
  return {row.path for row in gn.explain(params, given).rows
          if row.block != '-'}
