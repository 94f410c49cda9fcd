"""What a step's collectives carry, by method and number of devices.

Weak scaling: as many examples on each device, one step of a scanned decoder
compiled for 2, 4 and 8 virtual devices, and its collectives read off the
compiled program; on one there are none. `collectives_page` writes the tables of
docs/scaling.md from it.
"""

import argparse
import json
import os

os.environ['XLA_FLAGS'] = (
    os.environ.get('XLA_FLAGS', '')
    + ' --xla_force_host_platform_device_count=8'
      ' --xla_backend_optimization_level=0')
os.environ['JAX_PLATFORMS'] = 'cpu'

from typing import Any

from benchmarks import collectives_page, common
from gradnorm_optax import lab
from gradnorm_optax.lab.inspection import run_plan

EXAMPLES = 4  # on each device
METHODS: dict[str, dict[str, Any]] = {
    'adamw': {'optimizer': 'adamw'},
    'bng + adamw': {'optimizer': 'adamw', 'normalize': 'bng'},
    'sing': {'optimizer': 'sing'},
    'weight_normalized + adamw': {
        'optimizer': 'adamw', 'wrap': 'weight_normalized'}}
LAYOUTS = {'data': {'data': -1}, 'fsdp': {'fsdp': -1},
           'fsdp x tensor': {'fsdp': -1, 'tensor': 2}}
RULES = {'layers/mlp_in/kernel': ['', 'fsdp', 'tensor'],
         'layers/mlp_out/kernel': ['', 'tensor', 'fsdp'],
         'layers/attention/[qkv]*/kernel': ['', 'fsdp', 'tensor', ''],
         'layers/attention/out/kernel': ['', 'tensor', '', 'fsdp']}


def plan(method: dict[str, Any], mesh: dict[str, int],
         count: int) -> run_plan.RunPlan:
  """The step on so many devices."""
  sizes = {name: count // (mesh.get('tensor', 1)) if size == -1 else size
           for name, size in mesh.items()}
  shares = sizes.get('data', 1) * sizes.get('fsdp', 1)
  return run_plan.make(lab.load({
      'data': {'source': 'characters', 'size': 100, 'length': 32},
      'models': {'decoder': {'kind': 'transformer', 'depth': 4, 'width': 64,
                             'heads': 4, 'tie_embeddings': True}},
      'methods': {'one': method},
      'train': {'steps': 10, 'eval_every': 10,
                'batch_size': EXAMPLES * shares},
      'run': {'look': 0, 'mesh': sizes,
              'sharding': RULES if 'tensor' in mesh else {}}}))


def main() -> None:
  """Compiles them; keeps what is there of layouts that are not asked for."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('layouts', nargs='*', default=list(LAYOUTS))
  found: dict[str, Any] = {}
  for layout in parser.parse_args().layouts:
    mesh = LAYOUTS[layout]
    for name, method in METHODS.items():
      for count in (4, 8) if 'tensor' in mesh else (2, 4, 8):
        one = plan(method, mesh, count)
        found.setdefault(layout, {}).setdefault(name, {})[str(count)] = {
            'count': one.collectives.calls, 'bytes': one.collectives.bytes,
            'branch_bytes': one.collectives.branch_bytes,
            'parameters': one.parameters.bytes,
            'device_bytes': one.parameters.device_bytes
                            + one.optimizer.device_bytes}
        print(layout, name, count, one.collectives.calls,
              one.collectives.total, flush=True)
  kept = common.RESULTS / 'collectives.json'
  before = json.loads(kept.read_text())['layouts'] if kept.exists() else {}
  every = {**before, **found}
  common.save('collectives', {'layouts': {
      layout: every[layout] for layout in LAYOUTS if layout in every}})
  collectives_page.write()


if __name__ == '__main__':
  main()
