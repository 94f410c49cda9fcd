"""Your model: any Flax NNX module that returns one score per class."""

from flax import nnx


class Net(nnx.Module):
  """A plain perceptron; batch norm and dropout are told the mode by NNX."""

  def __init__(self, inputs, width, depth, outputs, rngs):
    sizes = [inputs, *[width] * depth]
    self.layers = nnx.List([
        nnx.Linear(one, other, rngs=rngs)
        for one, other in zip(sizes[:-1], sizes[1:])])
    self.head = nnx.Linear(width, outputs, rngs=rngs)

  def __call__(self, x):
    for layer in self.layers:
      x = nnx.relu(layer(x))
    return self.head(x)


def build(outputs, input_shape, rngs, width=32, depth=8):
  """Called with the number of classes, the shape of an example and `options`.

  `rngs` are those of each seed.
  """
  return Net(input_shape[-1], width, depth, outputs, rngs)
