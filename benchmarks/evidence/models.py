"""Models for the studies that the lab has no kind of, as `target` takes them.

    [models.unet]
    kind = "target"
    target = "benchmarks.evidence.models:unet"
    options = { width = 8 }
"""

from typing import Any

import jax
from flax import linen as nn
from jax import lax, numpy as jnp

from gradnorm_optax.lab.models import (
  convolution,
  convolutional,
  perceptron,
)


class UNet(nn.Module):
  """Answers at every pixel: pictures halved `levels` times and back.

  Two 3x3 layers at each size, as many channels more as pixels are fewer; on the
  way back beside what was there before (Ronneberger et al. 2015).
  """

  outputs: int
  width: int
  levels: int
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    del train
    kept = []
    for level in range(self.levels):
      x = self._two(x, level, 'down')
      kept.append(x)
      x = nn.max_pool(x, (2, 2), (2, 2))
    x = self._two(x, self.levels, 'bottom')
    for level in reversed(range(self.levels)):
      x = self._two(jnp.concatenate([_doubled(x), kept[level]], -1), level,
                    'up')
    return nn.Dense(self.outputs, dtype=self.dtype, name='output')(x)

  def _two(self, x: jax.Array, level: int, name: str) -> jax.Array:
    for place in (1, 2):
      x = nn.relu(convolution.Conv(
          self.width * 2 ** level, (3, 3), dtype=self.dtype,
          name=f'{name}{level + 1}_conv{place}')(x))
    return x


def unet(outputs: int, width: int = 8, levels: int = 2,
         dtype: Any = None) -> UNet:
  """A U-Net; height and width must be multiples of 2 ** levels."""
  return UNet(outputs, width, levels, dtype)


class Dropped(nn.Module):
  """A perceptron of ReLU that drops units behind each hidden layer."""

  outputs: int
  depth: int
  width: int
  dropout: float
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = x.reshape(x.shape[0], -1)
    for i in range(self.depth):
      x = perceptron.ACTIVATIONS['relu'](nn.Dense(
          self.width, dtype=self.dtype, name=f'layer{i + 1:02d}')(x))
      x = nn.Dropout(self.dropout)(x, deterministic=not train)
    return nn.Dense(self.outputs, dtype=self.dtype, name='output')(x)


def dropped(outputs: int, depth: int = 2, width: int = 100,
            dropout: float = 0.5, dtype: Any = None) -> Dropped:
  """The lab's `mlp` with dropout, whose names and start it shares."""
  return Dropped(outputs, depth, width, dropout, dtype)


class Augmented(nn.Module):
  """A net whose pictures are shifted and mirrored while it is trained."""

  net: nn.Module
  most: int = 4

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    if train:
      x = shifted(self.make_rng('augment'), x, self.most)
    return self.net(x, train)


def augmented_resnet(outputs: int, blocks: int = 3, width: int = 16,
                     dtype: Any = None) -> Augmented:
  """The lab's `resnet`, of 6 blocks + 2 layers, on shifted pictures."""
  return Augmented(convolutional.ResNet(
      blocks, width, True, outputs, None, dtype))


def shifted(key: jax.Array, x: jax.Array, most: int) -> jax.Array:
  """Shifts each picture by up to `most` pixels, zeros behind, mirrors half.

  Args:
    key: What to draw from.
    x: Pictures (n, height, width, channels), whose mean is 0.
    most: Of each shift, down and to the right or back.
  """
  side, place = jax.random.split(key)
  flipped = jax.random.bernoulli(side, shape=(len(x), 1, 1, 1))
  x = jnp.where(flipped, x[:, :, ::-1], x)
  starts = jax.random.randint(place, (len(x), 2), 0, 2 * most + 1)
  padded = jnp.pad(x, [(0, 0), (most, most), (most, most), (0, 0)])

  def cut(picture: jax.Array, start: jax.Array) -> jax.Array:
    return lax.dynamic_slice(
        picture, (start[0], start[1], jnp.int32(0)), x.shape[1:])

  return jax.vmap(cut)(padded, starts)


def _doubled(x: jax.Array) -> jax.Array:
  """Every pixel as four."""
  n, height, width, channels = x.shape
  x = lax.broadcast_in_dim(
      x, (n, height, 2, width, 2, channels), (0, 1, 3, 5))
  return x.reshape(n, 2 * height, 2 * width, channels)
