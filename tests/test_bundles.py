"""Many small blocks of one shape: read as one array, or compiled once."""

import re

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradnorm_optax as gn
from gradnorm_optax import _bundles
from gradnorm_optax._layout import resolve

NONE = optax.EmptyState()
TRANSFORMS = {
    'bng': gn.normalize_by_block_norm, 'standardize': gn.standardize,
    'standardize layers': lambda: gn.standardize('layer'),
    'standardize units': lambda: gn.standardize('unit'),
    'centralize': gn.centralize,
    'ratio': lambda: gn.scale_by_block_param_norm(ratio=0.5)}


def layer(seed, scale):
  rng = np.random.default_rng(seed)
  make = lambda *shape: jnp.asarray(  # noqa: E731
      rng.normal(size=shape) * scale, jnp.float32)
  return {'kernel': make(4, 3), 'bias': make(3)}


def layers():
  """Enough for two bundles, of all ranges, with a zero and a broken one."""
  scales = [1e-36, 1e-23, 1.0, 300.0, 1e30, 0.0, np.nan]
  return {f'Dense_{n}': layer(n, scales[n % 7]) for n in range(40)}


@pytest.fixture
def one_device(monkeypatch):
  """Where there are several, arrays of unknown sharding are not stacked."""
  monkeypatch.setattr(_bundles, '_known', lambda leaf: True)
  jax.clear_caches()
  yield
  jax.clear_caches()


@pytest.mark.parametrize('name', TRANSFORMS)
@pytest.mark.gpu
@pytest.mark.usefixtures('one_device')
def test_a_block_is_the_same_among_others(name):
  tx, g = TRANSFORMS[name](), layers()
  alone = jax.jit(lambda g: tx.update(g, NONE, g)[0])
  got = alone(g)
  for path, own in g.items():
    for leaf, want in alone({path: own})[path].items():
      np.testing.assert_allclose(
          got[path][leaf], want, rtol=1e-5, atol=1e-5 * np.nanmax(
              np.abs(want), initial=0), err_msg=f'{path}/{leaf}')


@pytest.mark.parametrize('name', ['bng', 'standardize layers', 'centralize'])
def test_outside_of_jit_blocks_alike_are_one_program(name):
  tx, g = TRANSFORMS[name](), layers()
  assert len({id(own) for own, _ in resolve('layer', g, 'test').blocks}) == 1
  want = jax.jit(lambda g: tx.update(g, NONE)[0])(g)
  for (path, got), leaf in zip(
      jax.tree_util.tree_leaves_with_path(tx.update(g, NONE)[0]),
      jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(
        got, leaf, rtol=1e-5, atol=1e-5 * np.nanmax(np.abs(leaf), initial=0),
        err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize('name', ['bng', 'standardize'])
@pytest.mark.usefixtures('one_device')
def test_the_number_of_blocks_hardly_matters_to_the_program(name):
  def reductions(count):
    g = {f'Dense_{n}': layer(n, 1.0) for n in range(count)}
    program = jax.jit(lambda g: TRANSFORMS[name]().update(g, NONE)[0])
    return program.lower(g).as_text().count('stablehlo.reduce')

  assert reductions(32) == reductions(8)


@pytest.mark.usefixtures('one_device')
def test_derivatives_pass():
  g = {f'Dense_{n}': layer(n, 1.0) for n in range(3)}
  tx = gn.standardize('layer')

  def total(g, paths):
    u = tx.update({path: g[path] for path in paths}, NONE)[0]
    return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(u))

  got = jax.grad(lambda g: total(g, list(g)))(g)
  want = jax.grad(lambda g: sum(total(g, [path]) for path in g))(g)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, atol=1e-5), got, want)


def test_replicas_each_with_gradients_of_their_own():
  """Inside `shard_map` without an axis name nothing is summed over devices."""
  rng = np.random.default_rng(0)
  g = {f'Dense_{n}': {'kernel': jnp.asarray(
      rng.normal(size=(8, 4, 3)), jnp.float32)} for n in range(3)}
  tx = gn.standardize()
  apply = lambda g: tx.update(g, NONE)[0]  # noqa: E731
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  one = lambda g: jax.tree.map(  # noqa: E731
      lambda x: x[None], apply(jax.tree.map(lambda x: x[0], g)))
  got = jax.jit(jax.shard_map(
      one, mesh=mesh, in_specs=P('data'), out_specs=P('data')))(g)
  want = jax.vmap(apply)(g)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, atol=1e-6), got, want)


@pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize('name', ['bng', 'standardize', 'standardize units',
                                  'centralize'])
def test_arrays_stay_where_they_lie(name, kind):
  """Small arrays of one name and shape, each cut along other axes or none."""
  mesh = jax.make_mesh((2, 2), ('data', 'model'), axis_types=(kind,) * 2,
                       devices=jax.devices()[:4])
  cuts = [P('data', None), P(None, 'model'), P(None, None), P('model', 'data')]
  rng = np.random.default_rng(0)
  plain = {f'Dense_{n}': {
      'kernel': rng.normal(size=(8, 4)).astype('float32'),
      'bias': rng.normal(size=4).astype('float32')} for n in range(8)}
  lie = {path: {'kernel': NamedSharding(mesh, cuts[n % 4]),
                'bias': NamedSharding(mesh, P('model') if n % 2 else P())}
         for n, path in enumerate(plain)}
  g, tx = jax.device_put(plain, lie), TRANSFORMS[name]()
  step = jax.jit(lambda g: tx.update(g, NONE)[0]).lower(g).compile()
  jax.tree.map(lambda x, at: np.testing.assert_(
      x.sharding.is_equivalent_to(at, x.ndim), (x.sharding, at)), step(g), lie)
  moved = set(re.findall(
      r' (all-\w+|collective-\w+|reduce-scatter)\(', step.as_text()))
  assert moved == {'all-reduce'}
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, atol=1e-6), step(g), tx.update(plain, NONE)[0])
