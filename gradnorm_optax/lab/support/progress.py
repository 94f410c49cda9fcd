"""A progress bar that costs nothing where nobody watches."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def bar(total: int, quiet: bool) -> Iterator[Callable[[str, int], None]]:
  """Shows finished trials; yields `tick(what, finished)`, thread-safe."""
  if quiet:
    yield lambda what, finished: None
    return
  from rich import console, progress
  screen = console.Console(stderr=True)
  shown = progress.Progress(
      progress.SpinnerColumn(), progress.BarColumn(),
      progress.MofNCompleteColumn(), progress.TextColumn('trials'),
      progress.TimeElapsedColumn(), progress.TextColumn('<'),
      progress.TimeRemainingColumn(),
      progress.TextColumn('{task.description}', markup=False),
      console=screen, transient=True, disable=not screen.is_terminal)
  lock = threading.Lock()
  with shown:
    task = shown.add_task('', total=total)

    def tick(what: str, finished: int) -> None:
      with lock:
        shown.update(task, advance=finished, description=what)

    yield tick


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
