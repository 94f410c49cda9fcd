"""Cost of a weight-normalized training step against the plain one.

Step times are interleaved in one process (21 rounds, order alternating), with
medians and quartiles of the ratio round by round. Next to them stands what the
compiler says: bytes accessed, temporary memory, norms inside loop bodies.
"""

import argparse
import json
import pathlib
import platform
import re
import statistics
import subprocess
import time
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
from gradnorm_optax.weight_norm import weight_normalized

RESULTS = pathlib.Path(__file__).parent / 'results' / 'weight_norm.json'
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


def _seconds(program: Program, calls: int) -> float:
  compiled, carried = program
  start = time.perf_counter()
  for _ in range(calls):
    params, state, value = compiled(*carried)
    carried[:2] = params, state
  jax.block_until_ready((carried, value))
  return (time.perf_counter() - start) / calls


def _rounds(
    programs: dict[str, Program], rounds: int
) -> dict[str, list[float]]:
  calls = max(1, round(0.15 / max(
      min(_seconds(p, 1) for p in programs.values()), 1e-6)))
  calls = min(calls, 20)
  for program in programs.values():
    _seconds(program, 1)
  times: dict[str, list[float]] = {name: [] for name in programs}
  for turn in range(rounds):
    for name in list(programs)[::1 if turn % 2 else -1]:
      times[name].append(_seconds(programs[name], calls))
  return times


def _measure(programs: dict[str, Program], rounds: int) -> dict[str, Any]:
  times, rows = _rounds(programs, rounds), {}
  for name, (compiled, _) in programs.items():
    base = 'nnx plain' if (
        name.startswith('nnx') and 'nnx plain' in programs) else 'plain'
    ratios = [a / b for a, b in zip(times[name], times[base], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    rows[name] = {
        'against': base, 'ratio': middle, 'quartiles': [low, high],
        'milliseconds': statistics.median(times[name]) * 1e3,
        'temporary MB': memory.temp_size_in_bytes / 1e6,
        'arguments MB': memory.argument_size_in_bytes / 1e6,
        'MB accessed': cost.get('bytes accessed', 0) / 1e6,
        'norms in loop bodies': norms_in_loops(compiled.as_text())}
  return rows


def _print(group: str, rows: dict[str, Any]) -> None:
  print(f'\n{group}')
  print(f'{"":28}{"ratio":>7}{"quartiles":>16}{"ms":>9}{"temp MB":>9}'
        f'{"args MB":>9}{"accessed MB":>13}{"norms in loops":>16}')
  for name, row in rows.items():
    low, high = row['quartiles']
    print(f'{name:28}{row["ratio"]:7.3f}{f"{low:.3f}..{high:.3f}":>16}'
          f'{row["milliseconds"]:9.2f}{row["temporary MB"]:9.1f}'
          f'{row["arguments MB"]:9.1f}{row["MB accessed"]:13.0f}'
          f'{row["norms in loop bodies"]:16d}')


def _revision() -> str:
  try:
    return subprocess.run(
        ['git', 'describe', '--always', '--dirty'], text=True, check=True,
        capture_output=True, cwd=pathlib.Path(__file__).parent).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return 'unknown'


def main(arguments: list[str] | None = None) -> None:
  """Measures, prints the tables and writes results/weight_norm.json."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=21)
  parser.add_argument('--only', default='', help='part of a group\'s name')
  options = parser.parse_args(arguments)
  device = jax.devices()[0]
  report: dict[str, Any] = {
      'versions': {'jax': jax.__version__, 'flax': flax.__version__,
                   'optax': optax.__version__, 'numpy': np.__version__},
      'device': f'{device.platform} {device.device_kind}',
      'machine': platform.processor() or platform.machine(),
      'revision': _revision(), 'rounds': options.rounds, 'groups': {}}
  for group, build in _groups().items():
    if options.only in group:
      rows = _measure(build(), options.rounds)
      report['groups'][group] = rows
      _print(group, rows)
  if not options.only:
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + '\n')
    print(f'\nwritten: {RESULTS}')


if __name__ == '__main__':
  main()
