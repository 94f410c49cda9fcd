"""A small causal pre-LN transformer whose layers are scanned."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from gradnorm_optax.lab.support import batch_cut


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
    y = nn.Dense(width, dtype=self.dtype, name='mlp_out')(y)
    return batch_cut.rows(x + y), None


class Transformer(nn.Module):
  """Predicts the next symbol at every position.

  With `scan` all layers share one tree under `layers`, stacked along `axis`
  of every array: compile time does not grow with depth. With `remat` the
  backward pass computes each layer again; with `tied` the embedding of the
  symbols is the output's matrix.
  """

  depth: int
  width: int
  heads: int
  symbols: int
  scan: bool
  axis: int
  dtype: Any = None
  remat: bool = False
  tied: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    del train
    mask = nn.make_causal_mask(x)
    places = nn.Embed(
        x.shape[1], self.width, dtype=self.dtype, name='position')
    symbols = nn.Embed(
        self.symbols, self.width, dtype=self.dtype, name='symbol')
    x = symbols(x)
    x = batch_cut.rows(x) + places(jnp.arange(x.shape[1]))
    # A scan keeps layers apart by itself.
    kind: Any = nn.remat(
        Layer, prevent_cse=not self.scan) if self.remat else Layer
    if self.scan:
      layers: Any = nn.scan(
          kind, variable_axes={'params': self.axis},
          split_rngs={'params': True}, in_axes=nn.broadcast,
          length=self.depth)
      x, _ = layers(self.heads, self.dtype, name='layers')(x, mask)
    else:
      for i in range(self.depth):
        x, _ = kind(self.heads, self.dtype, name=f'layer{i + 1:02d}')(x, mask)
    x = nn.LayerNorm(dtype=self.dtype, name='final_norm')(x)
    if self.tied:
      return symbols.attend(x)
    return nn.Dense(self.symbols, dtype=self.dtype, name='output')(x)
