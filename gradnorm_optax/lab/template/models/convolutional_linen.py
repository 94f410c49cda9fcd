"""Your model: any Flax (Linen) module that returns one score per class."""

from flax import linen as nn


class Net(nn.Module):
  """A plain convolutional net; x is (batch, height, width, channels)."""

  width: int
  depth: int
  outputs: int

  @nn.compact
  def __call__(self, x):
    for _ in range(self.depth):
      x = nn.relu(nn.Conv(self.width, (3, 3))(x))
    return nn.Dense(self.outputs)(x.mean((1, 2)))


def build(outputs, width=8, depth=6):
  """Called with the number of classes and the `options` of the config."""
  return Net(width, depth, outputs)
