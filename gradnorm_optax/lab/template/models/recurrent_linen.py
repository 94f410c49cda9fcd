"""Your model: any Flax (Linen) module that returns one score per class."""

import jax
from flax import linen as nn
from jax import lax, numpy as jnp


class Kernel(nn.Module):
  """The recurrent weights, which every step uses."""

  width: int

  @nn.compact
  def __call__(self):
    return self.param('kernel', nn.initializers.glorot_uniform(),
                      (self.width, self.width))


class Net(nn.Module):
  """A simple recurrent net: a = u W_in + z W_rec + b, z = tanh(a).

  x is (batch, steps, channels), or symbols (batch, steps) where `symbols` says
  how many kinds there are. `lengths` comes with sequences of unequal length,
  and `perturb`, added to a, lets SGR see the gradient through time.
  """

  width: int
  outputs: int
  symbols: int | None = None

  @nn.nowrap
  def perturb_shape(self, steps, batch):
    return steps, batch, self.width

  @nn.compact
  def __call__(self, x, lengths=None, perturb=None):
    if self.symbols:
      x = jax.nn.one_hot(x, self.symbols)
    into = jnp.swapaxes(nn.Dense(self.width, name='input')(x), 0, 1)
    kernel = Kernel(self.width, name='recurrent')()
    if perturb is not None:
      into = into + perturb

    def step(state, given):
      a, alive = given
      new = jnp.tanh(a + state @ kernel)
      return jnp.where(alive[:, None], new, state), None

    alive = jnp.ones(into.shape[:2], bool) if lengths is None else (
        jnp.arange(len(into))[:, None] < lengths[None])
    state, _ = lax.scan(step, jnp.zeros_like(into[0]), (into, alive))
    return nn.Dense(self.outputs, name='output')(state)


def build(outputs, symbols, width=32):
  """Called with the numbers of classes and of symbols, and the `options`."""
  return Net(width, outputs, symbols)
