"""Does stopping the lower half of the rates after a quarter change verdicts?

    python -m benchmarks halving --folder runs/halving

Six comparisons, smaller editions of those in `configs/` and one of wines, each
on several splits of its data (`data.seed`), all of them through the whole of
`compare`: first every rate over all steps, then with `compare.halving`. What
goes on after the first steps is by construction the same trial as without
halving, so that the second comparison finds its tuning in the folder of the
first; only where it chose another rate, fresh runs are added.

Counted are verdicts that change, methods whose rate changes, and the steps that
tuning takes. From the whole curves it is also told how often the rate that is
best in the end was among the better half after an eighth, a quarter and a half
of the steps. An interrupted call goes on.
"""

import argparse
import json
import pathlib
import tomllib
from typing import Any

import numpy as np

from benchmarks import common
from gradnorm_optax import lab
from gradnorm_optax.lab.comparison.runner import Runner
from gradnorm_optax.lab.results import grids
from gradnorm_optax.lab.results.store import Store
from gradnorm_optax.lab.results.summary import summarize
from gradnorm_optax.lab.results.trials import Trials
from gradnorm_optax.lab.support import jsonl

SHARES = (0.125, 0.25, 0.5)
CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
# {name: (file, models, methods, changes)}; a share of the steps of the file.
SMALL: dict[str, tuple[str, list[str], list[str], list[str]]] = {
    'digits_depth': (
        'digits_depth', ['mlp6'],
        ['adam', 'momentum', 'clip_adam', 'bng_adam', 'sing_adamw'],
        ['models.mlp6.width=50', 'train.steps=400', 'train.eval_every=25']),
    'digits_unbalanced': (
        'digits_unbalanced', ['unbalanced'],
        ['sgd', 'adagrad', 'adam', 'path_sgd', 'path_adagrad'],
        ['models.unbalanced.width=64', 'train.steps=240',
         'train.eval_every=15']),
    'digits_weight_norm': (
        'digits_weight_norm', ['plain'], ['adam', 'weight_normalized'],
        ['models.plain.width=4', 'train.steps=240', 'train.eval_every=15',
         'compare.tune_seeds=2', 'compare.seeds=5']),
    'chars_sing': (
        'chars_sing', ['transformer'], ['adamw', 'clip_adamw', 'sing'],
        ['models.transformer.depth=2', 'models.transformer.width=16',
         'models.transformer.heads=2', 'data.size=400', 'train.steps=240',
         'train.eval_every=15', 'compare.tune_seeds=2', 'compare.seeds=5']),
    'digits_depth, cosine': (
        'digits_depth', ['mlp12'], ['adam', 'bng_adam', 'sing_momentum'],
        ['models.mlp12.width=32', 'train.steps=480', 'train.eval_every=30',
         'train.schedule=cosine']),
    'wine': (
        '', ['mlp'], [],
        ['data.source=wine', 'models.mlp={kind="mlp", depth=3, width=32}',
         'train={steps=160, batch_size=20, eval_every=10}',
         'compare.learning_rates=[0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3]',
         'methods.adam={optimizer="adam"}',
         'methods.momentum={optimizer="momentum"}',
         'methods.bng_momentum={optimizer="momentum", normalize="bng"}',
         'methods.sing_adamw={optimizer="adamw", normalize="sing"}']),
}


def configuration(name: str, split: int) -> Any:
  """One comparison on one split, every rate over all steps."""
  file, models, methods, changes = SMALL[name]
  tables: dict[str, Any] = tomllib.loads(
      (CONFIGS / f'{file}.toml').read_text()) if file else {}
  if file:
    tables['models'] = {key: tables['models'][key] for key in models}
    tables['methods'] = {key: tables['methods'][key] for key in methods}
    tables.pop('run', None)
    for method in tables['methods'].values():
      method.pop('models', None)
  return lab.load(tables, [*changes, f'data.seed={split}', 'compare.look=0',
                           'compare.timing_rounds=2', 'compare.workers=1'])


def finished(config: Any, folder: pathlib.Path) -> Trials:
  """Runs what is missing of a comparison."""
  with Store(folder) as store:
    runner = Runner(config)
    runner.use(store)
    runner.run()
  return runner.trials


def told(trials: Trials) -> dict[str, Any]:
  """Verdict, rates and the steps of tuning, as shares of whole runs."""
  found = summarize(trials)
  verdict, = found.verdicts
  whole = sum(len(trials.lasting(pair)) for pair in trials.pairs())
  short = trials.planned('early') / len(trials.seeds('early'))
  return {'kind': verdict.kind, 'choice': verdict.choice,
          'method': verdict.method, 'baseline': verdict.baseline,
          'text': verdict.text,
          'rates': {row.method: row.rate for row in found.rows},
          'trains': {row.method: row.trains for row in found.rows},
          'runs of a seed': whole + short * grids.share(trials.config)}


def ranks(trials: Trials) -> dict[str, dict[str, int]]:
  """{method: {share: the final best rate's rank among all, from 0}}."""
  found: dict[str, dict[str, int]] = {}
  for pair in trials.pairs():
    runs = {point: trials.runs('tune', pair, point)
            for point in trials.points(pair)}
    best = trials.chosen(pair)
    for share in SHARES:
      last = round(share * max(
          len(run.curve) for group in runs.values() for run in group)) - 1
      scores = {point: np.mean([
          run.curve[last] if len(run.curve) > last else trials.basis.worst
          for run in group]) for point, group in runs.items()}
      found.setdefault(pair.method, {})[str(share)] = int(sum(
          score > scores[best] for score in scores.values()))
  return found


def compared(name: str, split: int, folder: pathlib.Path) -> dict[str, Any]:
  """One comparison, without halving and with it."""
  config = configuration(name, split)
  whole = finished(config, folder)
  halved = finished(lab.load(config, ['compare.halving=true']), folder)
  return {'step': f'{name} {split}', 'config': name, 'split': split,
          'grid': len(config.compare.learning_rates), 'ranks': ranks(whole),
          'whole': told(whole), 'halved': told(halved)}


def counted(rows: list[dict[str, Any]]) -> dict[str, Any]:
  """Sums over splits."""
  pairs = [(row, method) for row in rows for method, trains
           in row['whole']['trains'].items() if trains]
  held = {str(share): sum(
      row['ranks'][method][str(share)] < grids.half(row['grid'])
      for row, method in pairs) for share in SHARES}
  return {
      'comparisons': len(rows),
      'verdicts': [row['whole']['kind'] for row in rows],
      'verdicts that change': sum(
          (row['whole']['kind'], row['whole']['choice'])
          != (row['halved']['kind'], row['halved']['choice']) for row in rows),
      'methods that train': len(pairs),
      'rates that change': sum(
          row['whole']['rates'][method] != row['halved']['rates'][method]
          for row, method in pairs),
      'best rate in the better half after a share of the steps': held,
      'tuning steps': round(float(np.mean(
          [row['halved']['runs of a seed'] / row['whole']['runs of a seed']
           for row in rows])), 3)}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--folder', type=pathlib.Path, required=True)
  parser.add_argument('--splits', type=int, default=4)
  options = parser.parse_args()
  options.folder.mkdir(parents=True, exist_ok=True)
  path = options.folder / 'compared.jsonl'
  kept = {row['step']: row for row in jsonl.read(
      path, 'step', 'a comparison')} if path.exists() else {}
  for split in range(options.splits):
    for name in SMALL:
      if f'{name} {split}' in kept:
        continue
      row = compared(name, split, options.folder / f'{name} {split}')
      kept[row['step']] = row
      with path.open('a', encoding='utf-8') as file:
        file.write(json.dumps(row) + '\n')
      print(row['step'], row['whole']['kind'], row['halved']['kind'],
            flush=True)
  found = {name: counted([row for row in kept.values()
                          if row['config'] == name]) for name in SMALL}
  for name, row in found.items():
    print(name, row)
  common.save('halving', {'configurations': found,
                          'comparisons': list(kept.values())})


if __name__ == '__main__':
  main()
