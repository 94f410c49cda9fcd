"""A plain multilayer perceptron."""

from typing import Any

import jax
from flax import linen as nn

ACTIVATIONS = {
    'sigmoid': nn.sigmoid, 'tanh': nn.tanh, 'relu': nn.relu, 'gelu': nn.gelu}


class MLP(nn.Module):
  """`depth` hidden layers of `width` units, then one linear output layer."""

  depth: int
  width: int
  activation: str
  outputs: int
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    del train
    x = x.reshape(x.shape[0], -1)
    for i in range(self.depth):
      x = ACTIVATIONS[self.activation](
          nn.Dense(
              self.width, dtype=self.dtype, name=f'layer{i + 1:02d}')(x))
    return nn.Dense(self.outputs, dtype=self.dtype, name='output')(x)
