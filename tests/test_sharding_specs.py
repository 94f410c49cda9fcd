"""Leaves cut along several array axes: the specs that `shard_map` takes."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P
from test_sharding import apply, assert_same

import gradnorm_optax as gn

MESH = jax.make_mesh(
    (2, 4), ('fsdp', 'tensor'), axis_types=(AxisType.Auto,) * 2)
# Column- and row-parallel layers, a stack, a leaf that only one axis cuts.
SPECS = {
    'up': {'kernel': P('fsdp', 'tensor'), 'bias': P('tensor')},
    'down': {'kernel': P('tensor', 'fsdp'), 'bias': P(None)},
    'both': {'kernel': P(('fsdp', 'tensor'), None), 'bias': P()},
    'whole': {'kernel': P(), 'bias': P('fsdp')},
    'layers': {'kernel': P('fsdp', 'tensor'), 'bias': P('fsdp')}}
SHAPES = {
    'up': {'kernel': (8, 12), 'bias': (12,)},
    'down': {'kernel': (12, 6), 'bias': (6,)},
    'both': {'kernel': (16, 5), 'bias': (5,)},
    'whole': {'kernel': (3, 4), 'bias': (4,)},
    'layers': {'kernel': (4, 8, 3), 'bias': (4, 3)}}


def gradient(offset):
  """A large offset is what centering takes away: the careful reading."""
  rng = np.random.default_rng(0)
  return {layer: {name: jnp.asarray(rng.normal(size=s) + offset, jnp.float32)
                  for name, s in leaves.items()}
          for layer, leaves in SHAPES.items()}


def over_mesh(function, check_vma=True):
  return jax.jit(jax.shard_map(
      function, mesh=MESH, in_specs=(SPECS,), out_specs=SPECS,
      check_vma=check_vma))


@pytest.mark.parametrize('check_vma', [True, False])
@pytest.mark.parametrize('offset', [0.1, 3.0])
@pytest.mark.parametrize(('make', 'by'), [
    (gn.normalize_by_block_norm, 'layer'), (gn.normalize_by_block_norm, 'unit'),
    (gn.centralize, 'leaf'), (gn.standardize, 'leaf'), (gn.standardize, 'unit'),
    (gn.standardize, 'global')])
def test_one_array_cut_along_both_mesh_axes(make, by, offset, check_vma):
  """Specs also say what is whole, so nothing more is needed unchecked."""
  g = gradient(offset)
  blocks = gn.Blocks(by, stacked={'layers/*': 0}, sharded=SPECS)
  tx = make(blocks, axis_name=('fsdp', 'tensor'))
  want = apply(make(gn.Blocks(by, stacked={'layers/*': 0})))(g)
  got = over_mesh(apply(tx), check_vma)(g)
  scale = max(np.abs(x).max() for x in jax.tree.leaves(want))
  assert_same(jax.tree.map(lambda x: x / scale, got),
              jax.tree.map(lambda x: x / scale, want))


def test_weight_normalized_where_both_axes_cut():
  g, p = gradient(0.1), gradient(0.5)
  make = lambda **options: gn.weight_normalized(  # noqa: E731
      optax.sgd(0.1), blocks=gn.Blocks(
          'unit', stacked={'layers/*': 0}, **options.pop('blocks', {})),
      **options)

  def step(tx):
    return lambda g, p: tx.update(g, tx.init(p), p)[0]

  tx = make(blocks={'sharded': SPECS}, axis_name=('fsdp', 'tensor'))
  with jax.numpy_dtype_promotion('standard'):
    got = jax.jit(jax.shard_map(
        step(tx), mesh=MESH, in_specs=(SPECS, SPECS), out_specs=SPECS))(g, p)
    want = step(make())(g, p)
  assert_same(got, want)


def test_a_spec_may_stand_for_all_below_it():
  g = {'a': {'kernel': jnp.ones((8, 4)), 'bias': jnp.ones(8)}, 'b': jnp.ones(8)}
  specs = {'a': P('fsdp'), 'b': P()}
  blocks = gn.Blocks('leaf', sharded=specs)
  tx = gn.normalize_by_block_norm(blocks, axis_name='fsdp')
  got = jax.jit(jax.shard_map(
      apply(tx), mesh=MESH, in_specs=(specs,), out_specs=specs,
      check_vma=False))(g)
  assert_same(got, apply(gn.normalize_by_block_norm('leaf'))(g))
  one = gn.Blocks('leaf', sharded=P('fsdp'))
  assert dict(one.sharded) == {'*': P('fsdp')}


@pytest.mark.parametrize(('sharded', 'words'), [
    ({'*kernel': P('tensor')}, "'up/kernel' varies over mesh axis 'fsdp'"),
    ({'*': P(None, None, None, 'fsdp')}, 'names 4 axes'),
    ({}, r'sharded over.*does not cover.*PartitionSpec')])
def test_specs_that_do_not_fit_are_named(sharded, words):
  blocks = gn.Blocks('leaf', units={'up/kernel': -1}, sharded=sharded)
  tx = gn.standardize(blocks, axis_name=('fsdp', 'tensor'))
  g = {'up': {'kernel': jnp.ones((8, 12))}}
  specs = {'up': {'kernel': P('fsdp', 'tensor')}}
  with pytest.raises(ValueError, match=words):
    jax.jit(jax.shard_map(
        apply(tx), mesh=MESH, in_specs=(specs,), out_specs=specs))(g)


@pytest.mark.parametrize('make', [gn.centralize, gn.standardize])
def test_a_device_may_hold_one_entry_of_each_fan_in(make):
  """Whether there is a mean does not depend on how the leaf is cut."""
  g = {'kernel': jnp.sin(jnp.arange(32.0)).reshape(8, 4) + 1}
  spec = {'kernel': P(('fsdp', 'tensor'))}
  for blocks in (gn.Blocks('leaf'), gn.Blocks('leaf', sharded=spec)):
    tx = make(blocks, axis_name=('fsdp', 'tensor'))
    got = jax.jit(jax.shard_map(
        apply(tx), mesh=MESH, in_specs=(spec,), out_specs=spec))(g)
    assert_same(got, apply(make())(g))
