"""Nets to compare normalizations of weights and of batches.

Every net is built plain, weight-normalized, with mean-only batch norm, with
both, or with batch norm. Noise and dropout draw from a stream of keys in the
collection 'random', so that a training loop needs none of its own.
"""

import functools
from typing import Any, Literal, get_args

import jax
from flax import linen as nn

from gradnorm_optax.lab.models import convolution
from gradnorm_optax.linen import (
  MeanOnlyBatchNorm,
  WeightNorm,
  data_dependent_init,
)

Norm = Literal['none', 'weight', 'mean_only', 'weight_mean_only', 'batch']
NORMS = get_args(Norm)


class Normalized(nn.Module):
  """A net whose layers are normalized in one of several ways.

  Attributes:
    outputs: Number of classes.
    norm: How layers are normalized.
    data_init: Whether `init` sets g and b from the examples it is given.
    image: Height, width and channels of flat examples.
    dtype: Of the computation.
  """

  outputs: int
  norm: Norm = 'none'
  data_init: bool = False
  image: tuple[int, int, int] | None = None
  dtype: Any = None

  def __post_init__(self):
    if self.norm not in NORMS:
      raise ValueError(f'norm={self.norm!r}: use one of {NORMS}.')
    if self.data_init and 'weight' not in self.norm:
      raise ValueError(
          f'data_init sets g, and norm={self.norm!r} has none. Use norm='
          "'weight' or 'weight_mean_only'.")
    super().__post_init__()

  def init(  # type: ignore[override]
      self, rngs: Any, x: jax.Array, *args: Any, **kwargs: Any
  ) -> Any:
    """Draws the variables; with `data_init`, g and b from the examples."""
    variables = super().init(rngs, x, *args, **kwargs)
    if not self.data_init:
      return variables
    return data_dependent_init(self, variables, x, train=False)

  def layer(self, layer: Any, x: jax.Array, train: bool) -> jax.Array:
    """Applies a layer, made by `layer(use_bias=...)`, and its norm."""
    made = layer(
        use_bias=self.norm in ('none', 'weight'), dtype=self.dtype,
        kernel_init=nn.initializers.normal(0.05) if self.data_init
        else nn.initializers.lecun_normal())
    name = made.name
    x = (WeightNorm(made) if 'weight' in self.norm else made)(x)
    if 'mean_only' in self.norm:
      return MeanOnlyBatchNorm(not train, name=f'{name}_mean')(x)
    if self.norm == 'batch':
      return nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype,
                          name=f'{name}_norm')(x)
    return x

  def key(self) -> jax.Array:
    """Draws a key from the net's own stream."""
    stream = self.variable(
        'random', 'key', lambda: jax.random.key_data(self.make_rng('params')))
    here, after = jax.random.split(jax.random.wrap_key_data(stream.value))
    if self.is_mutable_collection('random') and not self.is_initializing():
      stream.value = jax.random.key_data(after)
    return here

  def pictures(self, x: jax.Array) -> jax.Array:
    """Gives flat examples their height, width and channels back."""
    return x if self.image is None else x.reshape(x.shape[0], *self.image)


class PaperNet(Normalized):
  """The CIFAR-10 net of the paper (its table 2).

  Gaussian noise 0.15; three 3x3 layers of 96; pool, dropout 0.5; three of 192;
  pool, dropout 0.5; 3x3 (valid) and two 1x1 layers of 192; mean; dense. Leaky
  ReLU 0.1.
  """

  width: int = 96
  noise: float = 0.15
  dropout: float = 0.5

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = self.pictures(x)
    noise, *drops = jax.random.split(self.key(), 3)
    if train:
      x = x + self.noise * jax.random.normal(noise, x.shape, x.dtype)
    wide = 2 * self.width
    plan = [(self.width, 3)] * 3 + [(wide, 3)] * 4 + [(wide, 1)] * 2
    for place, (features, size) in enumerate(plan):
      if place in (3, 6):
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.Dropout(self.dropout)(
            x, deterministic=not train, rng=drops[place // 3 - 1])
      conv = functools.partial(
          convolution.Conv, features, (size, size),
          name=f'layer{place + 1:02d}',
          padding='VALID' if place == 6 else 'SAME')
      x = nn.leaky_relu(self.layer(conv, x, train), 0.1)
    dense = functools.partial(nn.Dense, self.outputs, name='output')
    return self.layer(dense, x.mean((1, 2)), train)


class SmallNet(Normalized):
  """`depth` 3x3 layers, pooled once after half of them; for small pictures."""

  depth: int = 4
  width: int = 16

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = self.pictures(x)
    for place in range(self.depth):
      if place == self.depth // 2:
        x = nn.max_pool(x, (2, 2), (2, 2))
      conv = functools.partial(
          convolution.Conv, self.width, (3, 3), name=f'layer{place + 1:02d}')
      x = nn.leaky_relu(self.layer(conv, x, train), 0.1)
    dense = functools.partial(nn.Dense, self.outputs, name='output')
    return self.layer(dense, x.mean((1, 2)), train)
