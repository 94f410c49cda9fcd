"""Your model: any Flax NNX module that returns one score per class."""

import jax
from flax import nnx
from jax import lax, numpy as jnp


class Net(nnx.Module):
  """A simple recurrent net: a = u W_in + z W_rec + b, z = tanh(a).

  x is (batch, steps, channels), or symbols (batch, steps) where `symbols` says
  how many kinds there are. `lengths` comes with sequences of unequal length,
  and `perturb`, added to a, lets SGR see the gradient through time.
  """

  def __init__(self, channels, width, outputs, symbols, rngs):
    self.width, self.symbols = width, symbols
    self.input = nnx.Linear(symbols or channels, width, rngs=rngs)
    self.recurrent = nnx.Linear(width, width, use_bias=False, rngs=rngs)
    self.output = nnx.Linear(width, outputs, rngs=rngs)

  def perturb_shape(self, steps, batch):
    return steps, batch, self.width

  def __call__(self, x, lengths=None, perturb=None):
    if self.symbols:
      x = jax.nn.one_hot(x, self.symbols)
    into = jnp.swapaxes(self.input(x), 0, 1)
    kernel = self.recurrent.kernel[...]
    if perturb is not None:
      into = into + perturb

    def step(state, given):
      a, alive = given
      new = jnp.tanh(a + state @ kernel)
      return jnp.where(alive[:, None], new, state), None

    alive = jnp.ones(into.shape[:2], bool) if lengths is None else (
        jnp.arange(len(into))[:, None] < lengths[None])
    state, _ = lax.scan(step, jnp.zeros_like(into[0]), (into, alive))
    return self.output(state)


def build(outputs, input_shape, symbols, rngs, width=32):
  """Called with the number of classes, the shape of an example and `options`.

  `symbols` is how many kinds there are, None for numbers; `rngs` are those of
  each seed.
  """
  return Net(input_shape[-1], width, outputs, symbols, rngs)
