"""Writes docs/cost.md from results/overhead.json, the floor by each figure."""

import json
import pathlib
from typing import Any

from benchmarks import common
from gradnorm_optax.lab.support import files

PAGE = pathlib.Path(__file__).parents[1] / 'docs' / 'cost.md'
RESULTS = common.RESULTS / 'overhead.json'

TREES = {
    'mlp': 'MLP, 12 M parameters in 26 arrays',
    'resnet': 'ResNet-50-shaped, 25 M parameters in 160 arrays',
    'scan24': 'scanned transformer, 24 layers in 11 arrays',
    'many': '2000 small arrays'}
ONE, TWO = 'floor: norms + adamw', 'floor: means, norms + adamw'
# With the one-line programs that bound them from below.
FLOORS = {
    'bng + adamw': ONE, 'standardize + adamw': TWO, 'sing': TWO,
    'gn.centralize + adamw': TWO}

HEAD = """# What it costs

<!-- Written by `python -m benchmarks cost_page`; do not edit. -->

Ratios to AdamW alone, interleaved in one process: median, and quartiles in
brackets. A *floor* is the same step with plain float32 sums and nothing else:
no range, no exactness, not for training. *Words* are XLA's count of float32
numbers moved per parameter and step, rare branches included: at least 7 for a
fused AdamW (XLA's moves 10), and one more for each reading of the gradient.
"""


def page(results: dict[str, Any]) -> str:
  """Returns the page."""
  parts = [HEAD, _where(results)]
  for name, title in TREES.items():
    if rows := results.get(name):
      parts += [f'## An optimizer step: {title}\n', _steps(rows)]
  if rows := results.get('training'):
    parts += ['## A training step: the MLP, batch 128\n', _steps(
        {name: {'time': row} for name, row in rows.items()})]
  for key, title in (('compile seconds', 'Trace and compile'),
                     ('eager seconds', 'The first update outside of `jit`')):
    for count, seconds in results.get(key, {}).items():
      parts += [f'## {title}: {count} arrays\n', _seconds(seconds)]
  return '\n'.join(parts)


def _where(results: dict[str, Any]) -> str:
  versions = results.get('versions', results)
  machine = results.get('machine', results)
  known = [f'JAX {versions.get("jax")}', f'optax {versions.get("optax")}', *(
      str(found[key]) for found, key in (
          (results, 'processor'), (machine, 'device'), (machine, 'devices'))
      if key in found),
           f'{machine["cores"]} cores' if 'cores' in machine else '']
  return (f'Measured {results["date"]} with `python -m benchmarks overhead`: '
          + ', '.join(filter(None, known)) + '.\n')


def _steps(rows: dict[str, Any]) -> str:
  lines = [['chain', 'time / AdamW', 'floor', 'words']]
  for name, row in rows.items():
    if name not in (ONE, TWO):
      floor = rows.get(FLOORS.get(name, ''))
      lines.append([
          name, _ratio(row['time']), _ratio(floor['time']) if floor else '',
          f'{row["words"]:.1f}' if 'words' in row else ''])
  return _table(lines)


def _seconds(seconds: dict[str, float]) -> str:
  return _table([['chain', 'seconds', '/ AdamW']] + [
      [name, f'{value:.1f}', f'{value / seconds["adamw"]:.2f}']
      for name, value in seconds.items()])


def _ratio(row: dict[str, float]) -> str:
  return f'{row["median"]:.2f} ({row["low"]:.2f}, {row["high"]:.2f})'


def _table(lines: list[list[str]]) -> str:
  head, *rows = lines
  text = [head, ['---'] * len(head), *rows]
  return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in text) + '\n'


def main() -> None:
  files.write(PAGE, page(json.loads(RESULTS.read_text())))
  print(f'written: {PAGE}')


if __name__ == '__main__':
  main()
