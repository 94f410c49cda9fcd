"""Cost of sampling-based gradient regularization.

Times are interleaved in one process (21 rounds, order alternating), with the
median and the quartiles of the ratio round by round: the forward-mode pass of
a pool of 400 against one gradient of it, the whole scoring against the same,
and a whole training step (pool 100, 20 chosen, probe 20) against a plain step
on the whole pool. Next to them the temporary memory of scoring and of
per-example gradients, as the compiler reports it.
"""

import argparse
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks import common
from gradnorm_optax import lab, sgr
from gradnorm_optax.lab.data import long_dependency
from gradnorm_optax.lab.models import recurrent
from gradnorm_optax.lab.run import compiled_run as trainer_lib

Program = tuple[Any, tuple[Any, ...]]  # compiled, its arguments
LENGTH, WIDTH, POOL = 100, 100, 400


def _program(function: Any, *arguments: Any) -> Program:
  return jax.jit(function).lower(*arguments).compile(), arguments


def _net(name: str, width: int = WIDTH) -> Any:
  task = long_dependency.make(name, LENGTH)
  model = recurrent.Recurrent(
      task.outputs, task.inputs, width, readout=task.readout)

  def loss(params, batch, perturb=None):
    out: Any = model.apply({'params': params}, batch.x, perturb=perturb)
    return task.losses(out, batch.y)

  params = model.init(
      jax.random.key(0), jnp.zeros((1, 1, task.inputs)))['params']
  return task, model, loss, params


def _gradient(loss: Any, params: Any, pool: Any) -> Program:
  return _program(lambda params, pool: jax.grad(
      lambda w: loss(w, pool).mean())(params), params, pool)


def _forward(loss: Any, params: Any, pool: Any, shape: Any) -> Program:
  def forward(params, pool, along):
    still = jnp.zeros(shape)  # as in `contributions`
    return jax.jvp(
        lambda w: loss(w, pool, still), (params,), (along,))[1]

  return _program(
      forward, params, pool, jax.tree.map(jnp.ones_like, params))


def scoring(name: str, dense: bool = False) -> dict[str, Program]:
  """Programs on the pool of 400; 'gradient' is what others are held against."""
  task, model, loss, params = _net(name)
  pool = task.sample(jax.random.key(1), POOL)
  if dense:  # as numbers, so that no gradient has to scatter
    pool = pool._replace(x=jax.nn.one_hot(pool.x, task.inputs))
  shape = model.perturb_shape(LENGTH, POOL)

  def scores(params, pool):
    return sgr.contributions(
        loss, params, pool, shape=shape, horizon=90, probe=20)

  return {'gradient of the pool': _gradient(loss, params, pool),
          'forward-mode pass': _forward(loss, params, pool, shape),
          'contributions, probe 20': _program(scores, params, pool)}


def parts(name: str) -> dict[str, Program]:
  """What a step of SGR that acts is made of; pool 100, 20 of it."""
  task, model, loss, params = _net(name)
  pool = task.sample(jax.random.key(1), 100)
  few = jax.tree.map(lambda a: a[:20], pool)
  shape = model.perturb_shape(LENGTH, 20)

  def seen(params):  # the first 20, and their deltas by the way
    return jax.grad(lambda w, e: loss(w, few, e).sum(), (0, 1))(
        params, jnp.zeros(shape))

  return {
      'gradient of the pool of 100': _gradient(loss, params, pool),
      'gradient and deltas of 20': _program(seen, params),
      'gradient of Q on 20': _program(
          lambda w: sgr.long_term_gradient(
              loss, w, few, shape=shape, horizon=90), params),
      'forward-mode pass of 100': _forward(
          loss, params, pool, model.perturb_shape(LENGTH, 100)),
      'gradient of 20': _gradient(loss, params, few)}


def steps(name: str) -> dict[str, Program]:
  """Whole training steps of the lab with momentum, pool 100.

  Every step of SGR acts here: its range of Q is out of reach.
  """
  rules = {
      'plain step, pool 100': {},
      'SGR step, 20 of 100, probe 20': {'low': 9.0, 'high': 9.0},
      'SGR step in range, 20': {'low': -1e9, 'high': 1e9},
      'random 20 of 100': {'rule': 'random'}}
  made = {}
  for label, sampling in rules.items():
    trainer = trainer_lib.Trainer(lab.load({
        'data': {'source': 'long_dependency', 'task': name, 'length': LENGTH,
                 'sizes': [2000, 100, 100]},
        'models': {'srn': {'kind': 'recurrent', 'width': WIDTH}},
        'methods': {'m': {'optimizer': 'momentum', 'clip': 1.0,
                          **({'sampling': sampling} if sampling else {})}},
        'train': {'batch_size': 100}, 'run': {'learning_rate': 1e-3}}))
    made[label] = _program(trainer.one, trainer.start(), trainer.parts[0])
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


def measure(programs: dict[str, Program], rounds: int) -> dict[str, Any]:
  """Times programs in turns; ratios are against the first one."""
  def thrice(program: Program) -> Any:
    compiled, arguments = program
    return lambda: [compiled(*arguments) for _ in range(3)]

  times = common.interleave(
      {name: thrice(program) for name, program in programs.items()}, rounds)
  base, rows = times[next(iter(programs))], {}
  for name, taken in times.items():
    found = common.ratio(taken, base)
    rows[name] = {'ratio': found['median'],
                  'quartiles': [found['low'], found['high']],
                  'milliseconds': float(np.median(taken)) / 3 * 1e3}
  return rows


def main(arguments: list[str] | None = None) -> None:
  """Measures, prints the tables and writes results/sgr.json."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=21)
  options = parser.parse_args(arguments)
  report: dict[str, Any] = {
      'rounds': options.rounds, 'groups': {}, 'memory': memory()}
  groups = {
      'temporal order, pool of 400': lambda: scoring('temporal_order'),
      'temporal order as one-hot numbers, pool of 400': lambda: scoring(
          'temporal_order', dense=True),
      'adding, pool of 400': lambda: scoring('adding'),
      'temporal order, parts of a step': lambda: parts('temporal_order'),
      'temporal order, training step': lambda: steps('temporal_order'),
      'adding, training step': lambda: steps('adding')}
  print(f'T = {LENGTH}, {WIDTH} tanh units')
  for group, build in groups.items():
    rows = report['groups'][group] = measure(build(), options.rounds)
    print(f'\n{group}')
    print(common.table(['', 'ratio', 'quartiles', 'ms'], [
        [name, row['ratio'], '{:.3f}..{:.3f}'.format(*row['quartiles']),
         row['milliseconds']] for name, row in rows.items()]))
  print('\nmemory, pool of 400')
  names = ['parameters', 'contributions MB', 'vmap(grad) MB']
  print(common.table(['', *names], [
      [name, *(row[key] for key in names)]
      for name, row in report['memory'].items()]))
  common.save('sgr', report)


if __name__ == '__main__':
  main()
