"""Models as a user of the lab would write them."""

import jax.numpy as jnp
from flax import linen as nn, nnx


class Net(nnx.Module):
  """A perceptron with batch norm and dropout."""

  def __init__(self, outputs, width=8, *, rngs):
    self.hidden = nnx.List([nnx.Linear(64, width, rngs=rngs)])
    self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)
    self.head = nnx.Linear(width, outputs, rngs=rngs)

  def __call__(self, x):
    x = nnx.relu(self.norm(self.hidden[0](x)))
    return self.head(self.drop(x))


def trained(outputs):
  """A model with weights of its own."""
  return Net(outputs, rngs=nnx.Rngs(7))


class Dropped(nn.Module):
  """A Linen module that draws random numbers in training."""

  outputs: int

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.Dropout(0.5)(x, deterministic=not train)
    return nn.Dense(self.outputs)(x)


def dropped(outputs):
  return Dropped(outputs)


class Told(nnx.Module):
  """The mean of the valid steps, for padded sequences."""

  def __init__(self, outputs, *, rngs):
    self.head = nnx.Linear(2, outputs, rngs=rngs)

  def __call__(self, x, train=False, lengths=None):
    alive = (jnp.arange(x.shape[1]) < lengths[:, None])[..., None]
    return self.head((x * alive).sum(1) / lengths[:, None])


def nothing(outputs):
  return outputs


def forgotten(outputs):
  del outputs
  return Net


class Pair(nn.Module):
  """Returns its hidden layer too."""

  outputs: int

  @nn.compact
  def __call__(self, x):
    hidden = nn.Dense(2)(x)
    return nn.Dense(self.outputs)(hidden), hidden


class Weightless(nn.Module):
  """Has nothing to train."""

  outputs: int

  def __call__(self, x):
    return x[:, :self.outputs]


class NnxWeightless(nnx.Module):
  """Has nothing to train either."""

  def __init__(self, outputs):
    self.outputs = outputs

  def __call__(self, x):
    return x[:, :self.outputs]


class Uncalled(nn.Module):
  """Has no `__call__`."""

  outputs: int


def narrow(outputs):
  return nn.Dense(outputs - 1)


def hasty(outputs):
  return outputs + 'a mistake of my own'
