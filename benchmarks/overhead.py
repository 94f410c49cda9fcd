"""Cost of each transformation in an optimizer's step, next to optax's own.

Every chain ends in AdamW; times are ratios to AdamW alone, interleaved and
donated. Words are XLA's count of float32 numbers moved per parameter, branches
that are not taken included. Floors are what plain sums cost. PyTorch's
optimizers stand beside them where torch is importable (`pip install
torch==2.13.0`), the authors' SING where `--torch-sing` names its file.
Compilation is trace + compile, in processor time.

Each part is written to results/overhead.json when it is done, beside what was
measured before; `--only` names those to measure. A training step is measured
twice: glibc maps scratch memory above 32 MiB anew in each step, so that a chain
that goes just over it seems to cost a fifth more. "memory kept" is with an
allocator that gives nothing back.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

import gradnorm_optax as gn
from benchmarks import common, overhead_floors, overhead_torch
from benchmarks.overhead_trees import (
    Shapes,
    many,
    mlp,
    resnet,
    transformer,
    tree,
)
from gradnorm_optax.lab.support import files, json_safe

RESULTS = common.RESULTS / 'overhead.json'
# glibc: no mapping of its own for a large array, and no page given back.
KEPT = {'MALLOC_MMAP_MAX_': '0', 'MALLOC_TRIM_THRESHOLD_': str(2**40)}
FEW = ('adamw', 'bng + adamw', 'standardize + adamw')
COMPILED = (*FEW, 'gn.centralize + adamw', 'sing', 'weight_normalized(adamw)')


def chains(stacked: dict[str, int]) -> dict[str, optax.GradientTransformation]:
  layer, leaf = gn.Blocks(stacked=stacked), gn.Blocks('leaf', stacked=stacked)
  adamw = lambda: optax.adamw(1e-3)  # noqa: E731
  return {
      'adamw': adamw(),
      'bng + adamw': gn.bng(adamw(), layer),
      'bng(ratio) + adamw': gn.bng(adamw(), layer, ratio=0.02),
      'gn.centralize + adamw': optax.chain(gn.centralize(leaf), adamw()),
      'standardize + adamw': optax.chain(gn.standardize(leaf), adamw()),
      'floor: norms + adamw': optax.chain(overhead_floors.norms(), adamw()),
      'floor: means, norms + adamw': optax.chain(
          overhead_floors.standardized(), adamw()),
      'sing': gn.sing(1e-3, weight_decay=1e-4, blocks=leaf),
      'sing(softplus)': gn.sing(
          1e-3, weight_decay=1e-4, softplus_beta=50.0, blocks=leaf),
      'weight_normalized(adamw)': gn.weight_normalized(
          adamw(), blocks=gn.Blocks('unit', stacked=stacked)),
      'record_block_norms + adamw': optax.chain(
          gn.record_block_norms('norms', layer), adamw()),
      'optax.centralize + adamw': optax.chain(optax.centralize(), adamw()),
      'adaptive_grad_clip + adamw': optax.chain(
          optax.adaptive_grad_clip(0.1), adamw()),
      'clip_by_global_norm + adamw': optax.chain(
          optax.clip_by_global_norm(1.0), adamw()),
      'lamb': optax.lamb(1e-3),
      'muon': optax.contrib.muon(1e-3),
  }


def measure(
    shapes: Shapes, stacked: dict[str, int], rounds: int,
    torch_sing: pathlib.Path | None = None, names: tuple[str, ...] = (),
) -> dict[str, dict[str, Any]]:
  """Returns for each chain what its step costs, and compiling it.

  Args:
    shapes: The tree.
    stacked: Layer axes, as in `gn.Blocks`.
    rounds: Counted steps of each; with 0 nothing is run.
    torch_sing: A file with the authors' class.
    names: Of the chains; () for all, PyTorch's included.
  """
  rng = np.random.default_rng(0)
  make = lambda shape: jnp.asarray(  # noqa: E731
      rng.normal(size=shape) * 1e-2, jnp.float32)
  params, grads = tree(shapes, make), tree(shapes, make)
  size = sum(leaf.size for leaf in jax.tree.leaves(params))
  steps: dict[str, Callable[[], Any]] = {}
  found: dict[str, dict[str, Any]] = {}
  states: dict[str, Any] = {}
  _compiled(common.step_of(optax.adamw(1e-3)), jnp.ones(3))  # a warm-up
  for name, tx in chains(stacked).items():
    if names and name not in names or name == 'muon' and size > 1e6:
      continue  # muon's products take seconds a step on a CPU
    compiled, seconds = _compiled(common.step_of(tx), params, tx.init)
    cost: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    found[name] = {'words': cost['bytes accessed'] / 4 / size,
                   'temporary words': memory.temp_size_in_bytes / 4 / size,
                   'compile seconds': seconds}
    states[name] = (jax.tree.map(jnp.copy, params), tx.init(params))

    def run(name=name, compiled=compiled):
      states[name] = compiled(*states[name], grads)
      return states[name]

    steps[name] = run
  if not rounds:
    return found
  if not names:
    steps |= overhead_torch.steps(params, grads, torch_sing)
  return _timed(found, steps, rounds)


def _compiled(step: Any, params: Any, init: Any = None) -> tuple[Any, float]:
  """Returns the program, and processor seconds of trace + compile."""
  state = jax.eval_shape(init or optax.adamw(1e-3).init, params)
  start = time.process_time()
  program = jax.jit(step, donate_argnums=(0, 1)).lower(
      params, state, params).compile()
  return program, time.process_time() - start


def _timed(
    found: dict[str, dict[str, Any]], steps: dict[str, Callable[[], Any]],
    rounds: int,
) -> dict[str, dict[str, Any]]:
  times = common.interleave(steps, rounds)
  for name in steps:
    found.setdefault(name, {})['time'] = common.ratio(
        times[name], times['adamw'])
  found['adamw']['milliseconds'] = float(np.median(times['adamw'])) * 1e3
  return found


def eager(
    shapes: Shapes, names: tuple[str, ...] = ('adamw', 'bng + adamw', 'sing')
) -> dict[str, dict[str, Any]]:
  """Returns processor seconds of the first update outside of `jit`."""
  params = tree(shapes, lambda s: jnp.ones(s))
  found = {}
  for name in names:
    jax.clear_caches()
    tx = chains({})[name]
    state = jax.block_until_ready(tx.init(params))
    start = time.process_time()
    jax.block_until_ready(tx.update(params, state, params))
    found[name] = {'first update seconds': time.process_time() - start}
  return found


def training(
    rounds: int, width: int = 1024, depth: int = 12
) -> dict[str, dict[str, Any]]:
  """Returns ratios of whole training steps: 12 M-parameter MLP, batch 128.

  All chains in one process, and the scratch memory of each step.
  """
  rng = np.random.default_rng(0)
  params = tree(mlp(width, depth), lambda shape: jnp.asarray(
      rng.normal(size=shape) / np.sqrt(shape[0]), jnp.float32))
  x = jnp.asarray(rng.normal(size=(128, 784)), jnp.float32)
  y = jnp.asarray(rng.integers(10, size=128))

  def loss(params):
    h = x
    for n in range(depth + 1):
      layer = params[f'Dense_{n}']
      h = (jax.nn.relu(h) if n else h) @ layer['kernel'] + layer['bias']
    return optax.losses.softmax_cross_entropy_with_integer_labels(h, y).mean()

  steps: dict[str, Callable[[], Any]] = {}
  found: dict[str, dict[str, Any]] = {}
  states: dict[str, Any] = {}
  for name, tx in chains({}).items():
    if name in ('muon', 'lamb'):
      continue  # products of matrices; six times the others' time
    update = common.step_of(tx)
    states[name] = (jax.tree.map(jnp.copy, params), tx.init(params))
    step = jax.jit(
        lambda p, s, update=update: update(p, s, jax.grad(loss)(p)),
        donate_argnums=(0, 1)).lower(*states[name]).compile()
    memory: Any = step.memory_analysis()
    found[name] = {'scratch MiB': memory.temp_size_in_bytes / 2**20}

    def run(name=name, step=step):
      states[name] = step(*states[name])
      return states[name]

    steps[name] = run
  return _timed(found, steps, rounds)


def with_memory_kept(options: argparse.Namespace) -> dict[str, Any]:
  """Measures the training step in a process whose allocator keeps memory."""
  code = ('import json; from benchmarks import overhead;'
          f'print(json.dumps(overhead.training({options.rounds})))')
  done = subprocess.run(
      [sys.executable, '-c', code], env=os.environ | KEPT, check=True,
      stdout=subprocess.PIPE, text=True)
  return json.loads(done.stdout.splitlines()[-1])


# What stands on the page of costs; then what has to be asked for.
PAGE: dict[str, Callable[[argparse.Namespace], Any]] = {
    'mlp': lambda o: measure(mlp(), {}, o.rounds, o.torch_sing),
    'training': lambda o: training(o.rounds),
    'training, memory kept': with_memory_kept,
    'scan24': lambda o: measure(
        transformer(24), {'layers/*': 0}, o.rounds, o.torch_sing),
    'resnet': lambda o: measure(resnet(), {}, o.rounds, o.torch_sing),
    '400': lambda o: measure(many(400), {}, o.rounds, names=COMPILED),
    'many': lambda o: measure(many(), {}, o.rounds, names=FEW),
    'eager 400': lambda o: eager(many(400)),
    'eager 2000': lambda o: eager(many())}
MORE: dict[str, Callable[[argparse.Namespace], Any]] = {
    'small': lambda o: measure(mlp(128, 4), {}, o.rounds),
    'scan2': lambda o: measure(transformer(2), {'layers/*': 0}, o.rounds),
    'many, all': lambda o: measure(many(), {}, o.rounds, names=COMPILED)}


def keep(part: str, rows: dict[str, Any], path: pathlib.Path) -> None:
  """Writes a part beside those that the file holds."""
  held = json.loads(path.read_text()) if path.exists() else {}
  held[part] = json_safe.plain({'rows': rows, 'made': common.made()})
  path.parent.mkdir(exist_ok=True)
  files.write(path, json.dumps(
      held, indent=1, default=float, allow_nan=False) + '\n')


def show(part: str, rows: dict[str, dict[str, Any]]) -> str:
  """Returns a table of a part, of those columns that it has."""
  ratio = lambda row, key: '' if key not in row['time'] else (  # noqa: E731
      f'{row["time"][key]:.3f}')
  numbers = list(dict.fromkeys(
      key for row in rows.values() for key in row if key != 'time'))
  timed = any('time' in row for row in rows.values())
  head = ['chain', *(['time / adamw', 'quartiles'] if timed else ()), *numbers]
  return f'\n{part}\n' + common.table(head, [
      [name, *((ratio(row, 'median'),
                f'{ratio(row, "low")} {ratio(row, "high")}') if timed else ()),
       *(row.get(key, '') for key in numbers)] for name, row in rows.items()])


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=21)
  parser.add_argument('--torch-sing', type=pathlib.Path, metavar='FILE')
  parser.add_argument('--only', nargs='+', choices=[*PAGE, *MORE],
                      default=list(PAGE), metavar='PART')
  parser.add_argument('--out', type=pathlib.Path, default=RESULTS)
  options = parser.parse_args(arguments)
  for part in options.only:
    start = time.monotonic()
    rows = (PAGE | MORE)[part](options)
    keep(part, rows, options.out)
    print(show(part, rows), f'\n({time.monotonic() - start:.0f} s)', flush=True)


if __name__ == '__main__':
  main()
