"""What `gradnorm train` would take on its devices, without taking it.

The step is compiled for the mesh of the configuration, on virtual devices of
this machine where it has no such ones; no parameter is ever made.
"""

import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import checks
from gradnorm_optax.lab.reporting.plan import size
from gradnorm_optax.lab.run.compiled_run import Trainer
from gradnorm_optax.lab.schema import toml
from gradnorm_optax.lab.support import process_wide
from gradnorm_optax.lab.training import collectives


class Held(NamedTuple):
  """Some arrays: how many numbers, their bytes, and those on one device."""

  numbers: int
  bytes: int
  device_bytes: int


class RunPlan(NamedTuple):
  """What one run takes.

  Attributes:
    model, method: Their names.
    mesh: {axis: devices}; {} on one device.
    parameters, optimizer: What is kept of them.
    temporaries: Bytes on a device while a step is taken, activations included,
      as this machine's compiler would place them.
    collectives: Of one step.
  """

  model: str
  method: str
  mesh: dict[str, int]
  parameters: Held
  optimizer: Held
  temporaries: int
  collectives: collectives.Collectives

  @property
  def device_bytes(self) -> int:
    """State, its successor and temporaries, on one device."""
    return 2 * (self.parameters.device_bytes + self.optimizer.device_bytes
                ) + self.temporaries

  def table(self) -> str:
    """Some lines for a terminal."""
    mesh = ' x '.join(f'{name} {count}' for name, count in self.mesh.items())
    told = [f'{self.method} on {self.model}: {mesh or "one device"}']
    for name, held in (('parameters', self.parameters),
                       ('optimizer\'s state', self.optimizer)):
      told.append(f'{name:18} {held.numbers:>15,} numbers, {size(held.bytes)}; '
                  f'{size(held.device_bytes)} on each device')
    told.append(f'{"a step":18} {size(self.temporaries)} of temporaries on '
                'each device, activations included')
    told.append(f'{"in all":18} about {size(self.device_bytes)} on each device '
                '(a step holds the state before and after it), examples aside')
    for kind, count in sorted(self.collectives.calls.items()):
      told.append(f'{kind:18} {count} a step, '
                  f'{size(self.collectives.bytes[kind])} on each device')
    if not self.collectives.calls:
      told.append(f'{"collectives":18} none')
    if self.collectives.branch_bytes:
      told.append(f'{"in branches":18} {size(self.collectives.branch_bytes)}, '
                  'taken rarely or once an epoch')
    return '\n'.join(told)


def at(path: pathlib.Path, overrides: Sequence[str] = ()) -> RunPlan:
  """The plan of a configuration's file; must come before JAX starts."""
  config = toml.read(path, overrides)
  sizes = config.run.mesh.sizes()
  if -1 not in sizes:
    process_wide.virtual_devices(math.prod(sizes))
  return make(checks.check_all(config, str(path)))


def make(config: schema.Config) -> RunPlan:
  """The plan of `[run]` on the devices that there are."""
  trainer = Trainer(config)
  state, parameters = trainer.shapes(), trainer.built.unwrap
  with trainer.refusing():
    compiled = trainer.layout.jit(
        trainer.one, (trainer.shardings, trainer.layout.cut())).lower(
            state, _examples(trainer)).compile()
  return RunPlan(
      *trainer.names,
      dict(trainer.layout.mesh.shape) if trainer.layout.mesh else {},
      _held(parameters(state.params)), _held(state.opt_state),
      compiled.memory_analysis().temp_size_in_bytes,
      collectives.read(compiled.as_text()))


def _examples(trainer: Trainer) -> Any:
  """The examples of a step, or the shapes of a stretch of batches."""
  if trainer.stream is None:
    return trainer.parts[0]
  return trainer.stream.shapes()


def _held(tree: Any) -> Held:
  def here(leaf: Any) -> int:
    shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else (
        leaf.shape)
    return math.prod(shape) * leaf.dtype.itemsize

  leaves = jax.tree.leaves(tree)
  return Held(sum(leaf.size for leaf in leaves),
              sum(leaf.size * leaf.dtype.itemsize for leaf in leaves),
              sum(map(here, leaves)))
