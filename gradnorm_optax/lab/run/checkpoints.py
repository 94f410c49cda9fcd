"""Checkpoints of a run, written by orbax: whole or not at all."""

import contextlib
import gc
import json
import logging
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from orbax import checkpoint as orbax
from orbax.checkpoint import checkpoint_managers as policies

from gradnorm_optax.lab.run import processes
from gradnorm_optax.lab.support import process_wide
from gradnorm_optax.lab.support.errors import LabError

LEFT = 'deleted'  # where checkpoints are renamed to before they are deleted


class Checkpoints:
  """The last `keep` states of a run and the best one.

  The leaves are stored by their number, arrays without entries left out
  (orbax refuses them): the tree is built anew when a run goes on.
  """

  def __init__(self, folder: pathlib.Path, keep: int,
               read_only: bool = False):
    """Opens the folder; what a kill left half done in it is removed.

    With `read_only` nothing is touched: a run may be writing there.
    """
    self.folder, self._read_only = folder, read_only
    policy = policies.AnyPreservationPolicy([
        policies.LatestN(keep),
        policies.BestN(get_metric_fn=_score, n=1)])
    with self._disk('cannot open this folder'):
      options = orbax.CheckpointManagerOptions(
          preservation_policy=policy, best_fn=_score, best_mode='max',
          enable_async_checkpointing=False, read_only=read_only,
          cleanup_tmp_directories=not read_only, create=not read_only,
          # Renamed, then deleted: a kill in between leaves no half checkpoint.
          todelete_subdir=LEFT)
      self._manager = orbax.CheckpointManager(
          folder.resolve(), options=options)
    self._sweep()

  def steps(self) -> list[int]:
    """The steps whose checkpoints are kept, in order."""
    return sorted(self._manager.all_steps())

  def latest(self) -> int | None:
    """The step of the newest checkpoint; None if there is none."""
    return self._manager.latest_step()

  def best(self) -> int | None:
    """The step of the checkpoint with the best validation score."""
    return self._manager.best_step()

  def save(self, step: int, state: Any, score: float) -> None:
    """Writes a state; the older ones stay until it is whole."""
    if step in self.steps():
      return
    with self._disk(f'cannot write the checkpoint of step {step}'):
      self._manager.save(
          step, args=orbax.args.StandardSave(_numbered(state)),
          metrics={'score': score})
    self._sweep()

  def _sweep(self) -> None:
    """Deletes the checkpoints that were put aside."""
    if self._read_only or jax.process_index():
      return
    shutil.rmtree(self.folder / LEFT, ignore_errors=True)

  @contextlib.contextmanager
  def _disk(self, what: str) -> Iterator[None]:
    """Turns an error of the disk into one line."""
    try:
      with _hushed():
        yield
    except (OSError, ValueError) as error:
      # Tensorstore raises a ValueError that ends in [os_error_code='28'].
      code = re.search(r"os_error_code='(\d+)'", str(error))
      damaged = isinstance(error, json.JSONDecodeError)
      if isinstance(error, ValueError) and not (code or damaged):
        raise
      reason = os.strerror(int(code[1])) if code else (
          getattr(error, 'strerror', None) or str(error))
      raise LabError(f'{self.folder}: {what} ({reason}); the last whole one '
                     'is kept') from error

  def restore(self, step: int, like: Any) -> Any:
    """Reads a state of the same structure as `like`."""
    leaves = jax.tree.leaves(like)
    shapes = jax.tree.map(_placed, _numbered(like))
    damage = None
    with _unawaited_dropped():
      try:
        with _hushed():
          found = self._manager.restore(
              step, args=orbax.args.StandardRestore(shapes))
      except Exception as error:  # what tensorstore finds damaged has no class
        if processes.is_loss(error):
          raise
        damage = str(error).partition('\n')[0][:100]
    if damage is not None:  # the error is gone, and with it what it held
      raise LabError(
          f'{self.folder / str(step)}: this checkpoint is damaged or of '
          f'another model or method ({damage}); delete it to go on from the '
          'one before, or use --fresh or another --out')
    return jax.tree.unflatten(
        jax.tree.structure(like),
        [found.get(f'{i:05d}', leaf) for i, leaf in enumerate(leaves)])

  def close(self) -> None:
    """Frees orbax's threads."""
    self._manager.close()


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
  """Keeps back the tracebacks that orbax's threads print of a failed write.

  The error itself is raised here; after it, threads that were still writing
  find their event loop closed, some of them late: the filter then stays.
  """
  log = logging.getLogger('absl')
  level = log.level
  log.setLevel(logging.CRITICAL)
  end = process_wide.catch_unraisable(
      lambda found: 'Event loop is closed' in str(found.exc_value))
  try:
    yield
    end()
  finally:
    log.setLevel(level)


@contextlib.contextmanager
def _unawaited_dropped() -> Iterator[None]:
  """Collects the tasks and coroutines that orbax leaves of a failed read.

  Nobody awaits them: collected later, each would complain on a line of its
  own, in the middle of something else.
  """
  log = logging.getLogger('asyncio')
  level = log.level
  log.setLevel(logging.CRITICAL)
  try:
    with warnings.catch_warnings():
      warnings.filterwarnings(
          'ignore', 'coroutine .* was never awaited', RuntimeWarning)
      yield
      gc.collect()
  finally:
    log.setLevel(level)


def _placed(leaf: Any) -> Any:
  """A shape that says where its array is to lie, whoever saved it."""
  sharding = getattr(leaf, 'sharding', None) or (
      jax.sharding.SingleDeviceSharding(jax.local_devices()[0]))
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _score(metrics: Any) -> float:
  return metrics['score']


def _numbered(state: Any) -> dict[str, Any]:
  """The leaves with entries, by number."""
  return {f'{i:05d}': leaf for i, leaf in enumerate(jax.tree.leaves(state))
          if np.size(leaf)}
