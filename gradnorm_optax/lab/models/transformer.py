"""A small causal pre-LN transformer whose layers are scanned."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class Layer(nn.Module):
  """Attention and a two-layer perceptron, each behind a LayerNorm."""

  heads: int
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
    width = x.shape[-1]
    y = nn.LayerNorm(dtype=self.dtype, name='attention_norm')(x)
    x = x + nn.MultiHeadDotProductAttention(
        num_heads=self.heads, dtype=self.dtype, name='attention')(y, mask=mask)
    y = nn.LayerNorm(dtype=self.dtype, name='mlp_norm')(x)
    y = nn.gelu(nn.Dense(4 * width, dtype=self.dtype, name='mlp_in')(y))
    return x + nn.Dense(width, dtype=self.dtype, name='mlp_out')(y), None


class Transformer(nn.Module):
  """Predicts the next symbol at every position.

  With `scan` all layers share one tree under `layers`, stacked along `axis`
  of every array: compile time does not grow with depth.
  """

  depth: int
  width: int
  heads: int
  symbols: int
  scan: bool
  axis: int
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    del train
    mask = nn.make_causal_mask(x)
    places = nn.Embed(
        x.shape[1], self.width, dtype=self.dtype, name='position')
    x = nn.Embed(
        self.symbols, self.width, dtype=self.dtype, name='symbol')(x)
    x = x + places(jnp.arange(x.shape[1]))
    if self.scan:
      layers: Any = nn.scan(
          Layer, variable_axes={'params': self.axis},
          split_rngs={'params': True}, in_axes=nn.broadcast,
          length=self.depth)
      x, _ = layers(self.heads, self.dtype, name='layers')(x, mask)
    else:
      for i in range(self.depth):
        x, _ = Layer(self.heads, self.dtype, name=f'layer{i + 1:02d}')(x, mask)
    x = nn.LayerNorm(dtype=self.dtype, name='final_norm')(x)
    return nn.Dense(self.symbols, dtype=self.dtype, name='output')(x)
