"""A progress bar that costs nothing where nobody watches."""

import contextlib
import datetime
from collections.abc import Callable, Iterator
from typing import Any

from gradnorm_optax.lab.support.remaining import Remaining


@contextlib.contextmanager
def bar(plan: Remaining, quiet: bool) -> Iterator[None]:
  """Shows the finished trials of a plan, its time and what is left of it."""
  if quiet:
    yield
    return
  from rich import console, progress, progress_bar, text

  class Bar(progress.ProgressColumn):
    def render(self, task: Any) -> Any:
      gone, left = plan.elapsed(), plan.seconds()
      return progress_bar.ProgressBar(
          total=1.0, width=40,
          completed=0.0 if left is None else gone / max(gone + left, 1e-9))

  class Told(progress.ProgressColumn):
    def render(self, task: Any) -> Any:
      return text.Text(line(plan))

  screen = console.Console(stderr=True)
  shown = progress.Progress(
      progress.SpinnerColumn(), Bar(), Told(), console=screen, transient=True,
      disable=not screen.is_terminal)
  with shown:
    shown.add_task('', total=None)
    yield


def line(plan: Remaining) -> str:
  """Trials, time gone < time left, and what is being done.

  >>> line(Remaining(lambda: 0.0))
  '0/0 trials 0:00:00 < 0:00:00'
  """
  left = plan.seconds()
  done, of = plan.trials
  return (f'{done}/{of} trials {_clock(plan.elapsed())} < '
          f'{"-:--:--" if left is None else _clock(left)} {plan.what} '
          f'{plan.beside()}').rstrip()


def _clock(seconds: float) -> str:
  return str(datetime.timedelta(seconds=round(seconds)))


@contextlib.contextmanager
def training(steps: int, done: int,
             quiet: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
  """Shows a run's figures; yields `show(row)`."""
  if quiet:
    yield lambda row: None
    return
  from rich import console, progress
  screen = console.Console(stderr=True)
  shown = progress.Progress(
      progress.BarColumn(), progress.MofNCompleteColumn(),
      progress.TextColumn('steps'), progress.TimeRemainingColumn(),
      progress.TextColumn('{task.description}'), console=screen,
      transient=True, disable=not screen.is_terminal)
  with shown:
    task = shown.add_task('', total=steps, completed=done)

    def show(row: dict[str, Any]) -> None:
      text = ' '.join(
          f'{label} {row[name]:.3g}' for label, name in (
              ('loss', 'loss'), ('score', 'validation_score'),
              ('gradient', 'gradient_norm')) if row[name] is not None)
      shown.update(task, completed=row['step'], description=text)

    yield show
