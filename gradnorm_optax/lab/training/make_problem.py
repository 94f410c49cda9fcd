"""Joins a model with the data, where they fit."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from flax import errors, linen as nn

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.dataset import Dataset
from gradnorm_optax.lab.methods import registry
from gradnorm_optax.lab.models import nets
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training.problem import Problem


def takes_lengths(module: Any) -> tuple[bool, bool]:
  """Whether a model's `__call__` takes `lengths`, and has no default for it."""
  wrapped = getattr(module, 'module', None)  # of the user's own, as it is
  called = module if wrapped is None or isinstance(module, nn.Module) else (
      wrapped)
  found = inspect.signature(type(called).__call__).parameters.get('lengths')
  return found is not None, found is not None and found.default is found.empty


def join(model: schema.Model, dataset: Dataset,
          dtype: str = 'float32') -> Problem:
  """Joins a model's table with the data; `dtype` is the computation's."""
  x = dataset.train.x
  every = dataset.objective.positions
  _check_kind(model, dataset)
  module, stacked = nets.make(
      model, dataset.outputs, dataset.image, jnp.dtype(dtype),
      inputs=dataset.symbols, readout=x.shape[1] if every else dataset.readout,
      shape=x.shape[1:])
  takes, needs = takes_lengths(module)
  if dataset.train.lengths is not None and not (
      takes or dataset.objective.positions):
    raise LabError(
        'the sequences are of unequal length and this model is not told how '
        'long they are: padding would change its answers. Take `lengths` in '
        "the model's __call__, or cut the sequences to one length")

  named = (f'[models] {model.target!r}' if isinstance(model, schema.Own)
           else f'[models] kind = "{model.kind}"')

  def apply_fn(params: Any, x: jax.Array) -> jax.Array:
    try:
      out: Any = module.apply({'params': params}, x, train=False)
    except errors.ScopeCollectionNotFound as error:
      raise LabError(
          f'{named} has other variables than parameters (batch statistics?), '
          'without which this method calls it; take another model') from error
    return out

  example = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
  return Problem(module, dataset, registry.Context(stacked, apply_fn, example),
                 getattr(model, 'start', 'balanced'), takes, named, needs)


def _check_kind(model: schema.Model, dataset: Dataset) -> None:
  """Refuses examples that are nothing to a kind of model."""
  x, here = dataset.train.x, f'[models] kind = "{model.kind}"'
  if isinstance(model, schema.RecurrentNet) and (
      x.ndim < 3 and dataset.symbols is None and dataset.image is None):
    raise LabError(
        f'{here}: a recurrent net reads sequences, and an example here has '
        f'shape {x.shape[1:]}: give (T, channels) or integer symbols (T,) '
        '(data.symbols), or take another kind of model')
  if isinstance(model, schema.CNN | schema.ResNet | schema.WeightNormNet):
    shape = dataset.image or x.shape[1:]
    if len(shape) != 3:
      raise LabError(
          f'{here} needs pictures, and an example here has shape {shape}: give '
          'arrays of shape (height, width, channels), or take kind = "mlp"')
    if shape[0] in (1, 3) and shape[1] == shape[2] > 4:
      raise LabError(f'{here}: pictures of shape {shape} have their channels '
                     'first; move them last with numpy.moveaxis(x, 1, -1)')
    if min(shape[:2]) < (least := _least(model)):
      raise LabError(f'{here}: pictures of shape {shape} are too small; it '
                     f'needs {least} rows and columns')
  if isinstance(model, schema.Transformer) and not (
      dataset.symbols and dataset.objective.positions
      and dataset.train.y.dtype.kind in 'iu'):
    raise LabError(
        f'{here} predicts the next symbol: give integer symbols (T,) '
        '(data.symbols) with a class for each position, or take another kind '
        'of model')


def _least(model: Any) -> int:
  """How many rows and columns a convolutional net needs to keep one."""
  if model.kind == 'cnn':
    pools = {model.depth // 3, 2 * model.depth // 3} - {0, model.depth}
    return 2 ** len(pools)
  return {'weight_norm_paper': 12, 'weight_norm_small': 2}.get(model.kind, 1)
