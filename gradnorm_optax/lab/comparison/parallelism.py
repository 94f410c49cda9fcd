"""How many trials share a call, and how many workers load and compile."""

import os

import jax

from gradnorm_optax.lab import schema


def placement(compare: schema.Compare, trials: int) -> tuple[int, int]:
  """How many workers, and how many trials share a call, on this machine.

  On a CPU trials run one after another in one thread per core (vmapping was
  measured no faster there); elsewhere a method's trials share one call.
  """
  cpu = jax.default_backend() == 'cpu'
  batch = together(compare, trials, len(jax.devices()), cpu)
  cores = len(os.sched_getaffinity(0)) if hasattr(
      os, 'sched_getaffinity') else os.cpu_count() or 1
  workers = compare.workers or (cores if cpu and batch == 1 else 1)
  return workers, batch


def together(compare: schema.Compare, trials: int, devices: int,
             cpu: bool) -> int:
  """How many trials share a call on so many devices.

  >>> together(schema.Compare(trials_per_call=3), 10, 8, cpu=True)
  8
  """
  batch = compare.trials_per_call or (1 if cpu else min(trials, 64))
  return batch if batch == 1 else -(-batch // devices) * devices
