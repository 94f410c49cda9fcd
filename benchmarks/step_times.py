"""The lab's time of a step against that of a loop written by hand.

Five small models. By hand: a jitted scan over epochs, each a scan over batches
of a fresh permutation, with optax and the bare Linen module; many epochs in one
call, whose time is divided by the steps. The lab: the marginal time of
`gradnorm compare`. Both in turns, in one process and one thread per product, as
the command runs trials; the share of a call in a short one is shown beside.
Measured twice: by the wall's clock, and by the processor's, which leaves out
what
other processes take: the one to believe on a busy machine.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import common

CLASSES = {'data': {'source': 'digits'}}
TEXT = {'data': {'source': 'characters', 'length': 32, 'size': 300}}
SEQUENCES = {'data': {'source': 'long_dependency', 'length': 30,
                      'sizes': [400, 50, 50]}}
MODELS: dict[str, dict[str, Any]] = {
    'MLP 2x16': {**CLASSES, 'model': {'kind': 'mlp', 'depth': 2, 'width': 16}},
    'MLP 12x100': {**CLASSES, 'model': {
        'kind': 'mlp', 'depth': 12, 'width': 100}},
    'CNN': {**CLASSES, 'model': {'kind': 'cnn', 'depth': 4, 'width': 8}},
    'transformer': {**TEXT, 'model': {
        'kind': 'transformer', 'depth': 2, 'width': 32}},
    'LSTM': {**SEQUENCES, 'model': {
        'kind': 'recurrent', 'cell': 'lstm', 'width': 32}}}
CLOCKS = {'wall': time.perf_counter, 'processor': time.process_time}
SIZE, RATE, SPENT = 32, 1e-3, 0.2  # a batch; seconds of a call by hand


def bench(given: dict[str, Any]) -> Any:
  """The lab's model on its data, one trial in a call, and its method."""
  from gradnorm_optax import lab
  from gradnorm_optax.lab.comparison.model_programs import Bench
  from gradnorm_optax.lab.data import sources
  config = lab.load({
      'data': given['data'], 'models': {'m': given['model']},
      'methods': {'adam': {'optimizer': 'adam'}},
      'train': {'steps': 100, 'batch_size': SIZE, 'eval_every': 10}})
  return Bench(config.models['m'], sources.load(config.data, config.train),
               config.train, 1), config.methods['adam']


def by_hand(problem: Any) -> Callable[[int], None]:
  """Returns `run(epochs)`, which trains for so many; compiled when it returns.

  The first call of a length compiles it.
  """
  import jax
  import optax
  from jax import lax
  x, y, _ = jax.device_put(problem.dataset.train)
  tx, steps = optax.adam(RATE), len(y) // SIZE
  params, _ = jax.jit(problem.init)(0)

  def loss(params: Any, x: Any, y: Any) -> Any:
    outputs = problem.module.apply({'params': params}, x, train=True)
    return problem.dataset.objective.losses(outputs, y).mean()

  def epoch(carry: Any, key: Any, x: Any, y: Any) -> Any:
    order = jax.random.permutation(key, len(y))[:steps * SIZE]

    def step(carry: Any, rows: Any) -> Any:
      params, state = carry
      value, gradient = jax.value_and_grad(loss)(params, x[rows], y[rows])
      updates, state = tx.update(gradient, state, params)
      return (optax.apply_updates(params, updates), state), value
    return lax.scan(step, carry, order.reshape(steps, SIZE))

  train = jax.jit(lambda carry, keys, x, y: lax.scan(
      lambda carry, key: epoch(carry, key, x, y), carry, keys))

  def run(epochs: int) -> None:
    if epochs not in ready:
      keys = jax.random.split(jax.random.key(0), epochs)
      given = jax.block_until_ready(
          ((params, tx.init(params)), keys, x, y))
      ready[epochs] = train.lower(*given).compile(), given
    compiled, given = ready[epochs]
    jax.block_until_ready(compiled(*given))

  ready: dict[int, Any] = {}
  return run


def measure(name: str, rounds: int) -> dict[str, dict[str, float]]:
  """Both ways in turns: microseconds of a step and their ratio, by clock."""
  from gradnorm_optax.lab.comparison import timing
  from gradnorm_optax.lab.results import time_ratio
  made, method = bench(MODELS[name])
  made.compile(method)

  train, epoch = by_hand(made.problem), made.per_epoch

  def spent(clock: Callable[[], float], run: Callable[[], Any]) -> float:
    began = clock()
    run()
    return clock() - began

  def one(clock: Callable[[], float]) -> dict[str, float]:
    def lab(steps: int) -> float:
      return made.time(method, RATE, steps) if clock is CLOCKS['wall'] else (
          spent(clock, lambda: made.time(method, RATE, steps)))

    train(1)
    first = min(spent(clock, lambda: train(1)) for _ in range(3))
    epochs = max(1, round(SPENT / first))
    train(epochs)
    times: dict[str, list[float]] = {'lab': [], 'by hand': [], 'call': []}
    for turn in range(rounds):
      for way in ('lab', 'by hand')[::1 if turn % 2 else -1]:
        times[way].append(
            timing.rounds({'m': lab}, epoch, 1, 0.0)['m'][0] if way == 'lab'
            else spent(clock, lambda: train(epochs)) / (epochs * epoch))
      times['call'].append(lab(10) / 10)
    ratio, low, high = time_ratio.ratio(times['lab'], times['by hand'])
    us = {way: 1e6 * statistics.median(rows) for way, rows in times.items()}
    return {'lab': us['lab'], 'by hand': us['by hand'], 'ratio': ratio,
            'low': low, 'high': high, 'whole call of 10': us['call']}

  return {name: one(clock) for name, clock in CLOCKS.items()}


def main() -> None:
  """Measures and keeps results/step_times.json."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=15)
  parser.add_argument('--only', choices=MODELS)
  options = parser.parse_args()
  from gradnorm_optax.lab.support import process_wide
  process_wide.one_thread_per_trial()
  found = {name: measure(name, options.rounds) for name in MODELS
           if options.only in (None, name)}
  head = ['lab', 'by hand', 'ratio', 'low', 'high', 'whole call of 10']
  print(common.table(['model', 'clock', *head], [
      [name, clock, *(row[key] for key in head)]
      for name, rows in found.items() for clock, row in rows.items()]))
  if options.only is None:
    common.save('step_times', {
        'rounds': options.rounds, 'load': os.getloadavg()[0],
        'microseconds': found})
