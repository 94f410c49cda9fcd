"""Small Flax models of any depth, built from a `[models.NAME]` table."""

import functools
from typing import Any, NamedTuple

from flax import linen as nn
from jax import numpy as jnp

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.models import (
  convolutional,
  perceptron,
  recurrent,
  transformer,
  user_model,
  weight_norm_nets,
)


class Net(NamedTuple):
  """A model and what methods should know about its parameters.

  Attributes:
    module: A Linen module called as `module(x, train)`.
    stacked: {glob: axis} of parameters that carry a layer axis.
  """

  module: nn.Module
  stacked: dict[str, int]


def make(model: Any, classes: int,
          image: tuple[int, int, int] | None,
          dtype: Any = None, *, inputs: int | None = None,
          readout: int | None = None,
          shape: tuple[int, ...] | None = None) -> Net:
  """Builds the Flax module of a model's table.

  Args:
    model: The table.
    classes: Number of outputs.
    image: Height, width and channels where flat examples are pictures.
    dtype: Of the computation.
    inputs: Number of symbols, for recurrent models of integers.
    readout: How many last steps a recurrent model answers, (B, readout,
      classes); None for one answer, (B, classes).
    shape: Of one example.
  """
  if isinstance(model, schema.MLP):
    return Net(perceptron.MLP(
        model.depth, model.width, model.activation, classes, dtype), {})
  if isinstance(model, schema.CNN):
    return Net(convolutional.CNN(
        model.depth, model.width, model.activation, classes, image, dtype), {})
  if isinstance(model, schema.ResNet):
    return Net(convolutional.ResNet(
        model.blocks, model.width, model.batch_norm, classes, image, dtype), {})
  if isinstance(model, schema.Transformer):
    return Net(transformer.Transformer(
        model.depth, model.width, model.heads, classes, model.scan,
        model.axis, dtype, model.remat, model.tie_embeddings), {
            'layers/*': model.axis} if model.scan else {})
  if isinstance(model, schema.RecurrentNet):
    options: Any = model.model_dump(exclude={'kind', 'init'})
    return Net(recurrent.Recurrent(
        classes, inputs, start=model.init, readout=readout, image=image,
        dtype=dtype, **options), {})
  if isinstance(model, schema.WeightNormNet):
    kind: Any = (
        weight_norm_nets.PaperNet if model.kind == 'weight_norm_paper' else
        functools.partial(weight_norm_nets.SmallNet, depth=model.depth))
    options = {} if model.width is None else {'width': model.width}
    return Net(kind(
        classes, model.norm, model.data_init, image, dtype, **options), {})
  if isinstance(model, schema.Own):
    narrow = dtype if dtype != jnp.float32 else None
    return Net(user_model.make(
        model, classes, narrow, {'input_shape': shape, 'symbols': inputs}), {})
  raise TypeError(type(model))
