"""Your model: any Flax NNX module that returns one score per class."""

from flax import nnx


class Net(nnx.Module):
  """A plain convolutional net; x is (batch, height, width, channels)."""

  def __init__(self, channels, width, depth, outputs, rngs):
    sizes = [channels, *[width] * depth]
    self.layers = nnx.List([
        nnx.Conv(one, other, (3, 3), rngs=rngs)
        for one, other in zip(sizes[:-1], sizes[1:])])
    self.head = nnx.Linear(width, outputs, rngs=rngs)

  def __call__(self, x):
    for layer in self.layers:
      x = nnx.relu(layer(x))
    return self.head(x.mean((1, 2)))


def build(outputs, input_shape, rngs, width=8, depth=6):
  """Called with the number of classes, the shape of an example and `options`.

  `rngs` are those of each seed.
  """
  return Net(input_shape[-1], width, depth, outputs, rngs)
