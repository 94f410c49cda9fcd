"""The user's own Linen module, made to look like the lab's."""

import inspect
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.errors import LabError


class Plain(NamedTuple):
  """A module that does not care whether it is being trained."""

  module: nn.Module

  def init(self, key: jax.Array, x: jax.Array, train: bool = False,
           **options: Any) -> Any:
    """Draws the variables."""
    del train
    return self.module.init(key, x, **options)

  def apply(self, variables: Any, x: jax.Array, train: bool = False,
            **options: Any) -> Any:
    """Calls the module."""
    del train
    return self.module.apply(variables, x, **options)


def make(model: schema.Own, outputs: int) -> Any:
  """Calls the user's function and looks at what it returns."""
  from gradnorm_optax.lab import methods
  try:
    module = methods.target(model.target)(outputs=outputs, **model.options)
  except TypeError as error:
    raise LabError(f'[models] {model.target!r} is called with outputs= and '
                   f'options {dict(model.options)}: {error}') from error
  if not isinstance(module, nn.Module):
    raise LabError(f'[models] {model.target!r} returned '
                   f'{type(module).__name__}, not a flax.linen.Module')
  known = inspect.signature(module.__call__).parameters
  return module if 'train' in known else Plain(module)
