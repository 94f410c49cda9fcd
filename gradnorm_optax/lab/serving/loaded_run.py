"""A trained model, loaded from its run."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
from jax import numpy as jnp

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import stored
from gradnorm_optax.lab.data.stored import Stored
from gradnorm_optax.lab.methods import chain, checks
from gradnorm_optax.lab.methods.schedules import schedule
from gradnorm_optax.lab.run.checkpoints import Checkpoints
from gradnorm_optax.lab.run.compiled_run import named
from gradnorm_optax.lab.schema import toml
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import make_problem, steps
from gradnorm_optax.lab.training.forward import forward

BATCH = 1024  # examples that are asked at once

Which = Literal['best', 'last'] | int


@dataclasses.dataclass(frozen=True)
class LoadedRun:
  """A trained model and how examples are prepared for it.

  Attributes:
    folder: The run.
    step: Of the checkpoint.
    variables: {'params': ..., other collections}; weight normalization folded
      into the weights, where the model knows it.
    apply: `apply(variables, x)`, `apply(variables, x, lengths)` of sequences
      of unequal length: outputs, (B, outputs), before any softmax. Pure: to be
      jitted.
    data: What the model knows of its data, `preprocessing` included.
    config: The run's configuration.
  """

  folder: pathlib.Path
  step: int
  variables: Any
  apply: Callable[..., jax.Array]
  data: Stored
  config: schema.Config

  def outputs(self, x: np.ndarray,
              lengths: np.ndarray | None = None) -> np.ndarray:
    """The model's outputs for prepared examples, float32.

    Args:
      x: Examples as `data` says: shape (n, *shape), of that dtype.
      lengths: Of sequences of unequal length.
    """
    if x.shape[1:] != self.data.shape and not self.data.padded:
      raise LabError(f'{self.folder}: the model was trained on examples of '
                     f'shape {self.data.shape}, not {x.shape[1:]}')
    found = []
    for begin in range(0, len(x), BATCH):
      rows = slice(begin, begin + BATCH)
      found.append(np.asarray(self._compiled(
          self.variables, x[rows],
          None if lengths is None else lengths[rows])))
    return np.concatenate(found)

  @functools.cached_property
  def _compiled(self) -> Callable[..., jax.Array]:
    return jax.jit(self.apply)

  def predict(self, x: np.ndarray,
              lengths: np.ndarray | None = None) -> np.ndarray:
    """Answers for prepared examples.

    Returns:
      Of classes their probabilities, (n, classes), in the order of
      `data.preprocessing.classes`; of numbers the numbers in their own unit.
    """
    out = self.outputs(x, lengths)
    if not self.data.number:
      return np.asarray(jax.nn.softmax(jnp.asarray(out), axis=-1))
    fitted = self.data.preprocessing
    if out.shape[-1] == 1:
      out = out[..., 0]
    if fitted is None or fitted.label_scale is None or (
        fitted.label_mean is None):
      return out
    return out * fitted.label_scale + fitted.label_mean


def load(folder: str | pathlib.Path, which: Which = 'best') -> LoadedRun:
  """Loads a trained model; its data are not needed.

  Args:
    folder: The folder of a `gradnorm train` run.
    which: The checkpoint with the best validation score, the last one, or one
      of a step.

  Raises:
    LabError: No run, or no such checkpoint.
  """
  folder = pathlib.Path(folder)
  data = stored.read(folder)
  config = checks.check_all(
      toml.read(folder / toml.CONFIG), str(folder / toml.CONFIG))
  name = named(config.models, config.run.model, 'run.model')
  method = config.methods[named(
      config.methods, config.run.method, 'run.method')]
  problem = make_problem.join(
      config.models[name], data.dataset(), config.train.dtype)
  built = chain.build(
      method, schedule(config.train, config.run.learning_rate),
      problem.context,
      config.run.max_skips if config.run.non_finite == 'skip' else None)
  like = jax.eval_shape(lambda: steps.start(
      problem, built, *problem.init(config.run.seed)))
  step, state = _restored(folder, config, which, like)
  apply, variables = forward(
      problem, built.evaluated(state.params, state.opt_state), state.extra)
  return LoadedRun(folder, step, jax.tree.map(np.asarray, variables), apply,
                   data, config)


def _restored(folder: pathlib.Path, config: schema.Config, which: Which,
              like: Any) -> tuple[int, Any]:
  """The step and the state of a checkpoint."""
  path = folder / 'checkpoints'
  if not path.is_dir():
    raise LabError(f'{folder}: no checkpoint here; gradnorm train writes them')
  checkpoints = Checkpoints(path, config.run.keep, read_only=True)
  try:
    step = {'best': checkpoints.best, 'last': checkpoints.latest}[which]() if (
        isinstance(which, str)) else which
    if step is None or step not in checkpoints.steps():
      raise LabError(f'{folder}: no checkpoint {which}; there are '
                     f'{checkpoints.steps()}')
    return step, checkpoints.restore(step, like)
  finally:
    checkpoints.close()
