"""The user's own model, made to look like the lab's."""

import functools
import inspect
from typing import Any, NamedTuple

import jax
from flax import linen as nn, nnx

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.errors import LabError
from gradnorm_optax.lab.models.own_nnx import FromNnx

_STREAM = 'random'  # the collection that the streams' key lives in


class FromLinen(NamedTuple):
  """A Linen module, called with what its `__call__` takes.

  A module that takes `train` may draw random numbers while it is trained
  (dropout): its streams start from a key in the collection 'random', which
  moves on at every step.
  """

  module: nn.Module
  takes_train: bool

  def init(self, key: jax.Array, x: jax.Array, train: bool = False,
           **options: Any) -> Any:
    """Draws the variables."""
    if not self.takes_train:
      return self.module.init(key, x, **options)
    start = jax.random.fold_in(key, 1)
    variables = self.module.init(key, x, train=train, **options)
    return {**variables, _STREAM: {'key': jax.random.key_data(start)}}

  def apply(self, variables: Any, x: jax.Array, train: bool = False,
            mutable: Any = False, **options: Any) -> Any:
    """Calls the module."""
    if not self.takes_train:
      return self.module.apply(variables, x, mutable=mutable, **options)
    variables = dict(variables)
    stream = variables.pop(_STREAM, None)
    if not train or stream is None or mutable is False:
      return self.module.apply(
          variables, x, train=train, mutable=mutable, **options)
    here, after = jax.random.split(jax.random.wrap_key_data(stream['key']))
    outputs, new = self.module.apply(
        variables, x, train=train, rngs=here,
        mutable=[name for name in mutable if name != _STREAM], **options)
    return outputs, {**new, _STREAM: {'key': jax.random.key_data(after)}}


def make(model: schema.Own, outputs: int) -> Any:
  """Calls the user's function and looks at what it returns.

  The function is called as `target(outputs=n, **options)` and returns a Linen
  module or an NNX one. If it takes `rngs`, it is called for every seed with
  `nnx.Rngs` of its own; an NNX model made without them starts every run from
  the same weights, trained ones for example.
  """
  from gradnorm_optax.lab import targets
  given = targets.load(model.target)
  function = functools.partial(given, outputs=outputs, **model.options)
  called: Any = getattr(given, '__init__') if isinstance(given, type) else given
  itself = (None,) if isinstance(given, type) else ()
  try:  # what it raises itself is for its author to see
    signature = inspect.signature(called)
    draws = {'rngs': None} if 'rngs' in signature.parameters else {}
    signature.bind(*itself, outputs=outputs, **model.options, **draws)
  except TypeError as error:
    raise LabError(f'[models] {model.target!r} is called with outputs= and '
                   f'options {dict(model.options)}: {error}') from error
  if draws:
    return FromNnx(lambda rngs: _module(model, function(rngs=rngs)))
  module = _module(model, function())
  if isinstance(module, nnx.Module):
    return FromNnx(None, module)
  return FromLinen(
      module, 'train' in inspect.signature(module.__call__).parameters)


def _module(model: schema.Own, made: Any) -> Any:
  """Refuses what is no module."""
  if isinstance(made, nn.Module | nnx.Module):
    if not callable(made):
      raise LabError(f'[models] {model.target!r}: {type(made).__name__} has no '
                     '__call__')
    return made
  hint = ' (without the parentheses of a call?)' if isinstance(
      made, type) else ''
  raise LabError(f'[models] {model.target!r} returned {type(made).__name__}'
                 f'{hint}, neither a flax.linen.Module nor a flax.nnx.Module')
