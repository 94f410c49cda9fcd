"""The user's own model, made to look like the lab's."""

import functools
import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flax import linen as nn, nnx

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.models import user_signature
from gradnorm_optax.lab.models.user_linen import FromLinen
from gradnorm_optax.lab.models.user_nnx import FromNnx
from gradnorm_optax.lab.support.errors import LabError


def make(model: schema.Own, outputs: int, dtype: Any = None,
         facts: Mapping[str, Any] = MappingProxyType({})) -> Any:
  """Calls the user's function and looks at what it returns.

  The function is called as `target(outputs=n, **options)` and returns a Linen
  module or an NNX one. If it takes `rngs`, it is called for every seed with
  `nnx.Rngs` of its own; an NNX model made without them starts every run from
  the same weights, trained ones for example. It is also told those of `facts`
  that it names: an NNX layer must know the shape of its inputs.

  Args:
    model: The table that names the function.
    outputs: What the model returns for each example.
    dtype: Of the computation where it is not float32; the function must take it
      then.
    facts: What may be known of the examples: their `input_shape` without the
      batch, and how many `symbols` there are (None where they are numbers).

  Raises:
    LabError: A function or a module that cannot be called like this.
  """
  from gradnorm_optax.lab.support import user_code
  here = f'[models] {model.target!r}'
  given = user_code.resolve(model.target)
  if not callable(given):
    raise LabError(f'{here} is {type(given).__name__}, not a function')
  for name in ('outputs', 'rngs'):
    if name in model.options:
      raise LabError(f'{here}: options.{name}: the lab gives {name} itself; '
                     'leave it out')
  options = dict(model.options)
  if dtype is not None and 'dtype' not in options:
    options['dtype'] = dtype
  called: Any = getattr(given, '__init__') if isinstance(given, type) else given
  itself = (None,) if isinstance(given, type) else ()
  try:
    signature = inspect.signature(called)
    if 'dtype' in options and 'dtype' not in model.options and (
        'dtype' not in signature.parameters):
      raise LabError(f'[train] dtype = "{dtype}": {here} takes no dtype; let '
                     'its function take it and hand it to the layers')
    draws = {'rngs': None} if 'rngs' in signature.parameters else {}
    options = {name: value for name, value in facts.items()
               if name in signature.parameters} | options
    signature.bind(*itself, outputs=outputs, **options, **draws)
  except TypeError as error:
    raise LabError(f'{here} is called with outputs= and options {options}: '
                   f'{error}') from error
  function = functools.partial(given, outputs=outputs, **options)
  with user_code.telling(f'{here}, called with outputs={outputs},'):
    if draws:
      return FromNnx(
          lambda rngs: _module(here, function(rngs=rngs), nnx.Module))
    module = _module(here, function())
  if isinstance(module, nnx.Module):
    return FromNnx(None, module)
  return FromLinen(module, user_signature.modes(module.__call__))


def _module(here: str, made: Any, kind: Any = nn.Module | nnx.Module) -> Any:
  """Refuses what is no module, or cannot be called as one."""
  if isinstance(made, nn.Module) and not isinstance(made, kind):
    raise LabError(f'{here} takes rngs, which are for NNX models, and returned '
                   'a flax.linen.Module; leave rngs out')
  if isinstance(made, kind):
    if not callable(made):
      raise LabError(f'{here}: {type(made).__name__} has no __call__')
    user_signature.check(f'{here}: {type(made).__name__}', made.__call__)
    return made
  hint = ' (without the parentheses of a call?)' if isinstance(
      made, type) else ''
  raise LabError(f'{here} returned {type(made).__name__}{hint}, neither a '
                 'flax.linen.Module nor a flax.nnx.Module')
