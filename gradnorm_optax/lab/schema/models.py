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
  depth: PositiveInt = 2
  width: PositiveInt = 100
  activation: Literal['sigmoid', 'tanh', 'relu', 'gelu'] = 'relu'
  start: Literal['balanced', 'unbalanced'] = 'balanced'

  @pydantic.model_validator(mode='after')
  def _rescalable(self) -> 'MLP':
    if self.activation != 'relu':  # the rescaled net would be another function
      self.idle('start', 'activation = "relu"')
    return self


class CNN(Table):
  """A plain convolutional net: `depth` 3x3 layers, halved twice."""

  kind: Literal['cnn']
  depth: PositiveInt = 4
  width: PositiveInt = 16
  activation: Literal['sigmoid', 'tanh', 'relu', 'gelu'] = 'relu'


class ResNet(Table):
  """A residual net of three stages with `blocks` blocks each."""

  kind: Literal['resnet']
  blocks: PositiveInt = 1
  width: PositiveInt = 16
  batch_norm: bool = True


class Transformer(Table):
  """A small causal pre-LN transformer whose layers are scanned."""

  kind: Literal['transformer']
  depth: PositiveInt = 4
  width: PositiveInt = 64
  heads: PositiveInt = 4
  scan: bool = True
  axis: Literal[0, 1] = 0  # where the scanned layers are stacked

  @pydantic.model_validator(mode='after')
  def _whole_heads(self) -> 'Transformer':
    if self.width % self.heads:
      raise complaint(f'width ({self.width}) must be a multiple of heads '
                      f'({self.heads})')
    return self


class Own(Table):
  """The user's model: `target(outputs=n, **options)`, Linen or NNX."""

  kind: Literal['target']
  target: str
  options: dict[str, Any] = {}


class RecurrentNet(Table):
  """A recurrent layer and a linear readout of its last states."""

  kind: Literal['recurrent']
  cell: Literal['srn', 'lstm', 'gru'] = 'srn'
  width: PositiveInt = 100
  activation: Literal['tanh', 'relu', 'linear'] = 'tanh'  # of the srn
  # Of the recurrent weights: irnn is the identity, radius a Gaussian matrix
  # of that spectral radius; all times `scale`.
  init: Literal['glorot', 'orthogonal', 'irnn', 'radius'] = 'glorot'
  scale: PositiveFloat = 1.0
  norm: Literal['none', 'weight'] = 'none'

  @pydantic.model_validator(mode='after')
  def _own_activation(self) -> 'RecurrentNet':
    if self.activation != 'tanh' and self.cell != 'srn':
      raise complaint('activation belongs to cell = "srn"; lstm and gru have '
                      'theirs')
    return self


class WeightNormNet(Table):
  """A convolutional net whose layers are normalized in one of several ways."""

  kind: Literal['weight_norm_paper', 'weight_norm_small']
  norm: Literal[
      'none', 'weight', 'mean_only', 'weight_mean_only', 'batch'] = 'none'
  data_init: bool = False  # g and b from the first examples
  depth: PositiveInt = 4  # of the small one
  width: PositiveInt | None = None  # None: 96 in the paper's, 16 in the small

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
