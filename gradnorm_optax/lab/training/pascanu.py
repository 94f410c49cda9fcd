"""Pascanu's regularizer: the gradient's norm kept from step to step."""

from typing import Any

import jax
from jax import lax, numpy as jnp

from gradnorm_optax.lab.data.dataset import Split
from gradnorm_optax.lab.models import recurrent
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import through_time
from gradnorm_optax.lab.training.problem import Problem

SLOPES = {'tanh': lambda z: 1 - z * z,
          'relu': lambda z: (z > 0).astype(z.dtype), 'linear': jnp.ones_like}


def gradient(problem: Problem, params: Any, batch: Split,
             weight: float) -> tuple[jax.Array, Any, Any]:
  r"""Computes the gradient of a batch's loss and of the regularizer.

  With :math:`\delta_i(k)` the gradient of example i's loss by its
  pre-activations and D(k) the diagonal of f' at step k,

  .. math:: \Omega = \frac{1}{B} \sum_{i,k} \left( \frac
      {\lVert \delta_i(k+1) W^T D_i(k) \rVert}{\lVert \delta_i(k+1) \rVert}
      - 1 \right)^2

  As in the authors' code only W itself is varied (the "immediate" derivative):
  deltas and activations are held fixed. Steps where the gradient is 0 are left
  out. The loss that is returned does not hold the regularizer.

  Args:
    problem: A simple recurrent net on its data.
    params: Its parameters.
    batch: The examples.
    weight: Of the regularizer.

  Returns:
    The loss, the model's other variables (none), and the gradient.

  Raises:
    LabError: The model is no simple recurrent net with plain weights.

  References:
    Pascanu, Mikolov, Bengio, `On the difficulty of training recurrent neural
    networks <https://arxiv.org/abs/1211.5063>`_, 2013
  """
  module = problem.module
  if not isinstance(module, recurrent.Recurrent) or (
      module.cell != 'srn' or module.norm != 'none'):
    raise LabError('pascanu is for a simple recurrent net: kind = "recurrent", '
                   'cell = "srn", norm = "none"')
  shape = through_time.shape(problem, batch.x)

  def loss(params: Any, still: jax.Array) -> Any:
    outputs, states = problem.outputs(
        params, {}, batch.x, train=False, perturb=still, with_states=True)
    return through_time.by_example(problem, outputs, batch).sum(), states

  (total, states), (slope, deltas) = jax.value_and_grad(
      loss, (0, 1), has_aux=True)(params, jnp.zeros(shape))
  slope = jax.tree.map(lambda g: g / shape[1], slope)
  kernel = params['recurrent']['kernel']
  extra = jax.grad(omega)(kernel, deltas, SLOPES[module.activation](states))
  slope['recurrent']['kernel'] += weight * extra
  return total / shape[1], {}, slope


def omega(kernel: jax.Array, deltas: jax.Array,
          slopes: jax.Array) -> jax.Array:
  """Computes the regularizer from deltas and f', both (T, B, H)."""
  after, here = deltas[1:], slopes[:-1]
  # Only ratios matter: scaled to 1, no norm underflows.
  largest = jnp.max(jnp.abs(after), axis=-1, keepdims=True)
  alive = largest > 0
  after = after / jnp.where(alive, largest, 1)
  back = jnp.matmul(after, kernel.T) * here
  squares = jnp.sum(lax.square(back), -1) / jnp.where(
      alive[..., 0], jnp.sum(lax.square(after), -1), 1)
  # The square root has no slope at 0: such steps have nothing to hold.
  seen = squares > 0
  ratio = jnp.sqrt(jnp.where(seen, squares, 1))
  return jnp.sum(jnp.where(seen, lax.square(ratio - 1), 0)) / deltas.shape[1]
