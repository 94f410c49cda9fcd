"""Equals on real data: one method under two names, judged by the lab.

    python -m benchmarks judging_null --folder runs/null

Every comparison is the lab's own, with data, nets, tuning and fresh seeds, on
another split of a bundled set (`data.seed`). The two names are Adam on
gradients with noise, of half their root mean square in every leaf; the noise
of the second name is drawn from another stream. Both are one distribution, on
the same starts, orders and examples: every difference is a false alarm.

What the comparisons answered is kept in the folder, where an interrupted call
goes on; it is judged by the rule of the lab ("after") and by the one it had
before: fresh seeds on the validation part, which had chosen the rates, and an
interval over the seeds alone. Where tuning gave the names different rates, they
are no equals any more: those are counted apart, and so are more tuning seeds.
"""

import argparse
import json
import pathlib
import types
from collections import Counter
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

from benchmarks import common
from gradnorm_optax import lab
from gradnorm_optax.lab.comparison.runner import Runner
from gradnorm_optax.lab.objective import evidence
from gradnorm_optax.lab.results import judging, stats, verdict
from gradnorm_optax.lab.results.store import Store
from gradnorm_optax.lab.results.summary import summarize
from gradnorm_optax.lab.results.trials import Pair
from gradnorm_optax.lab.support import jsonl, packed

SETS = {'wine': 40, 'digits': 200}  # steps: few, so that the nets still differ
KINDS = ('gain', 'loss', 'none', 'void')


def noisy_adam(rate: Any, stream: int) -> optax.GradientTransformation:
  """Adam on noisy gradients; the noise differs by stream and by start."""
  def init(params: Any) -> Any:
    sums = jnp.stack([leaf.sum() for leaf in jax.tree.leaves(params)])
    start = jax.lax.bitcast_convert_type(sums.sum(), jnp.int32)
    return jax.random.fold_in(jax.random.key(stream), start)

  def update(updates: Any, key: Any, params: Any = None) -> Any:
    del params
    key, own = jax.random.split(key)
    leaves, shape = jax.tree.flatten(updates)
    noisy = [leaf + 0.5 * jnp.sqrt(jnp.mean(leaf ** 2))
             * jax.random.normal(one, leaf.shape)
             for leaf, one in zip(
                 leaves, jax.random.split(own, len(leaves)), strict=True)]
    return jax.tree.unflatten(shape, noisy), key

  return optax.chain(
      optax.GradientTransformation(init, update), optax.adam(rate))


def configuration(source: str, seed: int, tune: int) -> Any:
  """The comparison of both names on one split of a set."""
  return lab.load({
      'data': {'source': source, 'seed': seed},
      'models': {'mlp': {'kind': 'mlp', 'depth': 1, 'width': 16}},
      'methods': {name: {
          'optimizer': 'benchmarks.judging_null:noisy_adam',
          'options': {'stream': stream}}
          for stream, name in enumerate(('one', 'two'))},
      'train': {'steps': SETS[source], 'batch_size': 20,
                'eval_every': SETS[source] // 4},
      'compare': {'learning_rates': [1e-5, 3e-3, 1e-2, 3e-2, 1e30],
                  'tune_seeds': tune, 'baseline': 'one', 'timing_rounds': 2,
                  'look': 0}})


def compared(source: str, seed: int, tune: int,
             folder: pathlib.Path) -> dict[str, Any]:
  """Runs one comparison and keeps what it answered."""
  with Store(folder) as store:
    runner = Runner(configuration(source, seed, tune))
    runner.use(store)
    runner.run()
    found = summarize(runner.trials)
    answers = {row.method: runner.trials.answers(Pair(row.model, row.method))
               for row in found.rows}
  return {
      'set': source, 'seed': seed, 'step': f'{source} {seed}',
      'void': found.verdicts[0].kind == 'void',
      'text': found.verdicts[0].text,
      'rates': {row.method: row.rate for row in found.rows},
      'tuned': {row.method: {point.rate: point.score
                             for point in row.sensitivity}
                for row in found.rows},
      'validation': {row.method: [run.score for run in row.runs]
                     for row in found.rows},
      'evidence': {name: [None if one is None else packed.pack(one)
                          for one in found.evidence]
                   for name, found in answers.items()}}


def judged(kept: dict[str, Any]) -> dict[str, Any]:
  """Both rules on what a comparison answered."""
  one, two = (judging.Answers(
      tuple(None if text is None else packed.unpack(text)
            for text in kept['evidence'][name]),
      evidence.mean) for name in ('one', 'two'))
  after = judging.difference(two, one)
  before = stats.mean_interval(np.subtract(
      kept['validation']['two'], kept['validation']['one']).tolist())
  return {'before': told(kept, before, False), 'after': told(kept, after, True),
          'intervals': {'before': before, 'after': after}}


def told(kept: dict[str, Any], gain: stats.Interval, after: bool) -> str:
  """The verdict's kind."""
  if kept['void']:
    return 'void'
  rows: Any = [types.SimpleNamespace(
      model='mlp', method=name, plain=name == 'one', trains=True, edge=False,
      rounds=(), fault=None, tuned=0.0, rate=kept['rates'][name],
      validation=np.mean(kept['validation'][name]), sensitivity=[
          types.SimpleNamespace(rate=float(rate), score=score)
          for rate, score in kept['tuned'][name].items()] if after else [])
          for name in ('one', 'two')]
  return verdict.judge(rows, 'one', lambda row, other: gain).kind


def counted(found: list[dict[str, Any]]) -> dict[str, Any]:
  """How often each rule says what; of names with different rates apart."""
  unlike = [len(set(kept['rates'].values())) > 1 for kept in found]
  said = [judged(kept) for kept in found]
  return {'comparisons': len(found), 'unlike rates': sum(unlike)} | {
      rule: {word: Counter(one[rule] for one in said)[word] for word in KINDS}
      | {'differences with unlike rates': sum(
          one[rule] in ('gain', 'loss') for one, other in zip(
              said, unlike, strict=True) if other)}
      for rule in ('before', 'after')}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--folder', type=pathlib.Path, required=True)
  parser.add_argument('--tune-seeds', type=int, nargs='+', default=[2, 8])
  parser.add_argument('--splits', type=int, nargs='+', default=[100, 40],
                      help='for each number of tuning seeds')
  options = parser.parse_args()
  options.folder.mkdir(parents=True, exist_ok=True)
  results = {}
  for tune, count in zip(options.tune_seeds, options.splits, strict=True):
    path = options.folder / f'answers_{tune}.jsonl'
    kept = {row['step']: row for row in jsonl.read(
        path, 'step', 'a comparison')} if path.exists() else {}
    for seed in range(count):
      for source in SETS:
        name = f'{source} {seed}'
        if name not in kept:
          kept[name] = compared(
              source, seed, tune, options.folder / f'{name} {tune}')
          with path.open('a', encoding='utf-8') as file:
            file.write(json.dumps(kept[name]) + '\n')
        print(tune, name, judged(kept[name]), flush=True)
    for source in SETS:
      for splits in sorted({min(40, count), count}):
        name = f'{source}, {splits} splits, {tune} tuning seeds'
        results[name] = counted(
            [kept[f'{source} {seed}'] for seed in range(splits)])
        print(name, results[name])
  common.save('judging_null', results)


if __name__ == '__main__':
  main()
