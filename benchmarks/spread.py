"""Losses of one run on one device, on eight, and in two and four processes.

Fifty steps of the scanned decoder, data x fsdp x tensor, for each method; the
largest relative difference of a step's loss from that on one device.
"""

import json
import os
import pathlib
import tempfile
from typing import Any

import numpy as np

from benchmarks import common, processes

CONFIG = """
[data]
source = "characters"
size = 200
length = 16
[models.decoder]
kind = "transformer"
depth = 2
width = 16
heads = 2
tie_embeddings = true
remat = true
[train]
steps = 50
eval_every = 1
batch_size = 16
[run]
look = 0
checkpoint_every = 50
[run.sharding]
"layers/mlp_in/kernel" = ["", "fsdp", "tensor"]
"layers/mlp_out/kernel" = ["", "tensor", "fsdp"]
"layers/attention/[qkv]*/kernel" = ["", "fsdp", "tensor", ""]
[methods.adamw]
optimizer = "adamw"
[methods.bng]
optimizer = "adamw"
normalize = "bng"
[methods.sing]
optimizer = "sing"
[methods.weight_normalized]
optimizer = "adamw"
wrap = "weight_normalized"
[methods.path_sgd]
optimizer = "path_sgd"
"""
METHODS = ('adamw', 'bng', 'sing', 'weight_normalized', 'path_sgd')
SPREAD = ('--set', 'run.mesh={data = 2, fsdp = 2, tensor = 2}')
PLACES = {'1 x 8': (1, 8), '2 x 4': (2, 4), '4 x 2': (4, 2)}


def losses(file: pathlib.Path, folder: pathlib.Path, count: int, devices: int,
           *options: str) -> Any:
  """The losses of a run, or the line with which it is refused."""
  ended = processes.run(file, folder, count, devices, options)
  codes = {one.code for one in ended}
  if codes == {2}:
    told = {line for one in ended for line in one.err.splitlines()
            if line.startswith('gradnorm: ')}
    assert len(told) == 1, told
    return told.pop()
  assert codes == {0}, ended
  return [json.loads(line)['loss'] for line in (
      folder / 'metrics.jsonl').read_text().splitlines()]


def main() -> None:
  """Runs them all."""
  os.environ.setdefault(
      'JAX_COMPILATION_CACHE_DIR',
      str(pathlib.Path(tempfile.gettempdir()) / 'gradnorm-spread'))
  found: dict[str, Any] = {}
  with tempfile.TemporaryDirectory() as place:
    file = pathlib.Path(place) / 'spread.toml'
    file.write_text(CONFIG)
    for method in METHODS:
      folder = pathlib.Path(place) / method
      which = ('--set', f'run.method={method}')
      alone = losses(file, folder / 'alone', 1, 1, *which)
      for name, (count, devices) in PLACES.items():
        here = losses(file, folder / name.replace(' ', ''), count, devices,
                      *which, *SPREAD)
        if isinstance(alone, str):
          assert here == alone, (here, alone)
          found.setdefault(method, {})[name] = alone
        else:
          found.setdefault(method, {})[name] = float(np.abs(
              np.array(here) / np.array(alone) - 1).max())
        print(method, name, found[method][name], flush=True)
  common.save('spread', {'largest relative difference': found})


if __name__ == '__main__':
  main()
