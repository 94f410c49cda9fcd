"""Checkpoints of a run, written by orbax: whole or not at all."""

import pathlib
from typing import Any

import jax
import numpy as np
from orbax import checkpoint as orbax
from orbax.checkpoint import checkpoint_managers as policies

from gradnorm_optax.lab.errors import LabError


class Checkpoints:
  """The last `keep` states of a run and the best one.

  The leaves are stored by their number, arrays without entries left out
  (orbax refuses them): the tree is built anew when a run goes on.
  """

  def __init__(self, folder: pathlib.Path, keep: int):
    """Opens the folder; half-written checkpoints in it are removed."""
    self.folder = folder
    policy = policies.AnyPreservationPolicy([
        policies.LatestN(keep),
        policies.BestN(get_metric_fn=_accuracy, n=1)])
    options = orbax.CheckpointManagerOptions(
        preservation_policy=policy, best_fn=_accuracy, best_mode='max',
        enable_async_checkpointing=False)
    self._manager = orbax.CheckpointManager(
        folder.resolve(), options=options)

  def latest(self) -> int | None:
    """The step of the newest checkpoint; None if there is none."""
    return self._manager.latest_step()

  def best(self) -> int | None:
    """The step of the checkpoint with the best validation accuracy."""
    return self._manager.best_step()

  def save(self, step: int, state: Any, accuracy: float) -> None:
    """Writes a state; the older ones stay until it is whole."""
    if step in self._manager.all_steps():
      return
    try:
      self._manager.save(
          step, args=orbax.args.StandardSave(_numbered(state)),
          metrics={'accuracy': accuracy})
    except (OSError, ValueError) as error:
      if isinstance(error, ValueError) and 'space' not in str(error):
        raise
      raise LabError(f'{self.folder}: cannot write the checkpoint of step '
                     f'{step} ({error}); the one before it is whole'
                     ) from error

  def restore(self, step: int, like: Any) -> Any:
    """Reads a state of the same structure as `like`."""
    leaves = jax.tree.leaves(like)
    shapes = _numbered(like)
    try:
      found = self._manager.restore(
          step, args=orbax.args.StandardRestore(shapes))
    except (ValueError, KeyError) as error:
      raise LabError(f'{self.folder}: the checkpoint of step {step} does not '
                     'fit this configuration; use --fresh or another --out'
                     ) from error
    return jax.tree.unflatten(
        jax.tree.structure(like),
        [found.get(f'{i:05d}', leaf) for i, leaf in enumerate(leaves)])

  def close(self) -> None:
    """Frees orbax's threads."""
    self._manager.close()


def _accuracy(metrics: Any) -> float:
  return metrics['accuracy']


def _numbered(state: Any) -> dict[str, Any]:
  """The leaves with entries, by number."""
  return {f'{i:05d}': leaf for i, leaf in enumerate(jax.tree.leaves(state))
          if np.size(leaf)}
