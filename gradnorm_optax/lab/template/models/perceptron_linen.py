"""Your model: any Flax (Linen) module that returns one score per class."""

from flax import linen as nn


class Net(nn.Module):
  """A plain perceptron; take `train` too if it behaves otherwise then."""

  width: int
  depth: int
  outputs: int

  @nn.compact
  def __call__(self, x):
    for _ in range(self.depth):
      x = nn.relu(nn.Dense(self.width)(x))
    return nn.Dense(self.outputs)(x)


def build(outputs, width=32, depth=8):
  """Called with the number of classes and the `options` of the config."""
  return Net(width, depth, outputs)
