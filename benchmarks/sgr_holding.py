"""Holding the long-term norm: starts far below and far above the safe range.

Temporal order, T = 100, 100 tanh units, Glorot start, recurrent weights x 0.7
and x 1.5; SGR against random selection of as many from the same pools, 300
steps, 5 seeds. Selection acts outside [-0.7, 0.7] (relative Q at a tenth of the
sequence); a run is judged in range within [-1, 1]. Nothing here says that the
task is learned.
"""

import argparse
import json
import pathlib
from typing import Any

import jax
import numpy as np
from matplotlib import figure as mpl, rcParams

from benchmarks import common
from gradnorm_optax import lab
from gradnorm_optax.lab import training

HERE = pathlib.Path(__file__).parent
FIGURE = HERE.parent / 'docs' / 'figures' / 'sgr_holding.svg'
STARTS = {0.7: 1e-3, 1.5: 3e-3}  # recurrent scale -> learning rate
SAFE, JUDGED, STEPS = 0.7, 1.0, 300
RULES = ('sgr', 'random')
COLOURS = {'sgr': '#0072B2', 'random': '#D55E00'}


def runs(scale: float, rate: float, rule: str, seeds: int) -> np.ndarray:
  """Returns Q before each step: (seeds, STEPS)."""
  # With an endless safe range every choice is random, and Q is still measured.
  bound = SAFE if rule == 'sgr' else 1e9
  config = lab.load({
      'data': {'source': 'long_dependency', 'task': 'temporal_order',
               'length': 100, 'sizes': [2000, 100, 100]},
      'models': {'srn': {'kind': 'recurrent', 'scale': scale}},
      'methods': {'m': {'optimizer': 'momentum', 'clip': 1.0,
                        'sampling': {'low': -bound, 'high': bound}}},
      'train': {'steps': STEPS, 'eval_every': STEPS, 'batch_size': 100},
      'run': {'learning_rate': rate}})
  trainer = training.Trainer(config)
  found = []
  for seed in range(seeds):
    trainer.seed = seed
    # A new function: a compiled one would keep the first seed's data order.
    _, figures = jax.jit(lambda state: trainer.stretch(state))(trainer.start())
    found.append(np.asarray(figures.choice.q))
  return np.stack(found)


def summary(q: np.ndarray) -> dict[str, Any]:
  """Says when each run enters the judged range, and how it ends."""
  inside = np.abs(q) <= JUDGED
  first = [int(row.argmax()) if row.any() else None for row in inside]
  return {'first step in range': first,
          'median Q at the start': round(float(np.median(q[:, 0])), 2),
          'median Q of the last 50 steps': [
              round(float(np.median(row)), 2) for row in q[:, -50:]],
          'share of the last 50 steps in range': [
              round(float(row.mean()), 2) for row in inside[:, -50:]]}


def draw(found: dict[float, dict[str, np.ndarray]]) -> None:
  """Draws Q against the step, one panel for each start."""
  rcParams['svg.fonttype'], rcParams['svg.hashsalt'] = 'none', 'gradnorm'
  picture = mpl.Figure(figsize=(9.0, 3.6), layout='constrained')
  for axis, (scale, rules) in zip(
      picture.subplots(1, len(found)), found.items(), strict=True):
    axis.axhspan(-JUDGED, JUDGED, color='0.9')
    for rule, q in rules.items():
      for i, row in enumerate(q):
        axis.plot(row, color=COLOURS[rule], linewidth=0.9, alpha=0.8,
                  label=rule if not i else None)
    axis.set(title=f'recurrent weights x {scale}, rate {STARTS[scale]:g}',
             xlabel='step', ylabel='relative long-term log norm Q')
    axis.spines[['top', 'right']].set_visible(False)
    axis.legend(frameon=False)
  FIGURE.parent.mkdir(parents=True, exist_ok=True)
  picture.savefig(FIGURE, metadata={'Date': None})


def main(arguments: list[str] | None = None) -> None:
  """Runs, prints the summary, writes results/sgr_holding.json and a figure."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--seeds', type=int, default=5)
  options = parser.parse_args(arguments)
  found: dict[float, dict[str, np.ndarray]] = {}
  report: dict[str, Any] = {
      'steps': STEPS, 'safe': SAFE, 'judged': JUDGED, 'rows': {}}
  for scale, rate in STARTS.items():
    found[scale] = {}
    for rule in RULES:
      q = found[scale][rule] = runs(scale, rate, rule, options.seeds)
      name = f'x {scale}, rate {rate:g}, {rule}'
      report['rows'][name] = summary(q)
      print(name, json.dumps(report['rows'][name]), flush=True)
  draw(found)
  common.save('sgr_holding', report)
  print(f'written: {FIGURE}')


if __name__ == '__main__':
  main()
