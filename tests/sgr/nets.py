"""The lab's recurrent nets on its tasks, as `gn.sgr` takes them."""

from jax import numpy as jnp

from gradnorm_optax.lab.models.recurrent import Recurrent


def of(task, **options):
  """A net of the task's inputs, outputs and readout."""
  return Recurrent(task.outputs, task.inputs, readout=task.readout, **options)


def params(model, key):
  """Draws the parameters."""
  return model.init(key, jnp.zeros((1, 1, model.inputs)))['params']


def losses(model, task):
  """Returns `loss(params, batch, perturb) -> (B,)`."""
  def loss(w, batch, perturb=None):
    return task.losses(
        model.apply({'params': w}, batch.x, perturb=perturb), batch.y)
  return loss
