"""Models as a user of the lab would write them."""

from typing import Any

import jax
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


class Shaped(nnx.Module):
  """Knows the shape of its inputs from the lab."""

  def __init__(self, outputs, input_shape, symbols, *, rngs):
    self.symbols = symbols
    size = symbols or input_shape[-1]
    self.first = (nnx.Embed if symbols else nnx.Linear)(size, 4, rngs=rngs)
    self.last = nnx.Linear(4, outputs, rngs=rngs)

  def __call__(self, x):
    x = self.first(x)
    return self.last(x.mean(1) if self.symbols else x)


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


class Moded(nn.Module):
  """Is told the mode, under one of its names, which has no default."""

  outputs: int
  dtype: Any = None

  def head(self, x, train):
    x = nn.Dropout(0.5)(x, deterministic=not train)
    x = nn.BatchNorm(use_running_average=not train)(x)
    return nn.Dense(self.outputs, dtype=self.dtype)(x)


class Training(Moded):
  @nn.compact
  def __call__(self, x, training):
    return self.head(x, training)


class Deterministic(Moded):
  @nn.compact
  def __call__(self, x, *, deterministic):
    return self.head(x, not deterministic)


class NnxDeterministic(nnx.Module):
  """Overrules the mode that NNX sets."""

  def __init__(self, outputs, *, rngs):
    self.drop = nnx.Dropout(0.5, rngs=rngs)
    self.head = nnx.Linear(64, outputs, rngs=rngs)
    self.calls = nnx.Variable(0)

  def __call__(self, x, deterministic=True):
    self.calls.set_value(self.calls.get_value() + 1)
    return self.head(self.drop(x, deterministic=deterministic))


class AlwaysDrops(nn.Module):
  outputs: int

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.outputs)(nn.Dropout(0.5, deterministic=False)(x))


class AlwaysCounts(nn.Module):
  outputs: int

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.outputs)(nn.BatchNorm(use_running_average=False)(x))


class Sows(nn.Module):
  outputs: int

  @nn.compact
  def __call__(self, x):
    self.sow('losses', 'size', x.mean())
    return nn.Dense(self.outputs)(x)


class Whole(nn.Module):
  """Has a parameter without gradient."""

  outputs: int

  @nn.compact
  def __call__(self, x):
    self.param('order', lambda key: jnp.arange(3))
    return nn.Dense(self.outputs)(x)


class Answers(nn.Module):
  """Returns classes, not scores."""

  outputs: int

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.outputs)(x).argmax(-1)


class Conv(nn.Module):
  """Takes flat examples for pictures."""

  outputs: int

  @nn.compact
  def __call__(self, x):
    return nn.Conv(self.outputs, (3, 3))(x)


class Asks(nn.Module):
  outputs: int

  @nn.compact
  def __call__(self, x, mask):
    return nn.Dense(self.outputs)(x * mask)


class PlainArray(nnx.Module):
  def __init__(self, outputs, *, rngs):
    self.head = nnx.Linear(64, outputs, rngs=rngs)
    self.scale = jnp.ones(64)

  def __call__(self, x):
    return self.head(x * self.scale)


class Hides(nnx.Module):
  def __init__(self, outputs):
    self.train = True

  def __call__(self, x):
    return x


def linen_with_rngs(outputs, rngs):
  return nn.Dense(outputs)


def plain(outputs):
  return nn.Dense(outputs)


class Simple(nn.Module):
  """A simple recurrent net of symbols whose pre-activations can be moved."""

  outputs: int

  @nn.nowrap
  def perturb_shape(self, steps, batch):
    return steps, batch, 6

  @nn.compact
  def __call__(self, x, perturb=None):
    a = jnp.swapaxes(nn.Dense(6)(jax.nn.one_hot(x, 6)), 0, 1)
    kernel = self.param('kernel', nn.initializers.orthogonal(), (6, 6))
    a = a if perturb is None else a + perturb
    z, _ = jax.lax.scan(
        lambda z, a: (jnp.tanh(a + z @ kernel), None), jnp.zeros_like(a[0]), a)
    return nn.Dense(self.outputs)(z)[:, None]


class Normalized(Simple):
  """The same with batch norm: it holds more than its parameters."""

  @nn.compact
  def __call__(self, x, train=False, perturb=None):
    made = Simple(self.outputs)(x, perturb)
    return nn.BatchNorm(use_running_average=not train)(made)


class NnxSimple(nnx.Module):
  """The same for NNX."""

  def __init__(self, outputs, *, rngs):
    self.into = nnx.Linear(6, 6, rngs=rngs)
    self.kernel = nnx.Param(
        nnx.initializers.orthogonal()(rngs.params(), (6, 6)))
    self.head = nnx.Linear(6, outputs, rngs=rngs)

  def perturb_shape(self, steps, batch):
    return steps, batch, 6

  def __call__(self, x, perturb=None):
    a = jnp.swapaxes(self.into(jax.nn.one_hot(x, 6)), 0, 1)
    a = a if perturb is None else a + perturb
    z, _ = jax.lax.scan(lambda z, a: (
        jnp.tanh(a + z @ self.kernel[...]), None), jnp.zeros_like(a[0]), a)
    return self.head(z)[:, None]
