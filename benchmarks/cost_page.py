"""Writes docs/cost.md from results/overhead.json, the floor by each figure."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from benchmarks import common
from gradnorm_optax.lab.support import files

PAGE = pathlib.Path(__file__).parents[1] / 'docs' / 'cost.md'
RESULTS = common.RESULTS / 'overhead.json'

STEPS = {
    'mlp': 'MLP, 12 M parameters in 26 arrays',
    'resnet': 'ResNet-50-shaped, 25 M parameters in 160 arrays',
    'scan24': 'scanned transformer, 24 layers in 11 arrays',
    'many': '2000 small arrays'}
TRAINING = {
    'training, memory kept': 'the MLP, batch 128, an allocator that keeps'
                             ' memory',
    'training': "the MLP, batch 128, glibc's allocator"}
COMPILED = {'resnet': '160 arrays', '400': '400 arrays', 'many': '2000 arrays',
            'many, all': '2000 arrays, further chains'}
EAGER = {'eager 400': '400 arrays', 'eager 2000': '2000 arrays'}
ONE, TWO = 'floor: norms + adamw', 'floor: means, norms + adamw'
# With the one-line programs that bound them from below.
FLOORS = {
    'bng + adamw': ONE, 'standardize + adamw': TWO, 'sing': TWO,
    'gn.centralize + adamw': TWO}
# Words of one fused program: p, m and v both ways, g; and g once more for what
# must be known of all of it first, p too for its norm.
LEAST = {'adamw': 7, 'bng + adamw': 8, 'bng(ratio) + adamw': 9,
         'gn.centralize + adamw': 8, 'standardize + adamw': 8, 'sing': 8,
         'sing(softplus)': 8}

HEAD = """# What it costs

<!-- Written by `python -m benchmarks cost_page`; do not edit. -->

Ratios to AdamW alone, interleaved in one process: median, and quartiles in
brackets. A *floor* is the same step with plain float32 sums and nothing else:
no range, no exactness, not for training. *Words* are XLA's count of float32
numbers moved per parameter and step, rare branches included, and *least* those
of one fused program: 7 for AdamW (XLA's moves 10), and one more for each
further reading of the gradient. *Scratch* is what a training step needs besides
parameters, state and batch: glibc maps more than 32 MiB of it anew in each
step, which makes a step a fifth slower, whatever goes over it. A process keeps
it that has `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1099511627776` in its
environment from the start.

Small arrays that are alike are read together where there is one device (or
where the mesh's axes are explicit); with several, `jit` does not show how each
is sharded, and they are compiled one by one.
"""


def page(results: dict[str, Any]) -> str:
  """Returns the page."""
  parts, known = [HEAD], ''
  for named, title, table in (
      (STEPS, 'An optimizer step', _steps),
      (TRAINING, 'A training step', _steps),
      (COMPILED, 'Trace and compile', _seconds('compile seconds')),
      (EAGER, 'The first update outside of `jit`',
       _seconds('first update seconds'))):
    for part, what in named.items():
      rows = table(results[part]['rows']) if part in results else ''
      if rows:
        where = _where(results[part]['made'])
        parts += [f'## {title}: {what}\n', *([where] if where != known else ()),
                  rows]
        known = where
  return '\n'.join(parts)


def _where(made: dict[str, Any]) -> str:
  versions, machine = made['versions'], made['machine']
  known = [f'JAX {versions.get("jax")}', f'optax {versions.get("optax")}',
           made.get('processor', ''), str(machine.get('device', '')),
           f'{machine["cores"]} cores' if 'cores' in machine else '']
  return (f'Measured {made["date"]} with `python -m benchmarks overhead`: '
          + ', '.join(filter(None, known)) + '.\n')


def _steps(rows: dict[str, Any]) -> str:
  columns = {'words': '{:.1f}', 'scratch MiB': '{:.0f}'}
  shown = [key for key in columns if any(key in row for row in rows.values())]
  least = ['least'] if 'words' in shown else []
  lines = [['chain', 'time / AdamW', 'floor', *shown, *least]]
  for name, row in rows.items():
    if name not in (ONE, TWO) and 'time' in row:
      floor = rows.get(FLOORS.get(name, ''))
      lines.append([
          name, _ratio(row['time']), _ratio(floor['time']) if floor else '',
          *(columns[key].format(row[key]) if key in row else ''
            for key in shown),
          *(str(LEAST.get(name, '')) for _ in least)])
  return _table(lines)


def _seconds(key: str) -> Callable[[dict[str, Any]], str]:
  def table(rows: dict[str, Any]) -> str:
    found = {name: row[key] for name, row in rows.items()
             if key in row and name not in (ONE, TWO)}
    return '' if not found else _table([['chain', 'seconds', '/ AdamW']] + [
        [name, f'{value:.1f}', f'{value / found["adamw"]:.2f}']
        for name, value in found.items()])
  return table


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
