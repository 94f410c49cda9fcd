"""What weight normalization costs at inference, and that folding removes it.

Source: Salimans, Kingma 2016 (arXiv 1602.07868): w = g v / ||v|| is a
reparameterization; nothing of it is left in the trained net.

Expected: operations and bytes of the folded net equal the plain one's exactly,
outputs agree to rounding; unfolded, what v's norms cost falls with the batch.

Nothing is trained or tuned: compiled forward passes of three nets, by XLA's
cost analysis, for one example and for 128; outputs for 10 seeds. Seconds.
"""

import functools
import pathlib
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp

import gradnorm_optax.linen as gnn
from benchmarks.evidence.studies.book import Book
from benchmarks.evidence.studies.search import FRESH
from gradnorm_optax.lab.models.recurrent import Recurrent
from gradnorm_optax.lab.models.weight_norm_nets import SmallNet

BATCHES = (1, 128)
SEEDS = 10
MEASURE = 'operations of a forward pass, over those of the plain net'


class Mlp(nn.Module):
  """Three layers of 256, wrapped or plain."""

  norm: str = 'weight'

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    for features in (256, 256, 10):
      dense = nn.Dense(features)
      x = (gnn.WeightNorm(dense) if self.norm == 'weight' else dense)(x)
      x = x if features == 10 else nn.relu(x)
    return x


# Net, plain net, shape of an example
NETS: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    'mlp': (Mlp(), Mlp('none'), (64,)),
    'cnn': (SmallNet(10, 'weight'), SmallNet(10), (8, 8, 1)),
    'srn': (Recurrent(10, None, 64, norm='weight'), Recurrent(10, None, 64),
            (20, 8))}


def costs(module: Any, variables: Any, x: jax.Array) -> dict[str, float]:
  """Operations and bytes of a compiled forward pass."""
  found: Any = jax.jit(
      module.apply).lower(variables, x).compile().cost_analysis()
  return {'flops': found['flops'], 'bytes': found['bytes accessed']}


def difference(net: str, seed: int) -> float:
  """The largest difference of folded outputs, over the largest output."""
  module, _, shape = NETS[net]
  start, data, scale = jax.random.split(jax.random.key(seed), 3)
  x = jax.random.normal(data, (8, *shape))
  variables = module.init(start, x)
  variables = jax.tree_util.tree_map_with_path(
      lambda path, a: a * jax.random.uniform(scale, a.shape, minval=0.5)
      if jax.tree_util.keystr(path[-1:], simple=True).endswith('_g') else a,
      variables)  # lengths as after training
  one = module.apply(variables, x)
  folded, plain = gnn.fold(module, variables)
  return float(np.abs(one - folded.apply(plain, x)).max() / np.abs(one).max())


@functools.cache
def compare(net: str, batch: int) -> dict[str, dict[str, float]]:
  """Costs of the wrapped, the folded and the plain net."""
  module, plain, shape = NETS[net]
  x = jnp.zeros((batch, *shape))
  variables = module.init(jax.random.key(0), x)
  return {'wrapped': costs(module, variables, x),
          'folded': costs(*gnn.fold(module, variables), x),
          'plain': costs(plain, plain.init(jax.random.key(0), x), x)}


def run(out: pathlib.Path, nets: tuple[str, ...] = tuple(NETS),
        seeds: int = SEEDS) -> None:
  """Runs what is missing in the file: a trial for each seed's outputs."""
  book = Book(out, 'wn_inference', MEASURE, False,
              {'nets': list(nets), 'batches': list(BATCHES), 'seeds': seeds})
  for net in nets:
    if book.find('final', f'{net}/folded', BATCHES[-1], FRESH + seeds - 1):
      continue
    trials = []
    for seed in range(FRESH, FRESH + seeds):
      apart = difference(net, seed)
      for batch in BATCHES:
        found = compare(net, batch)
        trials += [
            {'arm': f'{net}/{arm}', 'rate': batch, 'phase': 'final',
             'seed': seed, 'value': found[arm]['flops'] / found['plain'][
                 'flops'],
             'extra': {'batch': batch, 'apart': apart, 'bytes':
                       found[arm]['bytes'] / found['plain']['bytes']}}
            for arm in ('wrapped', 'folded')]
    book.add(trials)
    print(f'wn_inference: {net} done', flush=True)
  book.finish()
