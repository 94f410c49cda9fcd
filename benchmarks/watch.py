"""Cost of watching in an optimizer's step, next to recording the norms.

The 12 M-parameter tree of `benchmarks.overhead`, each in front of AdamW,
donated and in turn with `record_block_norms + adamw`; times are ratios to that,
round by round, and of the lowest deciles. XLA's counts do not hang on the
machine's load: operations over those of the recorder, numbers moved per
parameter; and the numbers that the state keeps.
"""

import argparse
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

import gradnorm_optax as gn
from benchmarks import common, overhead

_BASE = 'record_block_norms'


def fronts() -> dict[str, optax.GradientTransformation]:
  """Returns what stands in front of AdamW."""
  return {
      'nothing': optax.identity(),
      _BASE: gn.record_block_norms('norms'),
      'again': gn.record_block_norms('norms'),  # the noise of the ratio
      'record_block_norms(decay)': gn.record_block_norms('norms', decay=0.99),
      'record_block_norms(every=10)': gn.record_block_norms('norms', every=10),
      'watch(learn=200)': gn.watch('norms'),
      'watch(learn=2000)': gn.watch('norms', learn=2000),
      'watch(ranges)': gn.watch('norms', ranges={'*': (1e-6, 1e3)}),
      'watch(every=10)': gn.watch('norms', every=10),
  }


def measure(rounds: int) -> dict[str, Any]:
  """Returns for each chain ratio of time, words per parameter, state size."""
  rng = np.random.default_rng(0)
  make = lambda shape: jnp.asarray(  # noqa: E731
      rng.normal(size=shape) * 1e-2, jnp.float32)
  params, grads = (overhead.tree(overhead.mlp(), make) for _ in range(2))
  size = sum(leaf.size for leaf in jax.tree.leaves(params))
  steps: dict[str, Any] = {}
  states: dict[str, Any] = {}
  found: dict[str, Any] = {}
  for name, front in fronts().items():
    tx = optax.chain(front, optax.adamw(1e-3))
    state = tx.init(params)
    compiled = jax.jit(common.step_of(tx), donate_argnums=(0, 1)).lower(
        params, state, grads).compile()
    cost: Any = compiled.cost_analysis()
    found[name] = {
        'words': cost['bytes accessed'] / 4 / size, 'flops': cost['flops'],
        'state': sum(x.size for x in jax.tree.leaves(front.init(params)))}
    states[name] = (jax.tree.map(jnp.copy, params), state)

    def run(name=name, compiled=compiled):
      states[name] = compiled(*states[name], grads)
      return states[name]

    steps[name] = run
  for name in steps:
    times = common.interleave(
        {'base': steps[_BASE], name: steps[name]}, rounds)
    found[name]['time'] = common.ratio(times[name], times['base'])
    # Beside other work on the machine the quicker rounds tell more.
    found[name]['quick rounds'] = float(
        np.quantile(times[name], 0.1) / np.quantile(times['base'], 0.1))
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=61)
  results = measure(parser.parse_args().rounds)
  print(common.table(
      ['in front of adamw', f'time / {_BASE}', 'quartiles', 'quick rounds',
       'operations', 'words', 'state'],
      [[name, r['time']['median'],
        f'{r["time"]["low"]:.3f} {r["time"]["high"]:.3f}', r['quick rounds'],
        f'{r["flops"] / results[_BASE]["flops"]:.6f}', f'{r["words"]:.4f}',
        r['state']] for name, r in results.items()]))
  common.save('watch', results)


if __name__ == '__main__':
  main()
