"""The user's own NNX model, made to look like a Linen module."""

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp

from gradnorm_optax.lab.models import user_signature
from gradnorm_optax.lab.support.errors import LabError

Variables = dict[str, Any]  # {collection: nested dicts of arrays}


class FromNnx:
  """An NNX model with the `init` and `apply` of a Linen module.

  Every `nnx.Param` is in the collection 'params', under the names of the
  attributes that lead to it; other variables are in collections named after
  their types ('batch_stat', 'rng_key', 'rng_count'). Random keys are kept as
  their data, which any checkpoint can hold.

  Attributes:
    module: The model, with shapes for arrays where it is drawn anew.
  """

  def __init__(self, draw: Callable[[nnx.Rngs], nnx.Module] | None,
               module: nnx.Module | None = None):
    """Takes the model apart.

    Args:
      draw: Makes the model from random streams; None for `module` as it is.
      module: A model that every run starts from; it draws from random streams
        of the run all the same.
    """
    self.draw = draw
    self.module: Any = module if draw is None else nnx.eval_shape(
        lambda: draw(nnx.Rngs(0)))
    self._graph, state = nnx.split(self.module)
    self._flat: Any = list(nnx.to_flat_state(state))
    call: Any = self.module
    self._modes = user_signature.modes(call.__call__)
    _check_attributes(self.module)

  @property
  def perturb_shape(self) -> Any:
    """The model's, if it lets its gradient through time be looked at."""
    return self.module.perturb_shape

  def init(self, key: jax.Array, x: jax.Array, train: bool = False,
           **options: Any) -> Variables:
    """Draws the variables; the examples are not needed."""
    del x, train, options
    if self.draw is not None:
      state: Any = nnx.state(self.draw(nnx.Rngs(key)))
      return _nested(nnx.to_flat_state(state))
    bits = jax.random.bits(key)
    return _nested([
        (path, variable.replace(jax.random.fold_in(_value(variable), bits))
         if _is_key(variable) else variable) for path, variable in self._flat])

  def apply(self, variables: Variables, x: jax.Array, train: bool = False,
            mutable: Any = False, **options: Any) -> Any:
    """Calls the model in its mode for training or for evaluation.

    Args:
      variables: As `init` returns them.
      x: The examples.
      train: The mode.
      mutable: False, or the collections to return with the outputs.
      **options: Further arguments of the call.

    Returns:
      The outputs; with `mutable` a pair of them and the new variables.
    """
    model: Any = nnx.merge(self._graph, nnx.from_flat_state(
        [(path, self._filled(variables, path, variable, train))
         for path, variable in self._flat]))
    if train:
      model.train()
    else:
      model.eval()
    outputs = model(x, **options, **user_signature.mode(self._modes, train))
    if mutable is False:
      return outputs
    state: Any = nnx.state(model)
    new = _nested(nnx.to_flat_state(state))
    return outputs, {name: new[name] for name in mutable if name in new}

  def _filled(self, variables: Variables, path: tuple[Any, ...],
              variable: Any, train: bool) -> Any:
    """The variable with its value in `variables`."""
    value: Any = variables
    for name in (_collection(variable), *map(str, path)):
      if name not in value:
        if train or not isinstance(variable, nnx.RngState):
          raise LabError(
              f'this method calls the model without {"/".join(map(str, path))}'
              f' ({type(variable).__name__}); it needs a model of parameters '
              'alone')
        return _unused(variable)  # nothing is drawn in evaluation
      value = value[name]
    if _is_key(variable):
      value = jax.random.wrap_key_data(value, impl=_implementation(variable))
    return variable.replace(value) if isinstance(
        variable, nnx.Variable) else value


def _nested(flat: Any) -> Variables:
  """Returns {collection: nested dicts}, random keys as their data."""
  result: Variables = {'params': {}}
  for path, variable in flat:
    place = result.setdefault(_collection(variable), {})
    for name in path[:-1]:
      place = place.setdefault(str(name), {})
    value = _value(variable)
    place[str(path[-1])] = (
        jax.random.key_data(value) if _is_key(variable) else value)
  return result


def _check_attributes(module: Any) -> None:
  """Refuses attributes that NNX or the lab would lose."""
  for name in ('train', 'eval'):
    if not callable(getattr(module, name)):
      raise LabError(f'[models] {type(module).__name__}.{name} hides the '
                     'method of nnx.Module that sets the mode; rename it')
  for _, node in nnx.iter_graph(module):
    for name, value in getattr(node, '__dict__', {}).items():
      if isinstance(value, jax.core.Tracer):
        raise LabError(f'[models] {type(node).__name__}.{name} is a plain '
                       'array, which NNX loses where a model is made under '
                       'jit; hold it as nnx.Variable(array)')


def _value(variable: Any) -> Any:
  value = variable.get_value() if isinstance(
      variable, nnx.Variable) else variable
  return jnp.asarray(value) if isinstance(value, int | float) else value


def _collection(variable: Any) -> str:
  """The name of a variable's collection: batch_stat of BatchStat."""
  if isinstance(variable, nnx.Param):
    return 'params'
  if not isinstance(variable, nnx.Variable):
    return 'arrays'
  return re.sub(r'(?<!^)(?=[A-Z])', '_', type(variable).__name__).lower()


def _is_key(variable: Any) -> bool:
  dtype = getattr(_value(variable), 'dtype', np.dtype(bool))
  return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _implementation(variable: Any) -> Any:
  """The kind of a random key, of which only the type may be known."""
  found: list[Any] = []
  jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)),
                 _value(variable))
  return found[0]


def _unused(variable: Any) -> Any:
  value = _value(variable)
  if _is_key(variable):
    return variable.replace(jax.random.key(0, impl=_implementation(variable)))
  return variable.replace(jnp.zeros(value.shape, value.dtype))
