"""`[models.NAME]`: what is trained."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from gradnorm_optax.lab.schema.base import (
  PositiveFloat,
  PositiveInt,
  Table,
  complaint,
)


class MLP(Table):
  """A plain perceptron: `depth` hidden layers of `width` units."""

  kind: Literal['mlp']
  """Which model."""
  depth: PositiveInt = 2
  """Hidden layers."""
  width: PositiveInt = 100
  """Units of a layer."""
  activation: Literal['sigmoid', 'tanh', 'relu', 'gelu'] = 'relu'
  """Between layers."""
  start: Literal['balanced', 'unbalanced'] = 'balanced'
  """unbalanced: the same function, with rescaled units."""

  @pydantic.model_validator(mode='after')
  def _rescalable(self) -> 'MLP':
    if self.activation != 'relu':  # the rescaled net would be another function
      self.idle('start', 'activation = "relu"')
    return self


class CNN(Table):
  """A plain convolutional net: `depth` 3x3 layers, halved twice."""

  kind: Literal['cnn']
  """Which model."""
  depth: PositiveInt = 4
  """3x3 layers."""
  width: PositiveInt = 16
  """Channels of a layer."""
  activation: Literal['sigmoid', 'tanh', 'relu', 'gelu'] = 'relu'
  """Between layers."""


class ResNet(Table):
  """A residual net of three stages with `blocks` blocks each."""

  kind: Literal['resnet']
  """Which model."""
  blocks: PositiveInt = 1
  """Blocks of a stage."""
  width: PositiveInt = 16
  """Channels of the first stage."""
  batch_norm: bool = True
  """Whether batches are normalized."""


class Transformer(Table):
  """A small causal pre-LN transformer whose layers are scanned."""

  kind: Literal['transformer']
  """Which model."""
  depth: PositiveInt = 4
  """Layers."""
  width: PositiveInt = 64
  """Features; a multiple of heads."""
  heads: PositiveInt = 4
  """Heads of attention."""
  scan: bool = True
  """Whether layers are stacked and scanned."""
  axis: Literal[0, 1] = 0
  """Where the scanned layers are stacked."""
  remat: bool = False
  """Whether the backward pass computes each layer again, to keep less."""
  tie_embeddings: bool = False
  """Whether the embedding of the symbols is also the output's matrix."""

  @pydantic.model_validator(mode='after')
  def _whole_heads(self) -> 'Transformer':
    if self.width % self.heads:
      raise complaint(f'width ({self.width}) must be a multiple of heads '
                      f'({self.heads})')
    return self


class Own(Table):
  """The user's model: `target(outputs=n, **options)`, Linen or NNX."""

  kind: Literal['target']
  """Which model."""
  target: str
  """A "module:function", Linen or NNX."""
  options: dict[str, Any] = {}
  """Its arguments besides `outputs`."""


class RecurrentNet(Table):
  """A recurrent layer and a linear readout of its last states."""

  kind: Literal['recurrent']
  """Which model."""
  cell: Literal['srn', 'lstm', 'gru'] = 'srn'
  """The recurrent layer."""
  width: PositiveInt = 100
  """Units of the layer."""
  activation: Literal['tanh', 'relu', 'linear'] = 'tanh'
  """Of the srn."""
  init: Literal['glorot', 'orthogonal', 'irnn', 'radius'] = 'glorot'
  """Of the recurrent weights: irnn is the identity, radius a Gaussian matrix of
  that spectral radius."""
  scale: PositiveFloat = 1.0
  """What the recurrent weights are multiplied by."""
  norm: Literal['none', 'weight'] = 'none'
  """weight: weight normalization of the layer."""

  @pydantic.model_validator(mode='after')
  def _own_activation(self) -> 'RecurrentNet':
    if self.activation != 'tanh' and self.cell != 'srn':
      raise complaint('activation belongs to cell = "srn"; lstm and gru have '
                      'theirs')
    return self


class WeightNormNet(Table):
  """A convolutional net whose layers are normalized in one of several ways."""

  kind: Literal['weight_norm_paper', 'weight_norm_small']
  """Which model: the paper's, or a small one."""
  norm: Literal[
      'none', 'weight', 'mean_only', 'weight_mean_only', 'batch'] = 'none'
  """What is normalized."""
  data_init: bool = False
  """Whether g and b come from the first examples."""
  depth: PositiveInt = 4
  """Layers of the small one."""
  width: PositiveInt | None = None
  """Channels; none: 96 in the paper's, 16 in the small one."""

  @pydantic.model_validator(mode='after')
  def _has_lengths(self) -> 'WeightNormNet':
    if self.data_init and 'weight' not in self.norm:
      raise complaint(f'data_init sets g, and norm = {self.norm!r} has none')
    if self.kind != 'weight_norm_small':
      self.idle('depth', 'kind = "weight_norm_small"')
    return self


Model = Annotated[
    MLP | CNN | ResNet | Transformer | RecurrentNet | WeightNormNet | Own,
    Field(discriminator='kind')]
