"""Losses of one run on one device, on eight, and in two and four processes.

Fifty steps of the scanned decoder, data x fsdp x tensor, for each method; the
largest relative difference of a step's loss from that on one device.
"""

import json
import subprocess
import sys
import tomllib
from typing import Any

import numpy as np

from benchmarks import common, processes as real
from gradnorm_optax import lab
from gradnorm_optax.lab.run import compiled_run, processes

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
eval_every = 50
batch_size = 16
[run]
look = 0
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
SPREAD = ['run.mesh={data = 2, fsdp = 2, tensor = 2}']
# Processes and the devices of each; the first without a mesh.
PLACES = {'1 x 1': (1, 1), '1 x 8': (1, 8), '2 x 4': (2, 4), '4 x 2': (4, 2)}


def losses(count: int) -> dict[str, Any]:
  """Every method's losses on these devices, or why it is refused."""
  found: dict[str, Any] = {}
  base = tomllib.loads(CONFIG)
  for method in METHODS:
    config = lab.load(base, [
        f'run.method={method}', *(SPREAD if count > 1 else [])])
    try:
      trainer = compiled_run.Trainer(config)
      found[method] = np.asarray(
          trainer.chunk(trainer.start())[1].loss).tolist()
    except lab.LabError as error:
      found[method] = str(error)
  return found


def one(place: str, address: str, number: int) -> None:
  """One process; the first prints the losses."""
  count, devices = PLACES[place]
  many = count > 1
  with processes.joined(
      many, *((address, count, number, 1000) if many else ())):
    found = losses(count * devices)
    if processes.first():
      print('losses:' + json.dumps(found), flush=True)


def start(place: str) -> list[subprocess.Popen[str]]:
  """Starts the processes of a place."""
  count, devices = PLACES[place]
  port = real.free_port()
  return [subprocess.Popen(
      [sys.executable, '-m', 'benchmarks', 'spread', place,
       f'127.0.0.1:{port}', str(number)], env=real.environment(devices),
      stdout=subprocess.PIPE, text=True) for number in range(count)]


def main() -> None:
  """Trains everywhere side by side, and compares."""
  if len(sys.argv) == 4:
    one(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    return
  running = {place: start(place) for place in PLACES}
  found = {}
  for place, started in running.items():
    out = [process.communicate()[0] for process in started]
    assert not any(process.returncode for process in started), place
    found[place] = json.loads(out[0].split('losses:')[1])
    print(place, 'is done', flush=True)
  alone = found.pop('1 x 1')
  results: dict[str, Any] = {}
  for method in METHODS:
    for place, losses_there in found.items():
      there = losses_there[method]
      if isinstance(there, str):
        assert there == alone[method], (there, alone[method])
      else:
        there = float(np.abs(np.array(there) / np.array(
            alone[method]) - 1).max())
      results.setdefault(method, {})[place] = there
  common.save('spread', {'largest relative difference of a loss': results})


if __name__ == '__main__':
  main()
