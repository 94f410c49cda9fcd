"""Cost of sampling-based gradient regularization.

Times are interleaved in one process (21 rounds, order alternating), with the
median and the quartiles of the ratio round by round: the forward-mode pass of
a pool of 400 against one gradient of it, the whole scoring against the same,
and a whole training step (pool 100, 20 chosen, probe 20) against a plain step
on the whole pool. Next to them the temporary memory of scoring and of
per-example gradients, as the compiler reports it.
"""

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import time
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

from gradnorm_optax import lab, sgr
from gradnorm_optax.lab import recurrent, tasks, training

RESULTS = pathlib.Path(__file__).parent / 'results' / 'sgr.json'
Program = tuple[Any, tuple[Any, ...]]  # compiled, its arguments
LENGTH, WIDTH, POOL = 100, 100, 400


def _program(function: Any, *arguments: Any) -> Program:
  return jax.jit(function).lower(*arguments).compile(), arguments


def _net(name: str, width: int = WIDTH) -> Any:
  task = tasks.make(name, LENGTH)
  model = recurrent.Recurrent.of(task, width=width)
  return (task, model, recurrent.losses(model, task),
          model.init_params(jax.random.key(0)))


def scoring(name: str, dense: bool = False) -> dict[str, Program]:
  """Programs on the pool of 400; 'gradient' is what others are held against."""
  task, model, loss, params = _net(name)
  pool = task.sample(jax.random.key(1), POOL)
  if dense:  # as numbers, so that no gradient has to scatter
    pool = pool._replace(x=jax.nn.one_hot(pool.x, task.inputs))
  shape = model.perturb_shape(LENGTH, POOL)
  along = jax.tree.map(jnp.ones_like, params)

  def gradient(params, pool):
    return jax.grad(lambda w: loss(w, pool).mean())(params)

  def forward(params, pool, along):
    still = jnp.zeros(shape)  # as in `contributions`
    return jax.jvp(
        lambda w: loss(w, pool, still), (params,), (along,))[1]

  def scores(params, pool):
    return sgr.contributions(
        loss, params, pool, shape=shape, horizon=90, probe=20)

  return {'gradient of the pool': _program(gradient, params, pool),
          'forward-mode pass': _program(forward, params, pool, along),
          'contributions, probe 20': _program(scores, params, pool)}


def steps(name: str) -> dict[str, Program]:
  """Whole training steps of the lab with momentum, pool 100.

  Every step of SGR acts here: its range of Q is out of reach.
  """
  rules = {
      'plain step, pool 100': {},
      'SGR step, 20 of 100, probe 20': {'low': 9.0, 'high': 9.0},
      'reweighting step, 20': {'rule': 'reweight', 'low': 9.0, 'high': 9.0},
      'SGR step in range, 20': {'low': -1e9, 'high': 1e9},
      'random 20 of 100': {'rule': 'random'}}
  made = {}
  for label, sampling in rules.items():
    trainer = training.Trainer(lab.load({
        'data': {'source': 'long_dependency', 'task': name, 'length': LENGTH,
                 'sizes': [2000, 100, 100]},
        'models': {'srn': {'kind': 'recurrent', 'width': WIDTH}},
        'methods': {'m': {'optimizer': 'momentum', 'clip': 1.0,
                          **({'sampling': sampling} if sampling else {})}},
        'train': {'batch_size': 100}, 'run': {'learning_rate': 1e-3}}))
    made[label] = _program(trainer.one, trainer.start())
  return made


def memory() -> dict[str, Any]:
  """Temporary and output MB of scoring a pool of 400, by width."""
  return {f'{width} units': _memory(width) for width in (50, 100, 200)}


def _memory(width: int) -> dict[str, Any]:
  task, model, loss, params = _net('adding', width)
  pool = task.sample(jax.random.key(1), POOL)
  shape = model.perturb_shape(LENGTH, POOL)

  def scores(params, pool):
    return sgr.contributions(
        loss, params, pool, shape=shape, horizon=90, probe=20)[0]

  def per_example(params, pool):
    def one(w, row):
      return loss(w, jax.tree.map(lambda a: a[None], row))[0]
    return jax.vmap(jax.grad(one), (None, 0))(params, pool)

  row = {'parameters': sum(a.size for a in jax.tree.leaves(params))}
  for name, function in (
      ('contributions MB', scores), ('vmap(grad) MB', per_example)):
    found = _program(function, params, pool)[0].memory_analysis()
    row[name] = (found.temp_size_in_bytes + found.output_size_in_bytes) / 1e6
  return row


def _seconds(program: Program, calls: int) -> float:
  compiled, arguments = program
  start = time.perf_counter()
  for _ in range(calls):
    result = compiled(*arguments)
  jax.block_until_ready(result)
  return (time.perf_counter() - start) / calls


def measure(programs: dict[str, Program], rounds: int) -> dict[str, Any]:
  """Times programs in turns; ratios are against the first one."""
  for program in programs.values():
    _seconds(program, 2)
  times: dict[str, list[float]] = {name: [] for name in programs}
  for turn in range(rounds):
    for name in list(programs)[::1 if turn % 2 else -1]:
      times[name].append(_seconds(programs[name], 3))
  base, rows = next(iter(programs)), {}
  for name, taken in times.items():
    ratios = [a / b for a, b in zip(taken, times[base], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    rows[name] = {'ratio': middle, 'quartiles': [low, high],
                  'milliseconds': statistics.median(taken) * 1e3}
  return rows


def _revision() -> str:
  try:
    return subprocess.run(
        ['git', 'describe', '--always', '--dirty'], text=True, check=True,
        capture_output=True, cwd=pathlib.Path(__file__).parent).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return 'unknown'


def main(arguments: list[str] | None = None) -> None:
  """Measures, prints the tables and writes results/sgr.json."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=21)
  options = parser.parse_args(arguments)
  device = jax.devices()[0]
  report: dict[str, Any] = {
      'versions': {'jax': jax.__version__, 'optax': optax.__version__,
                   'numpy': np.__version__},
      'device': f'{device.platform} {device.device_kind}',
      'machine': platform.processor() or platform.machine(),
      'revision': _revision(), 'rounds': options.rounds, 'groups': {},
      'memory': memory()}
  groups = {
      'temporal order, pool of 400': lambda: scoring('temporal_order'),
      'temporal order as one-hot numbers, pool of 400': lambda: scoring(
          'temporal_order', dense=True),
      'adding, pool of 400': lambda: scoring('adding'),
      'temporal order, training step': lambda: steps('temporal_order'),
      'adding, training step': lambda: steps('adding')}
  print(f'T = {LENGTH}, {WIDTH} tanh units')
  for group, build in groups.items():
    rows = report['groups'][group] = measure(build(), options.rounds)
    print(f'\n{group:50}{"ratio":>7}{"quartiles":>16}{"ms":>9}')
    for name, row in rows.items():
      low, high = row['quartiles']
      print(f'{name:50}{row["ratio"]:7.3f}{f"{low:.3f}..{high:.3f}":>16}'
            f'{row["milliseconds"]:9.2f}')
  print(f'\n{"memory, pool of 400":24}{"parameters":>12}'
        f'{"contributions MB":>18}{"vmap(grad) MB":>15}')
  for name, row in report['memory'].items():
    print(f'{name:24}{row["parameters"]:12d}{row["contributions MB"]:18.1f}'
          f'{row["vmap(grad) MB"]:15.1f}')
  RESULTS.parent.mkdir(exist_ok=True)
  RESULTS.write_text(json.dumps(report, indent=1) + '\n')
  print(f'\nwritten: {RESULTS}')


if __name__ == '__main__':
  main()
