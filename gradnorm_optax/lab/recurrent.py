"""Recurrent nets whose gradient through time can be looked at.

Plain functions on a parameter tree, so that `per_example_loss` can add its
`perturb` to the pre-activations. Kernels are named `kernel`, so that
`gn.weight_normalized` finds them.
"""

import dataclasses
from typing import Any, Literal

import jax
import numpy as np
from jax import lax, numpy as jnp

from gradnorm_optax.lab.tasks import Batch, Task

GATES = {'srn': 1, 'lstm': 4, 'gru': 3}
ACTIVATIONS = {'tanh': jnp.tanh, 'relu': jax.nn.relu, 'linear': lambda a: a}


@dataclasses.dataclass(frozen=True)
class Recurrent:
  """A recurrent layer and a linear readout of its last states.

  Attributes:
    inputs: Number of input channels, or of symbols where inputs are integers.
    outputs: Number of outputs.
    width: Units.
    cell: `srn` is a(k) = u(k) W_in + z(k-1) W_rec + b, z = f(a).
    activation: f of the `srn`.
    init: Recurrent kernel: Glorot-uniform, orthogonal, `irnn` (the identity,
      with small input weights; meant for relu) or Gaussian of a given spectral
      radius (`radius`, 1 x `scale`). An LSTM or GRU draws each gate so.
    scale: Factor on the recurrent kernel.
  """

  inputs: int
  outputs: int
  width: int = 100
  cell: Literal['srn', 'lstm', 'gru'] = 'srn'
  activation: Literal['tanh', 'relu', 'linear'] = 'tanh'
  init: Literal['glorot', 'orthogonal', 'irnn', 'radius'] = 'glorot'
  scale: float = 1.0

  @classmethod
  def of(cls, task: Task, **options: Any) -> 'Recurrent':
    """Makes a net of the task's inputs and outputs."""
    return cls(task.inputs, task.outputs, **options)

  def shape(self, steps: int, batch: int) -> tuple[int, int, int]:
    """Returns the shape of `perturb`: all gates' pre-activations."""
    return steps, batch, self.width * GATES[self.cell]

  def init_params(self, key: jax.Array) -> dict[str, Any]:
    """Draws the parameters."""
    keys = jax.random.split(key, 3)
    gates = GATES[self.cell]
    glorot = jax.nn.initializers.glorot_uniform()
    into = (jax.nn.initializers.normal(1e-3) if self.init == 'irnn' else glorot)
    recurrent = [self._recurrent(k) for k in jax.random.split(keys[1], gates)]
    bias = np.zeros(gates * self.width, np.float32)
    if self.cell == 'lstm':
      bias[self.width:2 * self.width] = 1.0  # forget gates start open
    return {
        'input': {'kernel': jnp.concatenate([
            into(k, (self.inputs, self.width), jnp.float32)
            for k in jax.random.split(keys[0], gates)], axis=1)},
        'recurrent': {'kernel': jnp.concatenate(recurrent, axis=1),
                      'bias': jnp.asarray(bias)},
        'output': {'kernel': glorot(
            keys[2], (self.width, self.outputs), jnp.float32),
                   'bias': jnp.zeros(self.outputs)}}

  def _recurrent(self, key: jax.Array) -> jax.Array:
    shape = (self.width, self.width)
    if self.init == 'irnn':
      kernel = jnp.eye(self.width)
    elif self.init == 'radius':
      kernel = jax.random.normal(key, shape)
      # Eigenvalues of a general matrix are computed on the host.
      values = np.linalg.eigvals(np.asarray(kernel, np.float64))
      kernel = kernel / np.float32(np.abs(values).max())
    else:
      draw: Any = {'glorot': jax.nn.initializers.glorot_uniform,
              'orthogonal': jax.nn.initializers.orthogonal}[self.init]
      kernel = draw()(key, shape, jnp.float32)
    return kernel * self.scale

  def apply(self, params: Any, x: jax.Array, perturb: jax.Array | None = None,
            readout: int = 1) -> jax.Array:
    """Computes the outputs at the last `readout` steps.

    Args:
      params: From `init_params`.
      x: (B, T, inputs), or integer symbols (B, T), read as one-hot vectors.
      perturb: Added to the pre-activations; of `shape(T, B)`.
      readout: Number of last steps that are read.

    Returns:
      Array of shape (B, readout, outputs).
    """
    kernel, recurrent = params['input']['kernel'], params['recurrent']['kernel']
    start = jnp.zeros((len(x), self.width), kernel.dtype)
    carry = (start, start) if self.cell == 'lstm' else start
    step = {'srn': self._srn, 'lstm': self._lstm, 'gru': self._gru}[self.cell]
    state = (lambda carry: carry[0]) if self.cell == 'lstm' else (lambda c: c)
    symbols = jnp.issubdtype(x.dtype, jnp.integer)

    def body(carry: Any, inputs: Any) -> tuple[Any, Any]:
      # Inputs are projected here: (T, B, H) of them would cost more to store.
      u, extra = inputs
      a = kernel[u] if symbols else u @ kernel
      a = a + lax.broadcast(params['recurrent']['bias'], (len(u),))
      carry = step(recurrent, carry, a if extra is None else a + extra)
      return carry, (state(carry) if readout > 1 else None)

    carry, states = lax.scan(body, carry, (jnp.swapaxes(x, 0, 1), perturb))
    last = states[-readout:] if readout > 1 else state(carry)[None]
    out = params['output']
    result = last @ out['kernel']
    result = result + lax.broadcast(out['bias'], result.shape[:2])
    return jnp.swapaxes(result, 0, 1)

  def _srn(self, kernel: jax.Array, z: jax.Array, a: jax.Array) -> jax.Array:
    return ACTIVATIONS[self.activation](a + z @ kernel)

  def _lstm(self, kernel: jax.Array, carry: Any, a: jax.Array) -> Any:
    z, c = carry
    i, f, g, o = jnp.split(a + z @ kernel, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c

  def _gru(self, kernel: jax.Array, z: jax.Array, a: jax.Array) -> jax.Array:
    h = self.width
    r, u = jnp.split(jax.nn.sigmoid(
        a[:, :2 * h] + z @ kernel[:, :2 * h]), 2, axis=-1)
    new = jnp.tanh(a[:, 2 * h:] + (r * z) @ kernel[:, 2 * h:])
    return u * z + (1 - u) * new


def losses(model: Recurrent, task: Task) -> Any:
  """Returns `per_example_loss(params, batch, perturb)` for `gn.sgr`."""
  def per_example_loss(params: Any, batch: Batch,
                       perturb: jax.Array | None = None) -> jax.Array:
    out = model.apply(params, batch.x, perturb, task.readout)
    return task.losses(out, batch.y)
  return per_example_loss
