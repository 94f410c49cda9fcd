"""Norms recorded inside a chain, wherever the chain is."""

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax import numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P

import gradnorm_optax as gn


@pytest.fixture(autouse=True)
def _foreign_code():
  with (jax.numpy_dtype_promotion('standard'),
        jax.numpy_rank_promotion('allow')):
    yield


def tree(scale=1.0):
  return {'Dense_0': {'kernel': jnp.full((2, 2), 2.0) * scale,
                      'bias': jnp.full((2,), 0.0)},
          'Dense_1': {'kernel': jnp.full((2, 1), 3.0) * scale,
                      'bias': jnp.full((1,), 3.0) * scale}}


NORMS = {'Dense_0': 4.0, 'Dense_1': np.sqrt(27.0)}


def chain():
  return optax.chain(
      gn.record_block_norms('before'), gn.normalize_by_block_norm(),
      gn.record_block_norms('after'), optax.sgd(0.1))


def assert_norms(found, want):
  assert found.keys() == want.keys()
  for label, value in want.items():
    np.testing.assert_allclose(found[label], value, rtol=1e-6)


def test_before_and_after_in_a_scan():
  tx = chain()

  def step(state, scale):
    _, state = tx.update(tree(scale), state, tree())
    return state, gn.block_norms(state, 'before')

  state, history = jax.lax.scan(step, tx.init(tree()), jnp.arange(1.0, 4.0))
  assert_norms(gn.block_norms(state, 'before'),
               {k: 3 * v for k, v in NORMS.items()})
  assert_norms(gn.block_norms(state, 'after'), dict.fromkeys(NORMS, 1.0))
  assert_norms(history, {k: v * np.arange(1, 4) for k, v in NORMS.items()})


def test_zero_before_the_first_update():
  assert_norms(gn.block_norms(chain().init(tree()), 'before'),
               dict.fromkeys(NORMS, 0.0))


def test_stacked_and_unit_blocks_are_arrays():
  g = {'mlp': {'kernel': jnp.ones((3, 4, 2))}}
  tx = optax.chain(
      gn.record_block_norms('layers', gn.Blocks(stacked={'*': 0})),
      gn.record_block_norms('units', gn.Blocks('unit', stacked={'*': 0})))
  _, state = tx.update(g, tx.init(g))
  norms = gn.block_norms(state)
  assert_norms(norms['layers'], {'mlp': np.full(3, np.sqrt(8))})
  assert_norms(norms['units'], {'mlp/kernel': np.full((3, 2), 2.0)})


def test_masked_and_partition():
  g = tree()
  tx = optax.masked(gn.record_block_norms('part'), {
      'Dense_0': True, 'Dense_1': False})
  _, state = tx.update(g, tx.init(g))
  assert_norms(gn.block_norms(state, 'part'), {'Dense_0': 4.0})
  tx = optax.partition(
      {'a': gn.record_block_norms('all'), 'b': gn.record_block_norms('all')},
      {'Dense_0': 'a', 'Dense_1': 'b'})
  _, state = tx.update(g, tx.init(g))
  assert_norms(gn.block_norms(state, 'all'), NORMS)


def test_multi_steps_records_the_accumulated_gradient():
  tx = optax.MultiSteps(chain(), every_k_schedule=2)
  state = tx.init(tree())
  for scale in (1.0, 3.0):
    _, state = tx.update(tree(scale), state, tree())
  assert_norms(gn.block_norms(state, 'before'),
               {k: 2 * v for k, v in NORMS.items()})


def test_linen_and_nnx_states():
  state = TrainState.create(apply_fn=None, params=tree(), tx=chain())
  state = state.apply_gradients(grads=tree())
  assert_norms(gn.block_norms(state, 'before'), NORMS)

  model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, chain(), wrt=nnx.Param)
  grads = nnx.grad(lambda m: m(jnp.ones((1, 2))).sum())(model)
  optimizer.update(model, grads)
  found = gn.block_norms(optimizer.opt_state, 'before')
  assert_norms(found, {'(root)': np.sqrt(6.0)})
  assert all(isinstance(norm, jax.Array) for norm in found.values())


def test_every_nth_update_with_ratios_and_means():
  """Against the sums of the definition; NaN is no part of a mean."""
  course = np.array([3, 50, np.nan, 50, 6, 50, 12], np.float32)
  params = {'a': jnp.full(1, 2.0)}
  tx = gn.record_block_norms('n', every=2, ratio=True, decay=0.8)

  def step(state, x):
    _, state = tx.update({'a': x[None]}, state, params)
    return state, (gn.block_norms(state, 'n')['a'],
                   gn.block_means(state, 'n')['a'])

  state, (norms, means) = jax.lax.scan(step, tx.init(params), course)
  np.testing.assert_array_equal(norms, [3, 3, np.nan, np.nan, 6, 6, 12])
  first, second = (0.8 * 3 + 6) / 1.8, (0.64 * 3 + 0.8 * 6 + 12) / 2.44
  np.testing.assert_allclose(
      means, [3, 3, 3, 3, first, first, second], rtol=1e-6)
  assert gn.block_ratios(state, 'n') == {'a': 6.0}
  still = {'a': jnp.zeros(1)}
  for update, want in ((still, 0.0), (params, np.inf)):
    _, state = tx.update(update, tx.init(still), still)
    assert gn.block_ratios(state, 'n') == {'a': want}
  with pytest.raises(ValueError, match='ratio=True.*needs the parameters'):
    tx.update(params, state)


def test_no_norm_is_computed_between_readings():
  """Outside of the branch there is no operation on an array of the tree."""
  g = {'kernel': jnp.ones((4, 4))}
  tx = gn.record_block_norms('n', every=10)
  outside = jax.make_jaxpr(tx.update)(g, tx.init(g)).jaxpr.eqns
  assert [str(eqn.primitive) for eqn in outside
          if any(v.aval.shape == (4, 4) for v in eqn.invars)] == ['cond']


def test_options_survive_nnx_and_a_checkpoint(tmp_path):
  tx = gn.record_block_norms('n', every=2, ratio=True, decay=0.5)
  model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  optimizer.update(model, nnx.grad(lambda m: m(jnp.ones((1, 2))).sum())(model))
  split = nnx.split((model, optimizer))[1]
  for reader in (gn.block_norms, gn.block_ratios, gn.block_means):
    want = reader(optimizer.opt_state, 'n')
    assert want.keys() == {'(root)'} and want == reader(split, 'n')
  _, state = tx.update(tree(), tx.init(tree()), tree())
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'state', state)
    checkpointer.wait_until_finished()
    back = checkpointer.restore(
        tmp_path / 'state',
        jax.tree.map(ocp.utils.to_shape_dtype_struct, state))
  assert jax.tree.structure(back) == jax.tree.structure(state)
  same = optax.tree.map_params(tx, lambda x: x, state)
  assert jax.tree.structure(same) == jax.tree.structure(state)


def test_mistakes():
  with pytest.raises(ValueError, match=r'every=0.*at least 1'):
    gn.record_block_norms('n', every=0)
  with pytest.raises(ValueError, match=r'decay=1.0\).*in \[0, 1\)'):
    gn.record_block_norms('n', decay=1.0)
  with pytest.raises(KeyError, match="no recorder with ratio=True called 'n'"):
    gn.block_ratios(gn.record_block_norms('n').init(tree()), 'n')
  state = chain().init(tree())
  with pytest.raises(KeyError, match="'befor'.*Did you mean 'before'"):
    gn.block_norms(state, 'befor')
  with pytest.raises(TypeError, match='a string'):
    gn.record_block_norms(3)
  twice = optax.chain(gn.record_block_norms('n'), gn.record_block_norms('n'))
  with pytest.raises(ValueError, match="two recorders called 'n'.*Dense_0"):
    gn.block_norms(twice.init(tree()), 'n')
  labels = gn.record_block_norms('n', lambda path, leaf:
                                 1 if 'Dense_0' in path else '1')
  with pytest.raises(ValueError, match="two blocks are called '1'"):
    labels.init(tree())
  assert gn.block_norms(optax.EmptyState()) == {}


@pytest.mark.parametrize('build', [
    lambda: [jnp.ones(2)] * 12,
    lambda: {'a': {'kernel': jnp.ones(2)}, 'a-b': {'kernel': jnp.ones(2)}}])
def test_labels_in_another_order_than_keys(build):
  """A state that went through jit has its keys sorted."""
  g = build()
  tx = gn.record_block_norms('n')
  step, state = jax.jit(tx.update), tx.init(g)
  for _ in range(3):
    _, state = step(g, state)
  assert len(gn.block_norms(state, 'n')) == len(g)


def test_whole_leaves_still_count_once_behind_a_recorder():
  g = {'kernel': jnp.ones((8, 2)), 'bias': jnp.full((2,), 3.0)}
  tx = optax.chain(
      gn.record_block_norms('n', 'leaf', axis_name='x'),
      gn.normalize_by_block_norm('leaf', axis_name='x'))
  specs = {'kernel': P('x'), 'bias': P()}
  mesh = jax.make_mesh((8,), ('x',), axis_types=(AxisType.Auto,))
  result = jax.jit(jax.shard_map(
      lambda g: tx.update(g, tx.init(g))[0], mesh=mesh, in_specs=(specs,),
      out_specs=specs))(g)
  np.testing.assert_allclose(np.linalg.norm(result['bias']), 1, rtol=1e-6)
