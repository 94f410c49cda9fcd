"""What Path-SGD costs: its step against SGD's, and path norms of ResNets.

The step ratio is measured interleaved in one process; the flops ratio is read
from XLA's cost analysis and should be close to 1 + 1/B.
"""

from __future__ import annotations

import functools
import json
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import gradnorm_optax as gn
from benchmarks import common
from gradnorm_optax.linen import apply_fn

ROUNDS = 15


class Mlp(nn.Module):
  """Three hidden layers of 1024 units."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = x.reshape(x.shape[0], -1)
    for _ in range(3):
      x = nn.relu(nn.Dense(1024)(x))
    return nn.Dense(10)(x)


class Cnn(nn.Module):
  """A small convolutional network."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    for features in (32, 64, 128):
      x = nn.relu(nn.Conv(features, (3, 3))(x))
      x = nn.max_pool(x, (2, 2), (2, 2))
    x = nn.relu(nn.Dense(256)(x.reshape(x.shape[0], -1)))
    return nn.Dense(10)(x)


class Block(nn.Module):
  """A residual block, basic or bottleneck."""

  features: int
  stride: int
  bottleneck: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    width = self.features
    shapes = [(width, 3, self.stride), (width, 3, 1)]
    if self.bottleneck:
      shapes = [(width, 1, 1), (width, 3, self.stride), (4 * width, 1, 1)]
    y = x
    for i, (out, size, stride) in enumerate(shapes):
      y = nn.Conv(out, (size, size), stride, use_bias=False)(y)
      y = nn.BatchNorm(use_running_average=True)(y)
      y = nn.relu(y) if i + 1 < len(shapes) else y
    if x.shape != y.shape:
      x = nn.Conv(y.shape[-1], (1, 1), self.stride, use_bias=False)(x)
      x = nn.BatchNorm(use_running_average=True)(x)
    return nn.relu(x + y)


class ResNet(nn.Module):
  """ResNet-18 or ResNet-50 for ImageNet's shapes."""

  stages: tuple[int, ...]
  bottleneck: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Conv(64, (7, 7), 2, use_bias=False)(x)
    x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
    x = nn.max_pool(x, (3, 3), (2, 2), padding='SAME')
    for i, blocks in enumerate(self.stages):
      for j in range(blocks):
        stride = 2 if i > 0 and j == 0 else 1
        x = Block(64 * 2**i, stride, self.bottleneck)(x)
    return nn.Dense(1000)(x.mean((1, 2)))


RESNETS = {
    'resnet18': ResNet((2, 2, 2, 2), False),
    'resnet50': ResNet((3, 4, 6, 3), True),
}


def step_costs(
    model: nn.Module, shape: tuple[int, ...], batch: int
) -> dict[str, Any]:
  """Compares one jitted training step of Path-SGD with one of SGD."""
  x = jax.random.normal(jax.random.key(0), (batch, *shape))
  labels = jnp.zeros(batch, jnp.int32)
  params = model.init(jax.random.key(1), x[:1])['params']
  net = apply_fn(model)

  def build(tx: optax.GradientTransformation) -> Any:
    def step(params: Any, state: Any, x: jax.Array) -> Any:
      def loss(w: Any) -> jax.Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(
            net(w, x), labels
        )
        return losses.mean()

      updates, state = tx.update(jax.grad(loss)(params), state, params)
      return optax.apply_updates(params, updates), state

    return jax.jit(step).lower(params, tx.init(params), x).compile()

  txs = {
      'sgd': optax.sgd(1e-3),
      'path_sgd': gn.path_sgd(1e-9, net, x[:1]),
  }
  steps = {name: build(tx) for name, tx in txs.items()}
  states = {name: tx.init(params) for name, tx in txs.items()}
  times = common.interleave({
      name: functools.partial(steps[name], params, states[name], x)
      for name in txs
  }, ROUNDS)
  flops = {name: step.cost_analysis()['flops'] for name, step in steps.items()}
  ratio = common.ratio(times['path_sgd'], times['sgd'])
  return {
      'batch': batch,
      'time_ratio': round(ratio['median'], 4),
      'time_quartiles': [round(ratio['low'], 4), round(ratio['high'], 4)],
      'flops_ratio': round(flops['path_sgd'] / flops['sgd'], 5),
      'one_plus_1_over_b': 1 + 1 / batch,
  }


def norm_costs(model: nn.Module, size: int = 224) -> dict:
  """Computes path norms of a ResNet and times them at batch 1."""
  x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  init = jax.jit(model.init)
  variables = init(jax.random.key(0), jnp.zeros(x.shape))
  params, stats = variables['params'], {'batch_stats': variables['batch_stats']}
  net = apply_fn(model)
  ones = jnp.ones(x.shape)
  calls: dict[str, Any] = {
      f'phi_{p}': jax.jit(
          lambda w, s, p=p: gn.path_norm(
              lambda w, x: net(w, x, s), w, x, p=p
          )
      )
      for p in (1, 2)
  }
  calls['gamma'] = jax.jit(
      lambda w, s: gn.path_scale(lambda w, x: net(w, x, s), w, x)
  )
  calls['forward_backward'] = jax.jit(
      jax.grad(lambda w, s: net(w, ones, s).sum())
  )
  result: dict[str, Any] = {}
  for name, call in calls.items():
    start = time.perf_counter()
    value = jax.block_until_ready(call(params, stats))
    result[f'{name}_first_call_s'] = round(time.perf_counter() - start, 2)
    if name.startswith('phi'):
      result[name] = float(value)
  times = common.interleave(
      {
          name: functools.partial(call, params, stats)
          for name, call in calls.items()
      },
      rounds=5,
  )
  base = np.median(times['forward_backward'])
  for name in ('phi_1', 'phi_2', 'gamma'):
    result[f'{name}_ratio'] = round(float(np.median(times[name]) / base), 3)
  return result


def main() -> None:
  """Measures everything, prints a table, writes the JSON file."""
  results: dict[str, Any] = {'steps': {}, 'norms': {}}
  print(f'{"model":10} {"batch":>5} {"time":>7} {"quartiles":>18} {"flops":>8}')
  for name, (model, shape) in {
      'mlp': (Mlp(), (784,)), 'cnn': (Cnn(), (32, 32, 3)),
  }.items():
    for batch in (32, 128):
      row = step_costs(model, shape, batch)
      results['steps'][f'{name}_{batch}'] = row
      low, high = row['time_quartiles']
      print(
          f'{name:10} {batch:5d} {row["time_ratio"]:7.3f} '
          f'{low:8.3f} .. {high:.3f} {row["flops_ratio"]:8.4f}'
      )
  for name, model in RESNETS.items():
    row = norm_costs(model)
    results['norms'][name] = row
    print(name, json.dumps(row))
  common.save('path_sgd', results)


if __name__ == '__main__':
  main()
