"""A small convolutional network with everything in it, path by path."""

import flax.linen as nn
import jax
import numpy as np
import path_walk
import pytest
from jax import numpy as jnp

from gradnorm_optax import linen, paths

X = jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32)


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    kinds = {'dtype': jnp.float64, 'param_dtype': jnp.float64}
    x = nn.Conv(2, (3, 3), name='conv1', **kinds)(x)
    x = nn.relu(nn.BatchNorm(True, name='norm', **kinds)(x))
    y = nn.Conv(2, (3, 3), use_bias=False, name='conv2', **kinds)(x)
    x = x + nn.relu(y)
    x = nn.max_pool(x, (2, 2), (2, 2))
    x = nn.avg_pool(x, (2, 2), padding='SAME', count_include_pad=False)
    return nn.Dense(1, name='dense', **kinds)(x.reshape(1, -1))


def draw():
  rng = np.random.default_rng(3)
  params = {
      'conv1': {'kernel': rng.normal(size=(3, 3, 1, 2)),
                'bias': rng.normal(size=2)},
      'norm': {'scale': rng.normal(size=2), 'bias': rng.normal(size=2)},
      'conv2': {'kernel': rng.normal(size=(3, 3, 2, 2))},
      'dense': {'kernel': rng.normal(size=(8, 1)), 'bias': rng.normal(size=1)},
  }
  stats = {'mean': rng.normal(size=2), 'var': rng.uniform(0.5, 2, size=2)}
  return params, stats


def flat(tree):
  return {f'{a}/{b}': np.asarray(v) for a in tree for b, v in tree[a].items()}


@pytest.fixture(scope='module')
def network():
  params, stats = draw()
  return params, stats, flat(params)


@pytest.fixture(scope='module')
def walked(network):
  _, stats, w = network
  return walk(w, stats, merge=False)


def walk(w, stats, merge):
  graph = path_walk.Graph()
  x = graph.conv(graph.inputs((4, 4, 1)), w['conv1/kernel'], 'conv1/kernel')
  root = 1 / np.sqrt(stats['var'] + np.float32(1e-5))
  if merge:
    shift = (w['conv1/bias'] - stats['mean']) * root * w['norm/scale']
    x = graph.scale(x, root * w['norm/scale'])
    x = graph.shift(x, shift + w['norm/bias'])
  else:
    x = graph.shift(x, w['conv1/bias'], 'conv1/bias')
    x = graph.shift(x, stats['mean'])
    x = graph.scale(x, root)
    x = graph.scale(x, w['norm/scale'], 'norm/scale')
    x = graph.shift(x, w['norm/bias'], 'norm/bias')
  x = graph.add(x, graph.conv(x, w['conv2/kernel'], 'conv2/kernel'))
  x = graph.average_pool(graph.max_pool(x)).ravel()
  x = graph.dense(x, w['dense/kernel'], 'dense/kernel')
  x = graph.shift(x, w['dense/bias'], 'dense/bias')
  return path_walk.Paths(graph, x)


@pytest.mark.parametrize('p', [1, 2, 3])
def test_every_path(network, walked, p):
  params, stats, w = network
  with jax.enable_x64(True):
    apply_fn = linen.apply_fn(Net())
    given = jax.tree.map(jnp.asarray, params)
    held = {'batch_stats': {'norm': jax.tree.map(jnp.asarray, stats)}}
    net = lambda params, x: apply_fn(params, x, held)  # noqa: E731
    phi = paths.path_norm(net, given, X, p=p)
    gamma = paths.path_scale(net, given, X, p=p)
  np.testing.assert_allclose(float(phi), walked.norm(p), rtol=1e-12)
  path_walk.assert_close(flat(gamma), walked.scale(w, p))


def test_merged_affine_maps(network):
  params, stats, w = network
  reference = walk(w, stats, merge=True)
  with jax.enable_x64(True):
    apply_fn = linen.apply_fn(Net())
    given = jax.tree.map(jnp.asarray, params)
    held = {'batch_stats': {'norm': jax.tree.map(jnp.asarray, stats)}}
    net = lambda params, x: apply_fn(params, x, held)  # noqa: E731
    for p in (1, 2):
      phi = paths.path_norm(net, given, X, p=p, merge_affine=True)
      np.testing.assert_allclose(float(phi), reference.norm(p), rtol=1e-12)
