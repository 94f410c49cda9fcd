"""Cost of each transformation in an optimizer's step, next to optax's own.

Every chain ends in AdamW; times are ratios to AdamW alone, interleaved and
donated. Words are XLA's count of float32 numbers moved per parameter, branches
that are not taken included. Floors are what plain sums cost. PyTorch's
optimizers stand beside them where torch is importable (`pip install
torch==2.13.0`), the authors' SING where `--torch-sing` names its file.
Compilation is trace + compile, in processor time.
"""

import argparse
import pathlib
import time
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

import gradnorm_optax as gn
from benchmarks import common, overhead_floors, overhead_torch

Shapes = dict[str, tuple[int, ...]]


def mlp(width: int = 1024, depth: int = 12) -> Shapes:
  """12 M parameters in 26 arrays, unless told otherwise."""
  sizes = [784] + [width] * depth + [10]
  shapes: Shapes = {}
  for n, (fan_in, out) in enumerate(zip(sizes, sizes[1:], strict=False)):
    shapes |= {f'Dense_{n}/kernel': (fan_in, out), f'Dense_{n}/bias': (out,)}
  return shapes


def resnet() -> Shapes:
  """A ResNet-50-shaped tree: 25 M parameters in many small arrays."""
  shapes: Shapes = {'stem/kernel': (7, 7, 3, 64)}
  wide = 64
  for stage, (blocks, width) in enumerate(
      [(3, 64), (4, 128), (6, 256), (3, 512)]):
    for block in range(blocks):
      here = f'stage{stage}_block{block}'
      shapes |= {
          f'{here}_a/kernel': (1, 1, wide, width),
          f'{here}_b/kernel': (3, 3, width, width),
          f'{here}_c/kernel': (1, 1, width, 4 * width)}
      for part, size in (('a', width), ('b', width), ('c', 4 * width)):
        shapes |= {f'{here}_norm_{part}/scale': (size,),
                   f'{here}_norm_{part}/bias': (size,)}
      if block == 0:
        shapes[f'{here}_skip/kernel'] = (1, 1, wide, 4 * width)
      wide = 4 * width
  return shapes | {'head/kernel': (wide, 1000), 'head/bias': (1000,)}


def transformer(depth: int) -> Shapes:
  """A scanned pre-LN stack; stacked axis 0."""
  return {
      'layers/attn/kernel': (depth, 256, 768), 'layers/attn/bias': (depth, 768),
      'layers/out/kernel': (depth, 256, 256), 'layers/out/bias': (depth, 256),
      'layers/up/kernel': (depth, 256, 1024), 'layers/up/bias': (depth, 1024),
      'layers/down/kernel': (depth, 1024, 256),
      'layers/down/bias': (depth, 256),
      'layers/norm/scale': (depth, 256), 'layers/norm/bias': (depth, 256),
      'embed/embedding': (256, 256)}


def many(arrays: int = 2000) -> Shapes:
  shapes: Shapes = {}
  for n in range(arrays // 2):
    shapes |= {f'Dense_{n}/kernel': (8, 8 + n % 7),
               f'Dense_{n}/bias': (8 + n % 7,)}
  return shapes


def tree(shapes: Shapes, make: Any) -> Any:
  nested: dict[str, Any] = {}
  for path, shape in shapes.items():
    *parents, name = path.split('/')
    node = nested
    for parent in parents:
      node = node.setdefault(parent, {})
    node[name] = make(shape)
  return nested


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
    shapes: Shapes, rounds: int, stacked: dict[str, int],
    torch_sing: pathlib.Path | None = None,
    names: tuple[str, ...] = (),
) -> Any:
  """Returns for each chain the ratio of time and words per parameter."""
  rng = np.random.default_rng(0)
  make = lambda shape: jnp.asarray(  # noqa: E731
      rng.normal(size=shape) * 1e-2, jnp.float32)
  params, grads = tree(shapes, make), tree(shapes, make)
  size = sum(leaf.size for leaf in jax.tree.leaves(params))
  steps: dict[str, Any] = {}
  found: dict[str, Any] = {}
  states: dict[str, Any] = {}
  for name, tx in chains(stacked).items():
    if names and name not in names or name == 'muon' and size > 1e6:
      continue  # muon's products take seconds a step on a CPU
    state = tx.init(params)
    compiled = jax.jit(common.step_of(tx), donate_argnums=(0, 1)).lower(
        params, state, grads).compile()
    cost: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    found[name] = {'words': cost['bytes accessed'] / 4 / size,
                   'temporary words': memory.temp_size_in_bytes / 4 / size}
    states[name] = (jax.tree.map(jnp.copy, params), state)

    def run(name=name, compiled=compiled):
      states[name] = compiled(*states[name], grads)
      return states[name]

    steps[name] = run
  steps |= overhead_torch.steps(params, grads, torch_sing)
  times = common.interleave(steps, rounds)
  for name in steps:
    found.setdefault(name, {})['time'] = common.ratio(
        times[name], times['adamw'])
  found['adamw']['milliseconds'] = float(np.median(times['adamw'])) * 1e3
  return found


COMPILED = ('adamw', 'bng + adamw', 'standardize + adamw',
            'gn.centralize + adamw', 'sing', 'weight_normalized(adamw)')


def compile_cost(
    shapes: Shapes, stacked: dict[str, int],
    names: tuple[str, ...] = COMPILED,
) -> dict[str, float]:
  """Returns processor seconds of trace + compile."""
  params = tree(shapes, lambda s: jax.ShapeDtypeStruct(s, 'float32'))
  seconds = {}
  for name in ('adamw', *names):  # the first is to warm up
    tx = chains(stacked)[name]
    state = jax.eval_shape(tx.init, params)
    start = time.process_time()
    jax.jit(common.step_of(tx)).lower(params, state, params).compile()
    seconds[name] = time.process_time() - start
  return seconds


def eager_cost(
    shapes: Shapes, names: tuple[str, ...] = ('adamw', 'bng + adamw', 'sing')
) -> dict[str, float]:
  """Returns processor seconds of the first update outside of `jit`."""
  params = tree(shapes, lambda s: jnp.ones(s))
  seconds = {}
  for name in names:
    jax.clear_caches()
    tx = chains({})[name]
    state = jax.block_until_ready(tx.init(params))
    start = time.process_time()
    jax.block_until_ready(tx.update(params, state, params))
    seconds[name] = time.process_time() - start
  return seconds


def training_step(rounds: int) -> Any:
  """Returns ratios of whole training steps: 12 M-parameter MLP, batch 128."""
  rng = np.random.default_rng(0)
  params = tree(mlp(), lambda shape: jnp.asarray(
      rng.normal(size=shape) / np.sqrt(shape[0]), jnp.float32))
  x = jnp.asarray(rng.normal(size=(128, 784)), jnp.float32)
  y = jnp.asarray(rng.integers(10, size=128))

  def loss(params):
    h = x
    for n in range(13):
      layer = params[f'Dense_{n}']
      h = (jax.nn.relu(h) if n else h) @ layer['kernel'] + layer['bias']
    return optax.losses.softmax_cross_entropy_with_integer_labels(h, y).mean()

  steps: dict[str, Any] = {}
  states: dict[str, Any] = {}
  for name in ('adamw', 'bng + adamw', 'standardize + adamw',
               'weight_normalized(adamw)', 'floor: norms + adamw',
               'floor: means, norms + adamw'):
    update = common.step_of(chains({})[name])
    step = jax.jit(
        lambda p, s, update=update: update(p, s, jax.grad(loss)(p)),
        donate_argnums=(0, 1))
    states[name] = (jax.tree.map(jnp.copy, params),
                    chains({})[name].init(params))

    def run(name=name, step=step):
      states[name] = step(*states[name])
      return states[name]

    steps[name] = run
  times = common.interleave(steps, rounds)
  return {name: common.ratio(t, times['adamw']) for name, t in times.items()}


TREES: dict[str, tuple[Shapes, dict[str, int]]] = {
    'small': (mlp(128, 4), {}), 'mlp': (mlp(), {}), 'resnet': (resnet(), {}),
    'scan2': (transformer(2), {'layers/*': 0}),
    'scan24': (transformer(24), {'layers/*': 0}), 'many': (many(), {})}


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=21)
  parser.add_argument('--torch-sing', type=pathlib.Path, metavar='FILE')
  parser.add_argument('--only', choices=[
      *TREES, 'training', 'compile', 'eager', 'depth'])
  options = parser.parse_args(arguments)
  wanted = lambda part: options.only in (None, part)  # noqa: E731
  results: dict[str, Any] = {}
  for name, (shapes, stacked) in TREES.items():
    if wanted(name):
      results[name] = measure(
          shapes, options.rounds, stacked, options.torch_sing,
          COMPILED[:3] if name == 'many' else ())  # the others' compilers wait
      print(f'\n{name}')
      print(common.table(
          ['chain', 'time / adamw', 'quartiles', 'words', 'temporary'],
          [[chain, r['time']['median'],
            f'{r["time"]["low"]:.3f} {r["time"]["high"]:.3f}',
            r.get('words', ''), r.get('temporary words', '')]
           for chain, r in results[name].items()]))
  if wanted('training'):
    results['training'] = training_step(options.rounds)
    print('\na training step of the 12 M-parameter MLP, batch 128')
    print(common.table(
        ['chain', 'time / adamw', 'quartiles'],
        [[chain, r['median'], f'{r["low"]:.3f} {r["high"]:.3f}']
         for chain, r in results['training'].items()]))
  if wanted('compile'):
    results['compile seconds'] = {
        '160': compile_cost(resnet(), {}), '400': compile_cost(many(400), {}),
        '2000': compile_cost(many(), {}, COMPILED[:3])}
    _seconds('trace + compile', results['compile seconds'])
  if wanted('eager'):
    results['eager seconds'] = {
        '400': eager_cost(many(400)), '2000': eager_cost(many())}
    _seconds('first update outside of jit', results['eager seconds'])
  if wanted('depth'):
    results['depth'] = {
        depth: compile_cost(transformer(depth), {'layers/*': 0}, COMPILED[:3])
        for depth in (2, 24)}
    _seconds('trace + compile of a scanned transformer', results['depth'])
  common.save('overhead' + (f'_{options.only}' if options.only else ''),
              results)


def _seconds(title: str, results: dict[Any, dict[str, float]]) -> None:
  for count, seconds in results.items():
    print(f'\n{title}, {count}')
    print(common.table(
        ['chain', 'seconds', '/ adamw'],
        [[k, v, v / seconds['adamw']] for k, v in seconds.items()]))


if __name__ == '__main__':
  main()
