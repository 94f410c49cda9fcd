"""A run that ended or was stopped."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from gradnorm_optax.lab.objective.quality import ACCURACY, Measure
from gradnorm_optax.lab.results.look import Look


@dataclasses.dataclass(frozen=True)
class Trained:
  """A run that ended or was stopped.

  Attributes:
    folder: Where everything was written.
    rows: The figures, as in metrics.jsonl.
    stopped: The signal that stopped it; None if it went to its end.
    test: Loss and score of the best checkpoint on the test part, read once at
      the end.
    params: The final parameters.
    measure: What the score is.
    profiles: Of recurrent models: `step` and `log_norms`, log10 of the
      gradient's norm at every step of the sequences.
    data: The data in words: parts, classes, what was filled or dropped.
    look: What the method did to the blocks, at the start and after some
      evaluations; None with `run.look = 0`.
    best: The step of the checkpoint that `test` is of, the best on validation.
  """

  folder: pathlib.Path
  rows: list[dict[str, Any]]
  stopped: int | None
  test: dict[str, float] | None
  params: Any
  measure: Measure = ACCURACY
  profiles: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  data: str = ''
  look: Look | None = None
  best: int | None = None

  def table(self) -> Any:
    """The last figures, as rich shows them on a terminal."""
    from rich import table
    shown = table.Table(box=None, pad_edge=False)
    for name in self.rows[-1] if self.rows else ():
      shown.add_column(name.replace('_', ' '), justify='right')
    for row in self.rows[-10:]:
      shown.add_row(*('-' if v is None else f'{v:.4g}' for v in row.values()))
    return shown

  def told(self) -> str:
    """How it ended, in words."""
    if self.test is None:
      return (f'stopped and saved in {self.folder}; the same command goes on '
              'from there')
    score = self.measure.figure(self.test['score'])
    return (f'test {self.measure.name} {score} (checkpoint of step {self.best},'
            f' the best on validation)\nRun: {self.folder}')

  def plot(self) -> dict[str, Any]:
    """The figures: {name: matplotlib figure}.

    Always `training`; `norms` and `entries` of the blocks where they were
    looked at; `through_time` of recurrent models.
    """
    from gradnorm_optax.lab.reporting import block_figures, run_figures
    found = {'training': run_figures.training(self.rows)}
    if self.look is not None:
      found['norms'] = block_figures.norms([self.look])
      found['entries'] = block_figures.entries([self.look])
    if self.profiles:
      places = np.linspace(0, len(self.profiles) - 1, 4).round().astype(int)
      kept = [self.profiles[place] for place in np.unique(places)]
      found['through_time'] = run_figures.through_time(
          {'gradient': {row['step']: row['log_norms'] for row in kept}})
    return found
