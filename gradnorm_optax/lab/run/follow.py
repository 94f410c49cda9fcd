"""`gradnorm watch`: shows a run while it goes on, from its files alone."""

import pathlib
import time
from typing import Any

from rich import live

from gradnorm_optax.lab.reporting import run_watch
from gradnorm_optax.lab.run import reading
from gradnorm_optax.lab.support import signals


def show(folder: pathlib.Path, screen: Any, once: bool = False,
         pause: float = 1.0) -> None:
  """Shows a run until it ends or a signal comes.

  Args:
    folder: The run's.
    screen: A `rich` console; one that is no terminal is given lines.
    once: Show it as it is, and return.
    pause: Seconds between readings.

  Raises:
    LabError: No run is there.
  """
  found = reading.read(folder)
  if once or found.ended:
    screen.print(run_watch.render(found))
    return
  try:
    (_live if screen.is_terminal else _lines)(found, screen, pause)
  except signals.Stopped:
    pass  # nobody is disturbed: that is how one leaves


def _live(found: reading.Reading, screen: Any, pause: float) -> None:
  """Draws the page again and again in its place."""
  with live.Live(run_watch.render(found), console=screen,
                 auto_refresh=False) as shown:
    while not found.ended:
      time.sleep(pause)
      found = reading.read(found.folder)
      shown.update(run_watch.render(found), refresh=True)


def _lines(found: reading.Reading, screen: Any, pause: float) -> None:
  """Prints what is new: evaluations, and what leaves its range."""
  step, told = 0, set[tuple[str, str, int]]()
  while True:
    for row in found.rows:
      if row['step'] > step:
        screen.print(run_watch.line(row, found.steps))
    step = max(step, found.step)
    for alert in found.alerts:
      if (key := (alert.block, alert.what, alert.first)) not in told:
        screen.print(f'{alert.block}: {alert.text}')
        told.add(key)
    if found.ended:
      break
    time.sleep(pause)
    found = reading.read(found.folder)
  screen.print(run_watch.render(found))
