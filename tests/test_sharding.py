"""Sharded trees give the unsharded result, in one collective."""

import re

import jax
import numpy as np
import pytest
from jax import lax, numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradnorm_optax as gn

DEVICES = 8
TRANSFORMS = {
    'bng': gn.normalize_by_block_norm, 'unit': lambda **k:
    gn.normalize_by_block_norm('unit', **k), 'centralize': gn.centralize,
    'standardize': gn.standardize}


def mesh(kind=AxisType.Auto, shape=(DEVICES,), names=('x',)):
  return jax.make_mesh(shape, names, axis_types=(kind,) * len(names))


def tree(layers=3):
  rng = np.random.default_rng(0)
  return {f'layer_{n}': {
      'kernel': jnp.asarray(rng.normal(size=(16, 8)) + 0.3, jnp.float32),
      'bias': jnp.asarray(rng.normal(size=(8,)), jnp.float32)}
          for n in range(layers)}


def apply(tx):
  return lambda g: tx.update(g, tx.init(g))[0]


def assert_same(got, want):
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-6)


def collectives(function, *args):
  """Counts collectives by (kind, in the main computation or in a branch)."""
  text = jax.jit(function).lower(*args).compile().as_text()
  main = text[text.index('\nENTRY'):]
  count = lambda part: len(re.findall(  # noqa: E731
      r' (?:all-reduce|all-gather|reduce-scatter|all-to-all'
      r'|collective-permute)(?:-start)?\(', part))
  gathers = len(re.findall(r' all-gather(?:-start)?\(', main))
  return {'main': count(main), 'gathers': gathers, 'all': count(text)}


@pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize('name', TRANSFORMS)
@pytest.mark.parametrize('spec', [P('x'), P(None, 'x')], ids=['in', 'out'])
def test_plain_jit_needs_nothing(kind, name, spec):
  g, function = tree(), apply(TRANSFORMS[name]())
  with jax.set_mesh(mesh(kind)):
    sharded = {
        layer: {'kernel': jax.device_put(
            leaves['kernel'], NamedSharding(mesh(kind), spec)),
                'bias': jax.device_put(
            leaves['bias'], NamedSharding(mesh(kind), P('x')))}
        for layer, leaves in g.items()}
    got = jax.jit(function)(sharded)
  assert_same(got, function(g))


@pytest.mark.gpu
@pytest.mark.parametrize('name', ['bng', 'standardize'])
def test_a_mesh_of_one_device(name):
  g, one = tree(), jax.make_mesh((1,), ('x',), axis_types=(AxisType.Auto,))
  got = jax.jit(jax.shard_map(
      apply(TRANSFORMS[name](axis_name='x')), mesh=one, in_specs=P('x'),
      out_specs=P('x')))(g)
  assert_same(got, apply(TRANSFORMS[name]())(g))


@pytest.mark.parametrize('check_vma', [True, False])
@pytest.mark.parametrize('name', TRANSFORMS)
@pytest.mark.parametrize('cut', ['in', 'out', 'in, bias whole'])
def test_shard_map(check_vma, name, cut):
  """Kernels cut along either axis; biases cut, or whole and counted once."""
  g = tree()
  kernel = P(None, 'x') if cut == 'out' else P('x')
  bias = P() if 'whole' in cut else P('x')
  specs = {layer: {'kernel': kernel, 'bias': bias} for layer in g}
  by = {'bng': 'layer', 'unit': 'unit'}.get(name, 'leaf')
  blocks = gn.Blocks(
      by, sharded={'*kernel': 1} if cut == 'out' else {},
      replicated=('*bias',) if 'whole' in cut and not check_vma else ())
  make = TRANSFORMS['bng' if name == 'unit' else name]
  function = apply(make(blocks, axis_name='x'))
  got = jax.jit(jax.shard_map(
      function, mesh=mesh(), in_specs=(specs,), out_specs=specs,
      check_vma=check_vma))(g)
  assert_same(got, apply(make(by))(g))


def test_two_mesh_axes_take_one_collective():
  """A leaf that varies over one axis only joins the sum over both."""
  g = tree()
  specs = {layer: {'kernel': P(('a', 'b')), 'bias': P('b')} for layer in g}
  function = jax.shard_map(
      apply(gn.normalize_by_block_norm(axis_name=('a', 'b'))),
      mesh=mesh(shape=(2, 4), names=('a', 'b')), in_specs=(specs,),
      out_specs=specs)
  assert_same(jax.jit(function)(g), apply(gn.normalize_by_block_norm())(g))
  assert collectives(function, g)['main'] == 1


def test_stacked_layers_cut_along_the_stack_or_the_fan_in():
  rng = np.random.default_rng(0)
  g = {'kernel': jnp.asarray(rng.normal(size=(8, 16, 4)), jnp.float32),
       'bias': jnp.asarray(rng.normal(size=(8, 4)), jnp.float32)}
  want = apply(gn.standardize(gn.Blocks(stacked={'*': 0})))(g)
  for axis, specs in ((0, {'kernel': P('x'), 'bias': P('x')}),
                      (1, {'kernel': P(None, 'x'), 'bias': P()})):
    blocks = gn.Blocks(stacked={'*': 0}, sharded={'*': axis})
    function = jax.shard_map(
        apply(gn.standardize(blocks, axis_name='x')), mesh=mesh(),
        in_specs=(specs,), out_specs=specs)
    assert_same(jax.jit(function)(g), want)


def test_devices_agree_before_a_branch_with_collectives():
  """A doubtful block on one device takes all of them into the branch.

  Units cut along the outputs keep their sums local; a bias that is cut too
  makes the branch hold a collective, in which every device must take part.
  """
  g = {'kernel': jnp.ones((16, 8)).at[:, 3].set(1e-30), 'bias': jnp.ones(8)}
  specs = {'kernel': P(None, 'x'), 'bias': P('x')}
  blocks = gn.Blocks('unit', sharded={'kernel': 1})
  function = jax.shard_map(
      apply(gn.normalize_by_block_norm(blocks, axis_name='x')), mesh=mesh(),
      in_specs=(specs,), out_specs=specs)
  want = apply(gn.normalize_by_block_norm('unit'))(g)
  assert_same(jax.jit(function)(g), want)


def test_pmap():
  g = tree()
  cut = jax.tree.map(
      lambda x: x.reshape((DEVICES, x.shape[0] // DEVICES) + x.shape[1:]), g)
  got = jax.pmap(apply(gn.normalize_by_block_norm(axis_name='x')),
                 axis_name='x')(cut)
  got = jax.tree.map(lambda x, like: x.reshape(like.shape), got, g)
  assert_same(got, apply(gn.normalize_by_block_norm())(g))


def test_uncovered_reduction_asks_for_the_cut_axis():
  g = {'layers': {'bias': jnp.ones((8, 4))}}
  blocks = gn.Blocks(stacked={'*': 0})
  function = jax.shard_map(
      apply(gn.normalize_by_block_norm(blocks, axis_name='x')), mesh=mesh(),
      in_specs=(P('x'),), out_specs=P('x'))
  with pytest.raises(ValueError, match=r"layers/bias.*Blocks\(sharded="):
    jax.jit(function)(g)


@pytest.mark.parametrize('how', ['jit', 'shard_map'])
@pytest.mark.parametrize('name', ['bng', 'standardize'])
@pytest.mark.parametrize('spec', [P('x'), P(None, 'x')], ids=['in', 'out'])
def test_one_all_reduce_whatever_the_number_of_arrays(how, name, spec):
  """48 arrays; branches that are not taken hold more.

  Inside shard_map two more at most; under plain jit on a CPU each block has a
  branch of its own.
  """
  g = tree(24)
  if how == 'jit':
    specs = {layer: {'kernel': spec, 'bias': P('x')} for layer in g}
    function = apply(TRANSFORMS[name]())
    g = jax.tree.map(
        lambda x, s: jax.device_put(x, NamedSharding(mesh(), s)), g, specs)
  else:
    specs = {layer: {'kernel': spec, 'bias': P('x')} for layer in g}
    blocks = gn.Blocks(
        'layer' if name == 'bng' else 'leaf',
        sharded={} if spec == P('x') else {'*kernel': 1})
    function = jax.shard_map(
        apply(TRANSFORMS[name](blocks=blocks, axis_name='x')), mesh=mesh(),
        in_specs=(specs,), out_specs=specs)
  found = collectives(function, g)
  assert found['main'] == 1
  assert found['gathers'] == 0
  if how == 'shard_map':
    assert found['all'] <= 3


def test_axis_name_under_a_data_axis():
  """Gradients averaged over data, norms summed over the parameter shards."""
  g = tree()
  specs = {layer: {'kernel': P('x'), 'bias': P('x')} for layer in g}
  tx = gn.normalize_by_block_norm(axis_name='x')

  def step(g):
    index = lax.axis_index('data').astype(jnp.float32)
    local = jax.tree.map(lambda x: x * (1 + index), g)  # two batches' gradients
    mean = jax.tree.map(lambda x: lax.pmean(x, 'data'), local)
    return apply(tx)(mean)

  function = jax.shard_map(
      step, mesh=mesh(shape=(2, 4), names=('data', 'x')), in_specs=(specs,),
      out_specs=specs)
  assert_same(jax.jit(function)(g), apply(gn.normalize_by_block_norm())(g))


@pytest.mark.parametrize('name', TRANSFORMS)
def test_an_axis_over_which_nothing_is_cut(name):
  g = tree()
  specs = {layer: {'kernel': P('x'), 'bias': P()} for layer in g}
  by = {'bng': 'layer', 'unit': 'unit'}.get(name, 'leaf')
  make = TRANSFORMS['bng' if name == 'unit' else name]
  function = jax.shard_map(
      apply(make(by, axis_name=('x', 'y'))),
      mesh=mesh(shape=(4, 2), names=('x', 'y')), in_specs=(specs,),
      out_specs=specs)
  assert_same(jax.jit(function)(g), apply(make(by))(g))
