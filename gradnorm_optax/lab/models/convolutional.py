"""A plain convolutional net and a residual one, for small pictures."""

import functools
from typing import Any

import jax
from flax import linen as nn

from gradnorm_optax.lab.models import convolution
from gradnorm_optax.lab.models.perceptron import ACTIVATIONS


class CNN(nn.Module):
  """`depth` 3x3 layers, pooled by 2 after each third, then a mean."""

  depth: int
  width: int
  activation: str
  outputs: int
  image: tuple[int, int, int] | None
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    del train
    x = _pictures(x, self.image)
    marks = {self.depth // 3, 2 * self.depth // 3} - {0, self.depth}
    for i in range(self.depth):
      if i in marks:
        x = nn.max_pool(x, (2, 2), (2, 2))
      x = ACTIVATIONS[self.activation](
          convolution.Conv(
              self.width, (3, 3), dtype=self.dtype,
              name=f'layer{i + 1:02d}')(x))
    return nn.Dense(
        self.outputs, dtype=self.dtype, name='output')(x.mean((1, 2)))


class ResNet(nn.Module):
  """Three stages of two-layer residual blocks, as in He et al. 2016."""

  blocks: int
  width: int
  batch_norm: bool
  outputs: int
  image: tuple[int, int, int] | None
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = _pictures(x, self.image)
    conv = functools.partial(
        convolution.Conv, use_bias=not self.batch_norm, dtype=self.dtype)

    def norm(x: jax.Array, name: str) -> jax.Array:
      if not self.batch_norm:
        return x
      return nn.BatchNorm(
          use_running_average=not train, momentum=0.9, dtype=self.dtype,
          name=name)(x)

    x = nn.relu(norm(conv(self.width, (3, 3), name='stem')(x), 'stem_norm'))
    for stage in range(3):
      for block in range(self.blocks):
        name = f'stage{stage + 1}_block{block + 1}'
        strides = (2, 2) if stage and not block else (1, 1)
        width = self.width * 2 ** stage
        y = conv(width, (3, 3), strides, name=f'{name}_conv1')(x)
        y = nn.relu(norm(y, f'{name}_norm1'))
        y = conv(width, (3, 3), name=f'{name}_conv2')(y)
        y = norm(y, f'{name}_norm2')
        if x.shape != y.shape:
          x = conv(width, (1, 1), strides, name=f'{name}_shortcut')(x)
        x = nn.relu(x + y)
    return nn.Dense(
        self.outputs, dtype=self.dtype, name='output')(x.mean((1, 2)))


def _pictures(x: jax.Array, image: tuple[int, int, int] | None) -> jax.Array:
  """Gives flat examples their height, width and channels back."""
  return x if image is None else x.reshape(x.shape[0], *image)
