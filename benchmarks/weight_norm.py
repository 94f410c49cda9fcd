"""Cost of a weight-normalized training step against the plain one.

Step times are interleaved in one process (21 rounds, order alternating), with
medians and quartiles of the ratio round by round. Next to them stands what the
compiler says: bytes accessed, temporary memory, norms inside loop bodies.
"""

import argparse
import re
from collections.abc import Callable
from typing import Any

import flax
import jax
import numpy as np
import optax
from flax import linen as nn, nnx
from jax import numpy as jnp

import gradnorm_optax.linen as gnn
import gradnorm_optax.nnx as gnx
from benchmarks import common
from gradnorm_optax.weight_norm import weight_normalized

Program = tuple[Any, list[Any]]  # compiled step, its carried arguments


class Mlp(nn.Module):
  """Three dense layers of 1024."""

  wrap: Callable[[nn.Module], nn.Module]

  @nn.compact
  def __call__(self, x):
    for _ in range(2):
      x = nn.relu(self.wrap(nn.Dense(1024))(x))
    return self.wrap(nn.Dense(1024))(x)


class Cnn(nn.Module):
  """Four 3x3 convolutions on 16x16 images, and a dense layer."""

  wrap: Callable[[nn.Module], nn.Module]

  @nn.compact
  def __call__(self, x):
    for features in (32, 32, 64, 64):
      x = nn.relu(self.wrap(nn.Conv(features, (3, 3)))(x))
    return self.wrap(nn.Dense(10))(x.mean((1, 2)))


def _nnx_mlp(wrap: Any) -> nnx.Module:
  rngs = nnx.Rngs(0)
  layers = [wrap(nnx.Linear(1024, 1024, rngs=rngs)) for _ in range(3)]
  return nnx.Sequential(layers[0], nnx.relu, layers[1], nnx.relu, layers[2])


def _plain(module: Any) -> Any:
  return module


def _step(
    apply: Callable[[Any, Any], Any], params: Any,
    tx: optax.GradientTransformation, x: Any, y: Any,
) -> Program:
  def step(params, state, x, y):
    def loss(params):
      return jnp.mean((apply(params, x) - y) ** 2)

    value, grads = jax.value_and_grad(loss)(params)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state, value

  params = jax.tree.map(jnp.copy, params)
  state = tx.init(params)
  compiled = jax.jit(step, donate_argnums=(0, 1)).lower(
      params, state, x, y).compile()
  return compiled, [params, state, x, y]


def _linen(module: nn.Module, x: Any, y: Any, tx: Any) -> Program:
  params = module.init(jax.random.key(0), x)['params']
  return _step(
      lambda p, x: module.apply({'params': p}, x), params, tx, x, y)


def _nnx(model: nnx.Module, x: Any, y: Any, tx: Any) -> Program:
  graph, params, rest = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]

  def apply(params, x):
    # New variables, which belong to the trace that counts random draws.
    return nnx.merge(graph, params, jax.tree.map(jnp.asarray, rest))(x)

  return _step(apply, params, tx, x, y)


def _groups() -> dict[str, Callable[[], dict[str, Program]]]:
  """Returns programs by group; 'plain' is what the others are held against."""
  key = jax.random.key(1)

  def mlp(tx, outer=lambda tx: tx):
    x = jax.random.normal(key, (128, 1024))
    return {
        'plain': _linen(Mlp(_plain), x, x, tx),
        'linen.WeightNorm': _linen(Mlp(gnn.WeightNorm), x, x, tx),
        'nnx.WeightNorm': _nnx(_nnx_mlp(gnx.WeightNorm), x, x, tx),
        'weight_normalized': _linen(
            Mlp(_plain), x, x, weight_normalized(tx)),
        "Flax's linen.WeightNorm": _linen(Mlp(nn.WeightNorm), x, x, tx)}

  def cnn():
    x, y = jax.random.normal(key, (128, 16, 16, 3)), jnp.zeros((128, 10))
    tx = optax.adam(1e-3)
    return {
        'plain': _linen(Cnn(_plain), x, y, tx),
        'linen.WeightNorm': _linen(Cnn(gnn.WeightNorm), x, y, tx),
        'weight_normalized': _linen(Cnn(_plain), x, y, weight_normalized(tx)),
        "Flax's linen.WeightNorm": _linen(Cnn(nn.WeightNorm), x, y, tx)}

  def rnn(linen_cell: Any, nnx_cell: Any) -> dict[str, Program]:
    x, y = jax.random.normal(key, (64, 100, 64)), jnp.zeros((64, 100, 256))
    tx = optax.adam(1e-3)
    wrap: Any = gnn.WeightNorm  # any: no subclass of the cells' base
    nnx_wrap: Any = gnx.WeightNorm
    made = lambda: nnx_cell(64, 256, rngs=nnx.Rngs(0))  # noqa: E731
    return {
        'plain': _linen(nn.RNN(linen_cell(256)), x, y, tx),
        'linen.WeightNorm(RNN)': _linen(
            gnn.WeightNorm(nn.RNN(linen_cell(256))), x, y, tx),
        'linen.RNN(WeightNorm)': _linen(
            nn.RNN(wrap(linen_cell(256))), x, y, tx),
        'nnx plain': _nnx(nnx.RNN(made()), x, y, tx),
        'nnx.WeightNorm(RNN)': _nnx(
            gnx.WeightNorm(nnx.RNN(made())), x, y, tx),
        'nnx.RNN(WeightNorm)': _nnx(
            nnx.RNN(nnx_wrap(made())), x, y, tx)}

  return {
      'MLP 3x1024, batch 128, SGD': lambda: mlp(optax.sgd(1e-3)),
      'MLP 3x1024, batch 128, Adam': lambda: mlp(optax.adam(1e-3)),
      'CNN 4 layers, batch 128, Adam': cnn,
      'SimpleCell 256, T=100, batch 64, Adam': lambda: rnn(
          nn.SimpleCell, nnx.SimpleCell),
      'LSTM 256, T=100, batch 64, Adam': lambda: rnn(
          nn.OptimizedLSTMCell, nnx.OptimizedLSTMCell)}


def norms_in_loops(text: str) -> int:
  """Counts square roots in the bodies of loops of a compiled program."""
  bodies = set(re.findall(r'body=(%[\w.\-]+)', text))
  parts = re.split(r'\n(?=\S.*\{\s*\n)', text)
  found = {match.group(1): part for part in parts
           if (match := re.match(r'(?:ENTRY )?(%[\w.\-]+)', part))}

  def count(name, seen):
    part = found.get(name, '')
    if name in seen:
      return 0
    seen.add(name)
    inner = re.findall(r'(?:calls|to_apply)=(%[\w.\-]+)', part)
    roots = len(re.findall(r' (?:sqrt|rsqrt)\(', part))
    return roots + sum(count(other, seen) for other in inner)

  return sum(count(body, set()) for body in bodies)


def _calls(programs: dict[str, Program]) -> int:
  """How many steps make up a round: about 0.15 s of the fastest, at most 20."""
  once = common.interleave(
      {name: _run(program, 1) for name, program in programs.items()}, 1, 1)
  shortest = min(float(times[0]) for times in once.values())
  return min(20, max(1, round(0.15 / max(shortest, 1e-6))))


def _run(program: Program, calls: int) -> Callable[[], Any]:
  """Returns a function that takes so many steps; parameters are donated."""
  compiled, carried = program

  def run():
    for _ in range(calls):
      params, state, value = compiled(*carried)
      carried[:2] = params, state
    return carried, value

  return run


def _measure(programs: dict[str, Program], rounds: int) -> dict[str, Any]:
  calls, rows = _calls(programs), {}
  times = common.interleave(
      {name: _run(program, calls) for name, program in programs.items()},
      rounds, warm_up=1)
  for name, (compiled, _) in programs.items():
    base = 'nnx plain' if (
        name.startswith('nnx') and 'nnx plain' in programs) else 'plain'
    found = common.ratio(times[name], times[base])
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    rows[name] = {
        'against': base, 'ratio': found['median'],
        'quartiles': [found['low'], found['high']],
        'milliseconds': float(np.median(times[name])) / calls * 1e3,
        'temporary MB': memory.temp_size_in_bytes / 1e6,
        'arguments MB': memory.argument_size_in_bytes / 1e6,
        'MB accessed': cost.get('bytes accessed', 0) / 1e6,
        'norms in loop bodies': norms_in_loops(compiled.as_text())}
  return rows


def _print(group: str, rows: dict[str, Any]) -> None:
  print(f'\n{group}')
  print(common.table(
      ['', 'ratio', 'quartiles', 'ms', 'temp MB', 'args MB', 'accessed MB',
       'norms in loops'],
      [[name, row['ratio'], '{:.3f}..{:.3f}'.format(*row['quartiles']),
        *(f'{row[key]:.{digits}f}' for key, digits in (
            ('milliseconds', 2), ('temporary MB', 1), ('arguments MB', 1),
            ('MB accessed', 0))), row['norms in loop bodies']]
       for name, row in rows.items()]), flush=True)


def main(arguments: list[str] | None = None) -> None:
  """Measures, prints the tables and writes results/weight_norm.json."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=21)
  parser.add_argument('--only', default='', help='part of a group\'s name; '
                      'writes no file')
  options = parser.parse_args(arguments)
  report: dict[str, Any] = {
      'flax': flax.__version__, 'rounds': options.rounds, 'groups': {}}
  wanted = {group: build for group, build in _groups().items()
            if options.only.lower() in group.lower()}
  if not wanted:
    parser.error(f'--only {options.only}: no group of {list(_groups())}')
  for group, build in wanted.items():
    rows = report['groups'][group] = _measure(build(), options.rounds)
    _print(group, rows)
  if not options.only:
    common.save('weight_norm', report)


if __name__ == '__main__':
  main()
