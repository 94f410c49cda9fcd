"""Recurrent nets whose gradient through time can be looked at.

One Linen module for tasks, for ordinary sequences and for `gn.sgr`: what is
added to its pre-activations as `perturb` shows the gradient at every step.
"""

from typing import Any, Literal

import jax
import numpy as np
from flax import linen as nn
from jax import lax, numpy as jnp

from gradnorm_optax.lab.models.recurrent_start import START, glorot, zeros
from gradnorm_optax.linen import WeightNorm

GATES = {'srn': 1, 'lstm': 4, 'gru': 3}
ACTIVATIONS = {'tanh': jnp.tanh, 'relu': jax.nn.relu, 'linear': lambda a: a}


class Recurrent(nn.Module):
  """A recurrent layer and a linear readout of its last states.

  Parameters are `input/kernel`, `recurrent/kernel`, `recurrent/bias`,
  `output/kernel` and `output/bias`; the gates' columns stand side by side.

  Attributes:
    outputs: Number of outputs.
    inputs: Number of input channels, or of symbols where inputs are integers;
      None where inputs are numbers: as many channels as they have.
    width: Units.
    cell: `srn` is a(k) = u(k) W_in + z(k-1) W_rec + b, z = f(a). The `gru`
      resets the state before its product with W_rec, Flax's after it.
    activation: f of the `srn`.
    start: Recurrent kernel: Glorot-uniform, orthogonal, `irnn` (the identity,
      with small input weights; meant for relu) or Gaussian of a given spectral
      radius (`radius`, 1 x `scale`). An LSTM or GRU draws each gate so.
    scale: Factor on the recurrent kernel.
    norm: `weight` normalizes all kernels, formed once for a whole sequence.
    readout: Number of last steps that are read; None reads the last one and
      drops that axis.
    image: Height, width and channels of flat pictures, whose rows are the
      steps.
    dtype: Of the computation; the parameters' by default.
  """

  outputs: int
  inputs: int | None = None
  width: int = 100
  cell: Literal['srn', 'lstm', 'gru'] = 'srn'
  activation: Literal['tanh', 'relu', 'linear'] = 'tanh'
  start: Literal['glorot', 'orthogonal', 'irnn', 'radius'] = 'glorot'
  scale: float = 1.0
  norm: Literal['none', 'weight'] = 'none'
  readout: int | None = None
  image: tuple[int, int, int] | None = None
  dtype: Any = None

  @nn.nowrap
  def perturb_shape(self, steps: int, batch: int) -> tuple[int, int, int]:
    """Returns the shape of `perturb`: all gates' pre-activations."""
    return steps, batch, self.width * GATES[self.cell]

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False,
               perturb: jax.Array | None = None,
               lengths: jax.Array | None = None,
               with_states: bool = False) -> Any:
    """Computes the outputs at the last steps.

    Args:
      x: (B, T, channels), or integer symbols (B, T), read as one-hot vectors.
      train: Makes no difference.
      perturb: Added to the pre-activations; of `perturb_shape(T, B)`.
      lengths: (B,), the number of valid steps of each sequence; its state
        stays as it is after them, and perturbations have no effect. `readout`
        must then be None, 1 or T.
      with_states: Whether to return the state after every step too.

    Returns:
      Array of shape (B, readout, outputs), or (B, outputs) for None; with
      `with_states` a pair of it and the states (T, B, width).

    Raises:
      ValueError: x is no sequence, or one of `inputs` and x is not as the
        other says.
    """
    del train
    x = self._sequence(x)
    symbols = x.ndim == 2
    wrap: Any = WeightNorm if self.norm == 'weight' else (lambda layer: layer)
    gates = GATES[self.cell]
    made = [wrap(Weights(rows, width, kernel, bias, name=name))()
            for name, rows, width, kernel, bias in (
                ('input', self.inputs if symbols else x.shape[2],
                 gates * self.width, self._input, None),
                ('recurrent', self.width, gates * self.width, self._recurrent,
                 self._bias),
                ('output', self.width, self.outputs, glorot, zeros))]
    (into, _), (kernel, bias), (out, shift) = jax.tree.map(
        lambda a: a.astype(self.dtype or a.dtype), made)
    if not symbols:
      x = x.astype(into.dtype)
    last, states = self._run(
        x, into, kernel, bias, perturb, lengths, with_states)
    result = last @ out
    result = result + lax.broadcast(shift, result.shape[:2])
    result = (
        result[0] if self.readout is None else jnp.swapaxes(result, 0, 1))
    return (result, states) if with_states else result

  def _sequence(self, x: jax.Array) -> jax.Array:
    """Checks x, and turns the rows of a picture into steps."""
    symbols = jnp.issubdtype(x.dtype, jnp.integer)
    if self.image is not None and not symbols:
      x = x.reshape(x.shape[0], self.image[0], -1)
    if x.ndim != (2 if symbols else 3):
      raise ValueError(
          'a recurrent net reads sequences, numbers (B, T, channels) or'
          f' integer symbols (B, T), not {x.dtype} of shape {x.shape}: give'
          ' each step its place, x.reshape(B, T, channels)')
    if symbols and self.inputs is None:
      raise ValueError(
          'a recurrent net of symbols needs `inputs`, their number')
    if not symbols and self.inputs not in (None, x.shape[2]):
      raise ValueError(f'this recurrent net reads {self.inputs} channels, x has'
                       f' shape {x.shape}')
    return x

  def _run(self, x: jax.Array, into: jax.Array, kernel: jax.Array,
           bias: jax.Array, perturb: jax.Array | None,
           lengths: jax.Array | None, every: bool) -> tuple[Any, Any]:
    """Returns the last `readout` states, (readout, B, H), and `every` one."""
    steps, count = x.shape[1], self.readout or 1
    if lengths is not None and count not in (1, steps):
      raise ValueError(f'readout={count} of sequences of {steps} steps and'
                       ' unequal lengths: use None, 1, or all steps')
    symbols = x.ndim == 2
    zero = jnp.zeros((x.shape[0], self.width), kernel.dtype)
    carry = (zero, zero) if self.cell == 'lstm' else (zero,)
    step = {'srn': self._srn, 'lstm': _lstm, 'gru': self._gru}[self.cell]

    def body(carry: Any, inputs: Any) -> tuple[Any, Any]:
      # Inputs are projected here: (T, B, H) of them would cost more to store.
      u, extra, k = inputs
      a = into[u] if symbols else u @ into
      a = a + lax.broadcast(bias, (u.shape[0],))
      if extra is not None:
        a = a + extra.astype(a.dtype)
      new = step(kernel, carry, a)
      if lengths is not None:
        alive = (k < lengths)[:, None]
        new = jax.tree.map(lambda n, c: jnp.where(alive, n, c), new, carry)
      return new, (new[0] if every or count > 1 else None)

    places = None if lengths is None else jnp.arange(steps, dtype=jnp.int32)
    carry, states = lax.scan(
        body, carry, (jnp.swapaxes(x, 0, 1), perturb, places))
    return states[-count:] if count > 1 else carry[0][None], states

  # Each takes the states (z, and c of an LSTM) to the next ones.

  def _srn(self, kernel: jax.Array, carry: Any, a: jax.Array) -> Any:
    return (ACTIVATIONS[self.activation](a + carry[0] @ kernel),)

  def _gru(self, kernel: jax.Array, carry: Any, a: jax.Array) -> Any:
    z, h = carry[0], self.width
    r, u = jnp.split(jax.nn.sigmoid(
        a[:, :2 * h] + z @ kernel[:, :2 * h]), 2, axis=-1)
    new = jnp.tanh(a[:, 2 * h:] + (r * z) @ kernel[:, 2 * h:])
    return (u * z + (1 - u) * new,)

  # Initial values, drawn gate by gate.

  def _input(self, key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    draw = (jax.nn.initializers.normal(1e-3) if self.start == 'irnn'
            else glorot)
    return jnp.concatenate(
        [draw(k, (shape[0], self.width), jnp.float32)
         for k in jax.random.split(key, GATES[self.cell])], axis=1)

  def _recurrent(self, key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    square = (shape[0], shape[0])
    drawn = [START[self.start](k, square)
             for k in jax.random.split(key, GATES[self.cell])]
    return jnp.concatenate(drawn, axis=1) * self.scale

  def _bias(self, key: jax.Array, shape: tuple[int]) -> jax.Array:
    del key
    bias = np.zeros(shape, np.float32)
    if self.cell == 'lstm':
      bias[self.width:2 * self.width] = 1.0  # forget gates start open
    return jnp.asarray(bias)


class Weights(nn.Module):
  """A kernel and its bias, to be used outside: normalized, if so, once."""

  rows: Any
  columns: int
  kernel: Any
  bias: Any

  @nn.compact
  def __call__(self) -> tuple[jax.Array, jax.Array | None]:
    """Returns kernel (rows, columns) and bias (columns,) or None."""
    kernel = self.param('kernel', self.kernel, (self.rows, self.columns))
    if self.bias is None:
      return kernel, None
    return kernel, self.param('bias', self.bias, (self.columns,))


def _lstm(kernel: jax.Array, carry: Any, a: jax.Array) -> Any:
  z, c = carry
  i, f, g, o = jnp.split(a + z @ kernel, 4, axis=-1)
  c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
  return jax.nn.sigmoid(o) * jnp.tanh(c), c
