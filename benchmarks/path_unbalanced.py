"""Balanced and unbalanced starts of a ReLU net: who notices the difference?

    python -m benchmarks path_unbalanced

runs (or goes on with) `gradnorm compare configs/digits_unbalanced.toml` and
reads its trials: the two starts compute the same function and see the same
batches, so that a method which does not notice has one training curve. A tuning
trial of one seed is compared with the other start's at the rate that is best
from the balanced one.
"""

import argparse
import json
import pathlib
from typing import Any

import numpy as np
from matplotlib import figure as mpl

from benchmarks import common
from gradnorm_optax import lab

HERE = pathlib.Path(__file__).parent
CONFIG = HERE.parent / 'configs' / 'digits_unbalanced.toml'
FIGURE = HERE.parent / 'docs' / 'figures' / 'path_unbalanced.png'
STARTS = ('balanced', 'unbalanced')
SEED = 0  # one of the tuning seeds


def curves(folder: pathlib.Path) -> dict[tuple[str, str, float], np.ndarray]:
  """{(start, method, rate): training losses} of the tuning trials of SEED."""
  text = (folder / 'trials.jsonl').read_text()
  records = [json.loads(line) for line in text.splitlines()]
  return {(record['model'], record['method'], record['rate']):
          np.array(record['history']['train_loss'])
          for record in records
          if record['phase'] == 'tune' and record['seed'] == SEED}


def difference(one: np.ndarray, other: np.ndarray) -> float:
  """The largest difference of two curves; infinite where one diverged."""
  if len(one) != len(other):
    return float('inf')
  return float(np.abs(one - other).max())


def rows(done: Any) -> dict[str, dict[str, Any]]:
  """Both starts of every method, and how far apart one rate leaves them."""
  losses = curves(done.folder)
  found: dict[str, dict[str, Any]] = {}
  for row in done.summary.rows:
    found.setdefault(row.method, {})[row.model] = {
        'rate': row.rate, 'validation': row.score.mean, 'test': row.test.mean,
        'edge_of_grid': row.edge, 'diverged': row.diverged}
  for method, row in found.items():
    rate = row[STARTS[0]]['rate']
    row['difference_at_one_rate'] = difference(
        *(losses[start, method, rate] for start in STARTS))
  return found


def draw(done: Any, found: dict[str, Any]) -> None:
  """Draws the training loss of both starts at one rate, method by method."""
  losses, every = curves(done.folder), done.summary.every
  picture = mpl.Figure(figsize=(2.4 * len(found), 2.4), layout='constrained')
  axes = picture.subplots(1, len(found), sharey=True)
  for axis, (method, row) in zip(axes, found.items(), strict=True):
    rate = row[STARTS[0]]['rate']
    for start, style in zip(STARTS, ('-', '--'), strict=True):
      loss = losses[start, method, rate]
      axis.semilogy(every * np.arange(1, len(loss) + 1),
                    np.clip(loss, 1e-5, 1e3), style, label=start)
    axis.set_title(f'{method}, {rate:g}', fontsize=8)
  axes[0].legend(fontsize=6)
  picture.supxlabel('step', fontsize=8)
  picture.supylabel('training loss', fontsize=8)
  picture.savefig(FIGURE, dpi=110)


def main(arguments: list[str] | None = None) -> None:
  """Prints the table, writes results/path_unbalanced.json and the figure."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=pathlib.Path)
  options = parser.parse_args(arguments)
  done = lab.compare(CONFIG, out=options.out)
  found = rows(done)
  print(common.table(
      ['method', *(f'{start}: rate, test' for start in STARTS),
       'largest difference'],
      [[method, *(f'{row[start]["rate"]:g}, {row[start]["test"]:.1%}'
                  for start in STARTS), f'{row["difference_at_one_rate"]:.1e}']
       for method, row in found.items()]))
  draw(done, found)
  common.save('path_unbalanced', {'methods': found})


if __name__ == '__main__':
  main()
