"""A trained model as files that other programs read."""

import json
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
from jax import export as jax_export
from orbax import checkpoint as orbax

from gradnorm_optax.lab.comparison import forward_timing
from gradnorm_optax.lab.data import stored
from gradnorm_optax.lab.data.dataset import Split
from gradnorm_optax.lab.results.costs import Pass
from gradnorm_optax.lab.run import folder_guard
from gradnorm_optax.lab.serving import model_card
from gradnorm_optax.lab.serving.loaded_run import LoadedRun
from gradnorm_optax.lab.support import files, jsonl
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training.forward import Forward
from gradnorm_optax.lab.training.problem import EVALUATION_BATCH

WEIGHTS, PROGRAM, CARD = 'weights.safetensors', 'forward.jax', 'MODEL_CARD.md'


def flat(variables: Any) -> dict[str, np.ndarray]:
  """All arrays by path, such as 'params/layer01/kernel'.

  >>> list(flat({'params': {'a': {'kernel': np.ones(2)}}}))
  ['params/a/kernel']
  """
  return {jax.tree_util.keystr(path, simple=True, separator='/'):
          np.ascontiguousarray(leaf)
          for path, leaf in jax.tree_util.tree_leaves_with_path(variables)}


def program(run: LoadedRun) -> jax_export.Exported:
  """The forward pass, to be called with the arrays of `flat` and examples.

  `call(weights, x)`, or `call(weights, x, lengths)` of sequences of unequal
  length; x of any number of examples. Returns outputs before any softmax.
  """
  structure = jax.tree.structure(run.variables)
  names = list(flat(run.variables))

  def forward(weights: dict[str, jax.Array], x: jax.Array,
              *lengths: jax.Array) -> jax.Array:
    variables = jax.tree.unflatten(
        structure, [weights[name] for name in names])
    return run.apply(variables, x, *lengths)

  weights = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
             for name, leaf in flat(run.variables).items()}
  shape = list(map(str, run.data.shape))
  if run.data.padded:
    shape[0] = 't'
  sizes = jax_export.symbolic_shape(', '.join(['b', *shape]))
  given = [jax.ShapeDtypeStruct(sizes, np.dtype(run.data.dtype))]
  if run.data.padded:
    given.append(jax.ShapeDtypeStruct(sizes[:1], np.dtype(np.int32)))
  return jax_export.export(
      jax.jit(forward), platforms=('cpu', 'cuda', 'tpu'))(weights, *given)


def write(run: LoadedRun, folder: pathlib.Path) -> pathlib.Path:
  """Writes weights, program, preprocessing and model card; all or nothing.

  Raises:
    LabError: The folder exists, or the model cannot be exported.
  """
  from safetensors import numpy as safetensors
  if folder.exists():
    raise LabError(f'{folder}: exists; give another folder, and keep this one '
                   'to roll back to')
  try:
    made = program(run)
  except Exception as error:  # the model's own code, traced for any batch size
    told = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise LabError(
        f'{run.folder}: this model cannot be exported for any number of '
        f'examples ({told}); sizes are no integers there: in its __call__, '
        'write x.shape[0] for len(x), and -1 in reshapes') from error
  part = folder.with_name(f'{folder.name}.{os.getpid()}.part')
  with files.disk(part, 'nothing was exported'):
    for old in folder.parent.glob(f'{folder.name}.*.part'):
      shutil.rmtree(old, ignore_errors=True)
    part.mkdir(parents=True)
    try:
      (part / WEIGHTS).write_bytes(safetensors.save(flat(run.variables)))
      (part / PROGRAM).write_bytes(made.serialize())
      with orbax.StandardCheckpointer() as writer:
        writer.save((part / 'checkpoint').resolve(), run.variables)
      stored.write(part, run.data)
      (part / CARD).write_text(model_card.text(
          run, _results(run.folder), _digest(run.folder), _passes(run),
          jsonl.read_steps(run.folder / folder_guard.METRICS)),
                               encoding='utf-8')
      part.rename(folder)
    finally:
      shutil.rmtree(part, ignore_errors=True)
  return folder


def _passes(run: LoadedRun) -> tuple[Pass, ...]:
  """What forward passes cost; of zeros, for a run has no examples."""
  x = np.zeros((EVALUATION_BATCH, *run.data.shape), run.data.dtype)
  lengths = np.full(len(x), run.data.shape[0], np.int32) if (
      run.data.padded) else None
  return forward_timing.measure(
      Forward(run.apply, run.variables),
      Split(x, np.zeros(len(x), np.int32), lengths))


def _results(folder: pathlib.Path) -> dict[str, Any] | None:
  """What the finished run found; None where it is not finished."""
  path = folder / folder_guard.RESULTS
  return json.loads(path.read_text()) if path.exists() else None


def _digest(folder: pathlib.Path) -> str:
  path = folder / folder_guard.DATA
  return path.read_text().strip() if path.exists() else 'unknown'
