"""What trackers are told: plain floats under names that all of them take."""

import math
import re

import jax
import optax
import pytest
from jax import numpy as jnp
from tensorboardX import SummaryWriter
from tensorboardX.proto import event_pb2

import gradnorm_optax as gn


def trained():
  """A state with a root label, a stack and a NaN in it."""
  blocks = gn.Blocks(stacked={'mlp/*': 0})
  tx = optax.chain(
      gn.record_block_norms('raw', blocks, ratio=True, decay=0.9),
      gn.watch('raw', blocks, ranges={'mlp': (3.0, None)}))
  params = {'mlp': {'kernel': jnp.full((2, 4), 1.0)}, 'bias': jnp.ones(1)}
  g = {'mlp': {'kernel': jnp.stack([jnp.full(4, 1.0), jnp.full(4, 2.0)])},
       'bias': jnp.full(1, jnp.nan)}
  return jax.jit(tx.update)(g, tx.init(params), params)[1]


def test_scalars():
  found = gn.telemetry_scalars(trained())
  assert all(type(value) is float for value in found.values())
  assert math.isnan(found.pop('norm/raw/bias'))
  assert math.isnan(found.pop('ratio/raw/bias'))
  assert math.isnan(found.pop('reading/raw/bias'))
  assert found == pytest.approx({
      'norm/raw/mlp.0': 2.0, 'norm/raw/mlp.1': 4.0,
      'ratio/raw/mlp.0': 1.0, 'ratio/raw/mlp.1': 2.0,
      'mean/raw/bias': 0.0, 'mean/raw/mlp.0': 2.0, 'mean/raw/mlp.1': 4.0,
      'reading/raw/mlp.0': 2.0, 'reading/raw/mlp.1': 4.0,
      'below/raw/bias': 0.0, 'below/raw/mlp.0': 1.0, 'below/raw/mlp.1': 0.0,
      'above/raw/bias': 1.0, 'above/raw/mlp.0': 0.0, 'above/raw/mlp.1': 0.0})


def test_tags_are_those_that_every_tracker_takes():
  g = {'kernel': jnp.ones(1)}  # its block is called '(root)'
  tx = gn.record_block_norms('a:b [0]')
  (tag,) = gn.telemetry_scalars(tx.update(g, tx.init(g))[1])
  assert re.fullmatch(r'[A-Za-z0-9_\-. /]+', tag)
  g = {'a(': {'b': jnp.ones(1)}, 'a)': {'b': jnp.ones(1)}}
  with pytest.raises(ValueError, match="two readings are called 'norm/n/a_'"):
    gn.telemetry_scalars(gn.record_block_norms('n').init(g))


def test_hooks_are_told_every_nth_step():
  told, state = [], trained()
  for step in range(5):
    gn.send_telemetry(
        state, step, lambda step, values: told.append((step, len(values))),
        lambda step, values: values.clear(), every=3)
  assert told == [(0, 18), (3, 18)]
  gn.send_telemetry(object(), 1, told.append, every=2)  # nothing is touched
  with pytest.raises(ValueError, match='every=0'):
    gn.send_telemetry(state, 0, every=0)


def test_tensorboard(tmp_path):
  with SummaryWriter(str(tmp_path), write_to_disk=True) as writer:
    def hook(step, values):
      for tag, value in values.items():
        writer.add_scalar(tag, value, step)
    gn.send_telemetry(trained(), 7, hook)
  (file,) = tmp_path.iterdir()
  data, at, read = file.read_bytes(), 0, {}
  while at < len(data):
    size = int.from_bytes(data[at:at + 8], 'little')
    event = event_pb2.Event.FromString(data[at + 12:at + 12 + size])
    at += size + 16
    read |= {value.tag: (event.step, value.simple_value)
             for value in event.summary.value}
  assert read['norm/raw/mlp.1'] == (7, 4.0) and len(read) == 18
