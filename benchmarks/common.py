"""Interleaved timing, provenance, and tables for every benchmark."""

import json
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from gradnorm_optax.lab.support import files, json_safe, provenance

RESULTS = pathlib.Path(__file__).parent / 'results'


def interleave(
    steps: dict[str, Callable[[], Any]], rounds: int, warm_up: int = 3
) -> dict[str, np.ndarray]:
  """Times functions in turn, the order reversed every other round.

  Args:
    steps: Functions that return arrays to wait for.
    rounds: Counted rounds.
    warm_up: Rounds before them.

  Returns:
    Seconds by round.
  """
  times: dict[str, list[float]] = {name: [] for name in steps}
  for turn in range(rounds + warm_up):
    for name in list(steps)[::1 if turn % 2 else -1]:
      start = time.perf_counter()
      jax.block_until_ready(steps[name]())
      times[name].append(time.perf_counter() - start)
  return {name: np.array(t[warm_up:]) for name, t in times.items()}


def ratio(times: np.ndarray, base: np.ndarray) -> dict[str, float]:
  """Returns median and quartiles of the ratio, round by round."""
  low, median, high = np.quantile(times / base, [0.25, 0.5, 0.75])
  return {'median': median, 'low': low, 'high': high}


def step_of(tx: optax.GradientTransformation) -> Callable[..., Any]:
  """Returns an optimizer's step as a function (params, state, grads)."""
  def step(params, state, grads):
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state
  return step


def save(name: str, results: dict[str, Any]) -> None:
  """Writes benchmarks/results/NAME.json, with what it was made with."""
  RESULTS.mkdir(exist_ok=True)
  path = RESULTS / f'{name}.json'
  text = json.dumps({**json_safe.plain(results), **made()},
                    indent=1, default=float, allow_nan=False)
  files.write(path, text + '\n')
  print(f'written: {path}')


def made() -> dict[str, Any]:
  """Returns what figures are made with."""
  return {'date': time.strftime('%Y-%m-%d'), 'versions': provenance.versions(),
          'revision': provenance.revision(), 'machine': provenance.machine(),
          'processor': processor()}


def processor() -> str:
  """Returns the name of the processor, where the system tells it."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return platform.processor()
  names = [line.split(':', 1)[1].strip() for line in lines
           if line.startswith('model name')]
  return names[0] if names else platform.processor()


def table(head: list[str], rows: list[list[Any]]) -> str:
  """Returns an aligned table."""
  cells = [head] + [[f'{c:.3f}' if isinstance(c, float) else str(c)
                     for c in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  return '\n'.join('  '.join(
      c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
                   for row in cells)
