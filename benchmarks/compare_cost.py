"""A whole `gradnorm compare` against the same trials written by hand.

Eight methods, five rates, ten seeds, 300 steps of a 64-32-32-10 perceptron on
digits, evaluated every 50 steps; ten fresh seeds at each method's chosen rate.
The lab: `gradnorm compare`, everything included: looking at the blocks' norms,
timing the steps, table, figures and report. By hand: for each method one jitted
function, a scan over 50 steps within a scan over evaluations, called for every
rate and seed in turn, then for the fresh seeds. Both compile in a fresh
process. Processor seconds, of all threads, are the steadier figure on a busy
machine; wall seconds are what one waits.
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
from typing import Any

from benchmarks import common

METHODS: dict[str, dict[str, Any]] = {
    f'{name}_{optimizer}' if name else optimizer: {
        'optimizer': optimizer, **extra}
    for name, extra in (('', {}), ('clip', {'clip': 1.0}),
                        ('bng', {'normalize': 'bng'}),
                        ('sing', {'normalize': 'sing'}))
    for optimizer in ('adam', 'momentum')}
RATES = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
SEEDS, STEPS, EVERY, SIZE = 10, 300, 50, 32
WAYS = ('lab', 'by hand')


def configuration() -> Any:
  """What is compared."""
  from gradnorm_optax import lab
  return lab.load({
      'name': 'compare_cost',
      'models': {'mlp': {'kind': 'mlp', 'depth': 2, 'width': 32}},
      'methods': METHODS,
      'train': {'steps': STEPS, 'batch_size': SIZE, 'eval_every': EVERY},
      'compare': {'learning_rates': RATES, 'tune_seeds': SEEDS,
                  'seeds': SEEDS}})


def by_lab() -> dict[str, float]:
  """The command, in a folder of its own; the best score of every method."""
  from gradnorm_optax.lab.comparison import comparison
  with tempfile.TemporaryDirectory() as folder:
    done = comparison.run(configuration(), folder, quiet=True)
  return {row.method: row.score.mean for row in done.summary.rows}


def by_hand() -> dict[str, float]:
  """The same trials; the mean score of every method's fresh seeds."""
  import jax
  import jax.numpy as jnp
  import optax
  from jax import lax

  from gradnorm_optax.lab.data import sources
  from gradnorm_optax.lab.methods import chain
  from gradnorm_optax.lab.training import make_problem
  config = configuration()
  dataset = sources.load(config.data, config.train)
  made = make_problem.join(config.models['mlp'], dataset)
  (x, y, _), (vx, vy, _), (tx_, ty, _) = jax.device_put(dataset[:3])
  steps = len(y) // SIZE

  def outputs(params: Any, x: Any) -> Any:
    return made.module.apply({'params': params}, x, train=False)

  def loss(params: Any, x: Any, y: Any) -> Any:
    return optax.losses.softmax_cross_entropy_with_integer_labels(
        outputs(params, x), y).mean()

  def score(params: Any, x: Any, y: Any) -> Any:
    return (outputs(params, x).argmax(-1) == y).mean()

  def trial(method: Any, rate: Any, seed: Any, x: Any, y: Any) -> Any:
    tx = chain.build(method, rate, made.context).tx
    params = made.module.init(
        jax.random.key(seed), x[:1], train=False)['params']

    def epoch(number: Any) -> Any:
      return jax.random.permutation(
          jax.random.fold_in(jax.random.key(seed), number), len(y))

    def step(carry: Any, at: Any) -> Any:
      params, state, order = carry
      order = lax.cond(at % steps == 0, lambda: epoch(at // steps),
                       lambda: order)
      rows = lax.dynamic_slice(order, (at % steps * SIZE,), (SIZE,))
      value, gradient = jax.value_and_grad(loss)(params, x[rows], y[rows])
      updates, state = tx.update(gradient, state, params)
      return (optax.apply_updates(params, updates), state, order), value

    def chunk(carry: Any, at: Any) -> Any:
      carry, losses = lax.scan(step, carry, at)
      return carry, (losses.mean(), loss(carry[0], vx, vy),
                     score(carry[0], vx, vy))

    carry, history = lax.scan(
        chunk, (params, tx.init(params), jnp.arange(len(y))),
        jnp.arange(STEPS).reshape(-1, EVERY))
    return history, score(carry[0], tx_, ty)

  found = {}
  for name, method in config.methods.items():
    run = jax.jit(lambda rate, seed, x, y, method=method: trial(
        method, rate, seed, x, y))
    tuned = {rate: statistics.fmean(
        float(run(rate, seed, x, y)[0][2][-1]) for seed in range(SEEDS))
             for rate in RATES}
    best = max(tuned, key=lambda rate: tuned[rate])
    found[name] = statistics.fmean(
        float(run(best, 1000 + seed, x, y)[1]) for seed in range(SEEDS))
  return found


def one(way: str) -> None:
  """Runs one way in this process and prints its seconds and scores."""
  if way == 'lab':  # what the command itself does, before JAX starts
    from gradnorm_optax.lab.support import process_wide
    process_wide.one_thread_per_trial()
  import jax

  from gradnorm_optax.lab.comparison import comparison  # noqa: F401
  jax.block_until_ready(jax.numpy.zeros([]))
  began, busy = time.perf_counter(), time.process_time()
  scores = by_lab() if way == 'lab' else by_hand()
  print(json.dumps({'seconds': time.perf_counter() - began,
                    'processor': time.process_time() - busy,
                    'scores': scores}))


def main() -> None:
  """Runs both ways in turns and keeps results/compare_cost.json."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--one', choices=WAYS, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.one:
    one(options.one)
    return
  # Nothing compiled before: a shared cache would be kind to whoever comes last.
  environment = {**os.environ, 'JAX_ENABLE_COMPILATION_CACHE': 'false'}
  found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
  for turn in range(options.rounds):
    for way in WAYS[::-1 if turn % 2 else 1]:
      done = subprocess.run(
          [sys.executable, '-m', 'benchmarks', 'compare_cost', '--one', way],
          capture_output=True, text=True, check=True, env=environment,
          cwd=pathlib.Path(__file__).parent.parent)
      found[way].append(json.loads(done.stdout.splitlines()[-1]))
      print(f'{way}: {found[way][-1]["seconds"]:.1f} s, '
            f'{found[way][-1]["processor"]:.1f} of processors', flush=True)
  results: dict[str, Any] = {
      'trials': len(METHODS) * SEEDS * (len(RATES) + 1), 'steps': STEPS,
      'load': os.getloadavg()[0], 'ways': {way: {
          key: [run[key] for run in runs] for key in runs[0]}
                                           for way, runs in found.items()}}
  for key in ('seconds', 'processor'):
    lab, hand = (statistics.median(results['ways'][way][key]) for way in WAYS)
    results[f'ratio of {key}'] = lab / hand
  print(common.table(['ratio of', 'lab / by hand'], [
      [key, results[f'ratio of {key}']] for key in ('seconds', 'processor')]))
  common.save('compare_cost', results)


if __name__ == '__main__':
  main()
