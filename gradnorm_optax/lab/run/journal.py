"""All that a run writes from step to step, besides its checkpoints."""

import pathlib
import time
from typing import Any

from gradnorm_optax.lab.methods import example_choice
from gradnorm_optax.lab.results.look import Look, noise_scale
from gradnorm_optax.lab.run.folder_guard import (
  BLOCKS,
  METRICS,
  SELECTION,
  THROUGH_TIME,
  WATCH,
)
from gradnorm_optax.lab.run.tensorboard import Board
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.support.json_safe import finite
from gradnorm_optax.lab.support.jsonl import Lines, read_steps


def watched(folder: pathlib.Path, step: int) -> dict[str, Any] | None:
  """All that a watcher had seen at a step; None if there is no row of it."""
  return next((row for row in read_steps(folder / WATCH)
               if row['step'] == step), None)


class Journal:
  """A run's files of lines; those after its checkpoint are forgotten.

  Attributes:
    rows: The figures, as in metrics.jsonl.
    profiles: The gradient's log10 norms through time, as in
      through_time.jsonl; empty where the model is not recurrent.
    blocks: Looks at single steps as records, as in blocks.jsonl; `step` is
      that of the state before the step.
  """

  def __init__(self, folder: pathlib.Path, step: int, *, chooses: bool,
               timed: bool, watches: bool):
    """Opens the files; the last three only where there is something to write.

    Args:
      folder: The run's.
      step: The step of the checkpoint from which the run goes on.
      chooses: Whether the method chooses its examples.
      timed: Whether the model is recurrent.
      watches: Whether blocks are watched.

    Raises:
      LabError: The figures do not reach to that step.
    """
    self._metrics = Lines(folder / METRICS, step)
    if step and [row['step'] for row in self._metrics.rows][-1:] != [step]:
      raise LabError(
          f'{folder / METRICS}: no figures of step {step}, the last '
          f'checkpoint\'s; put the file back, delete checkpoints/{step} to go '
          'on from the one before, or start over with --fresh')
    self._board = Board(folder / 'tensorboard', step)
    self._chosen = Lines(
        folder / SELECTION, step, remember=False) if chooses else None
    self._profiles = Lines(folder / THROUGH_TIME, step) if timed else None
    # The look before the first step is taken again with it.
    self._blocks = Lines(folder / BLOCKS, step or -1)
    self._watch = Lines(
        folder / WATCH, step, remember=False) if watches else None
    self.rows, self.blocks = self._metrics.rows, self._blocks.rows
    self.profiles = self._profiles.rows if self._profiles else []

  def add(self, row: dict[str, Any], figures: Any,
          profile: list[float | None] | None,
          watched: dict[str, Any] | None) -> None:
    """Writes a chunk.

    Args:
      row: Its figures.
      figures: Those of its steps, with their choices.
      profile: The gradient through time.
      watched: What a watcher has seen up to its end, as it is recorded; None
        where none watches.
    """
    if self._chosen is not None:
      first = row['step'] - len(figures.rows) + 1
      self._chosen.add(
          example_choice.lines(first, figures.rows, figures.choice))
    if self._profiles is not None:
      self._profiles.add([{'step': row['step'], 'log_norms': profile}])
    if self._watch is not None and watched is not None:
      self._watch.add([{'step': row['step'], 'time': round(time.time(), 1),
                        **watched}])
      self._board.add_watched(row['step'], watched)
    self._metrics.add([row])
    self._board.add(row)

  def add_look(self, look: Look | None) -> None:
    """Writes a look at the next step, if one was taken and is not there."""
    if look is None:
      return
    step = look.steps[0] - 1
    if all(row['step'] != step for row in self.blocks):
      self._blocks.add([{'step': step, **look.record()}])
      self._board.add_look(step, look)
      self._board.add({'step': step, 'noise_scale': finite(noise_scale(
          [pair for row in self.blocks for pair in row.get('noise', ())]))})

  def close(self) -> None:
    """Gives the files free."""
    self._board.close()


class Unwritten(Journal):
  """That of a process that writes nothing: it keeps the figures alone."""

  def __init__(self) -> None:
    """Begins empty, with the process."""
    self.rows, self.blocks, self.profiles = [], [], []

  def add(self, row: dict[str, Any], figures: Any,
          profile: list[float | None] | None,
          watched: dict[str, Any] | None) -> None:
    """Keeps the figures of a chunk."""
    del figures, profile, watched
    self.rows.append(row)

  def add_look(self, look: Look | None) -> None:
    """Leaves a look to the process that writes."""

  def close(self) -> None:
    """Has no files."""
