"""Seventy trials of a small perceptron: the lab, a plain loop, vmapped.

Ten seeds at seven learning rates, 1000 steps each, a 64-128-128-10 perceptron
on digits, AdamW, batch 100, evaluated every 50 steps. Each way runs in a fresh
process, in turns; its seconds include compilation, but not Python's imports.
Processor seconds, of all threads, are the steadier figure on a busy machine.
The plain loop calls one jitted step from Python, with the lab's batches.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import common

RATES = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
WAYS = ('lab', 'loop', 'vmapped', 'in turn')


def configuration(seeds: int, steps: int, per_call: int) -> Any:
  """The comparison's configuration; `per_call` trials share a call."""
  from gradnorm_optax import lab
  return lab.load({
      'models': {'mlp': {'kind': 'mlp', 'depth': 2, 'width': 128}},
      'methods': {'adamw': {'optimizer': 'adamw'}},
      'train': {'steps': steps, 'batch_size': 100, 'eval_every': 50},
      'compare': {'learning_rates': RATES, 'tune_seeds': seeds,
                  'trials_per_call': per_call}})


def by_lab(seeds: int, steps: int, per_call: int) -> list[float]:
  """Runs the tuning phase of `gradnorm compare`, every result kept."""
  from gradnorm_optax.lab.comparison import runner as runner_lib
  from gradnorm_optax.lab.methods.search_space import Point
  from gradnorm_optax.lab.results import store as store_lib
  from gradnorm_optax.lab.results.trials import Pair
  config = configuration(seeds, steps, per_call)
  with tempfile.TemporaryDirectory() as folder, \
      store_lib.Store(folder) as store:
    runner = runner_lib.Runner(config)
    runner.use(store)
    runner.compile()
    runner.finish('tune')
    records = [record for rate in RATES for record in runner.trials.finished(
        'tune', Pair('mlp', 'adamw'), Point(rate))]
  return [record['history']['loss'][-1] for record in records]


def by_loop(seeds: int, steps: int) -> list[float]:
  """Runs the same trials by a Python loop over a jitted step."""
  import jax
  import optax

  from gradnorm_optax.lab.data import sources
  from gradnorm_optax.lab.training import make_problem
  config = configuration(seeds, steps, 1)
  dataset = sources.load(config.data, config.train)
  made = make_problem.join(config.models['mlp'], dataset)
  (x, y, _), validation = jax.device_put(made.dataset[:2])
  init, evaluate = jax.jit(made.init), jax.jit(made.evaluate)
  per_epoch = len(y) // 100

  def step(params: Any, state: Any, order: Any, index: Any, rate: Any) -> Any:
    rows = jax.lax.dynamic_slice(order, (index * 100,), (100,))
    (loss, _), gradient = jax.value_and_grad(made.loss, has_aux=True)(
        params, {}, x[rows], y[rows])
    updates, state = optax.adamw(rate).update(gradient, state, params)
    return optax.apply_updates(params, updates), state, loss

  step = jax.jit(step, donate_argnums=(0, 1))
  start = jax.jit(lambda params: optax.adamw(1.0).init(params))
  shuffle = jax.jit(lambda seed, epoch: jax.random.permutation(
      jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), epoch),
      len(y)))
  final = []
  for rate in RATES:
    for seed in range(seeds):
      params, _ = init(seed)
      state = start(params)
      for at in range(steps):
        epoch, index = divmod(at, per_epoch)
        if index == 0:
          order = shuffle(seed, epoch)
        params, state, loss = step(params, state, order, index, rate)
        if (at + 1) % 50 == 0:
          score = evaluate(params, {}, validation)
          float(loss)
      final.append(float(score['loss']))
  return final


def one(way: str, seeds: int, steps: int) -> None:
  """Runs one way in this process and prints its seconds and results."""
  if way == 'lab':  # before JAX starts: what the command itself does
    from gradnorm_optax.lab.support import process_wide
    process_wide.one_thread_per_trial()
  import jax

  from gradnorm_optax.lab.comparison import runner  # noqa: F401
  jax.block_until_ready(jax.numpy.zeros([]))
  began, busy = time.perf_counter(), time.process_time()
  run: dict[str, Callable[[], list[float]]] = {
      'lab': lambda: by_lab(seeds, steps, 0),
      'loop': lambda: by_loop(seeds, steps),
      'vmapped': lambda: by_lab(seeds, steps, seeds * len(RATES)),
      'in turn': lambda: by_lab(seeds, steps, 1)}
  final = run[way]()
  seconds = time.perf_counter() - began
  print(json.dumps({
      'seconds': seconds, 'processor': time.process_time() - busy,
      'final': final, 'device': str(jax.devices()[0].device_kind)}))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--seeds', type=int, default=10)
  parser.add_argument('--steps', type=int, default=1000)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument(
      '--ways', nargs='+', choices=WAYS, default=list(WAYS[:3]),
      help='"in turn" matters on a GPU, where "lab" is "vmapped"')
  parser.add_argument('--one', choices=WAYS, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.one:
    one(options.one, options.seeds, options.steps)
    return
  found: dict[str, list[dict[str, Any]]] = {way: [] for way in options.ways}
  for turn in range(options.rounds):
    for way in options.ways[::-1 if turn % 2 else 1]:
      done = subprocess.run(
          [sys.executable, '-m', 'benchmarks', 'trials', '--one', way,
           '--seeds', str(options.seeds), '--steps', str(options.steps)],
          capture_output=True, text=True, check=True, env=dict(os.environ),
          cwd=pathlib.Path(__file__).parent.parent)
      found[way].append(json.loads(done.stdout.splitlines()[-1]))
      print(f'{way}: {found[way][-1]["seconds"]:.1f} s', flush=True)
  first = np.array(found[options.ways[0]][0]['final'])
  results = {'trials': options.seeds * len(RATES), 'steps': options.steps}
  results['ways'] = {way: {
      'seconds': [run['seconds'] for run in runs],
      'median': statistics.median(run['seconds'] for run in runs),
      'processor': statistics.median(run['processor'] for run in runs),
      # Losses of one trial in two ways: rounding grows with the rate.
      'difference': float(np.median(np.abs(
          np.array(runs[0]['final']) - first)))}
                     for way, runs in found.items()}
  results['on'] = found[options.ways[0]][0]['device']
  print(common.table(['way', 'seconds', 'processor', 'other final loss'], [
      [way, row['median'], row['processor'], row['difference']]
      for way, row in results['ways'].items()]))
  small = '' if options.seeds == 10 and options.steps == 1000 else '_small'
  common.save(f'trials{small}', results)


if __name__ == '__main__':
  main()
