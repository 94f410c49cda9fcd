"""The optimizer-level form against its float64 reference, and its contract."""

import functools

import jax
import numpy as np
import optax
import pytest
import weight_norm_reference as reference
from jax import numpy as jnp
from jax.sharding import Mesh, PartitionSpec as P

from gradnorm_optax.blocks import Blocks
from gradnorm_optax.weight_norm import weight_normalized

SGD = optax.sgd(0.1)


def tree(seed=0, dtype='float32'):
  rng = np.random.default_rng(seed)
  shapes = {'dense': {'kernel': (5, 3), 'bias': (3,)},
            'conv': {'kernel': (2, 2, 3, 4)}}
  return jax.tree.map(
      lambda s: jnp.asarray(rng.normal(size=s), dtype), shapes,
      is_leaf=lambda s: isinstance(s, tuple))


def step(tx, grads, state, params):
  updates, state = tx.update(grads, state, params)
  return optax.apply_updates(params, updates), state


def test_the_documented_example():
  tx = weight_normalized(SGD)
  params = {'kernel': jnp.array([[1.2], [1.6]])}
  state = tx.init(params)._replace(
      v={'kernel': jnp.array([[3.], [4.]])}, g={'kernel': jnp.array([[2.]])})
  grads = {'kernel': jnp.array([[1.], [2.]])}
  params, state = step(tx, grads, state, params)
  np.testing.assert_allclose(
      params['kernel'].ravel(), [1.07255131, 1.42057513], rtol=1e-6)
  np.testing.assert_allclose(state.g['kernel'], [[2 - .22]], rtol=1e-6)
  np.testing.assert_allclose(
      state.v['kernel'].ravel(), [3.0128, 3.9904], rtol=1e-6)


@pytest.mark.parametrize('shape, blocks, axes', [
    ((5, 3), 'unit', (0,)),
    ((5, 3), 'leaf', (0, 1)),
    ((2, 2, 3, 4), 'unit', (0, 1, 2)),
    ((4, 5, 3), Blocks('unit', stacked={'*': 0}), (1,)),
    ((5, 4, 3), Blocks('unit', stacked={'*': 1}), (0,)),
    ((4, 5, 3), Blocks('leaf', stacked={'*': 0}), (1, 2)),
    ((5, 2, 3), Blocks('unit', fan_in={'*': 0}), (0,)),
    ((3, 5), Blocks('unit', units={'*': 0}), (1,)),
])
def test_walks_with_the_reference(shape, blocks, axes):
  rng = np.random.default_rng(1)
  with jax.enable_x64(True):
    w, target = rng.normal(size=shape), rng.normal(size=shape)
    w[(slice(None),) * (len(shape) - 1) + (0,)] = 0  # a zero unit (by unit)
    v, g = w.copy(), reference.norms(w, axes)
    traces = [np.zeros(g.shape), np.zeros(v.shape)]
    tx = weight_normalized(optax.sgd(0.05, momentum=0.9), blocks=blocks)
    params = {'kernel': jnp.asarray(w)}
    state = tx.init(params)
    advance = jax.jit(lambda p, s: step(
        tx, jax.tree.map(lambda x: jnp.sin(x) - target, p), s, p))
    for _ in range(20):
      v, g, traces = reference.momentum_step(
          np.sin(w) - target, v, g, traces, axes, 0.05, 0.9)
      w = reference.weight(v, g, axes)
      params, state = advance(params, state)
      np.testing.assert_allclose(params['kernel'], w, rtol=0, atol=1e-13)
    assert state.g['kernel'].shape == g.shape
    assert state.v['kernel'].dtype == 'float64'


@pytest.mark.parametrize('dtype, unit', [
    ('bfloat16', 2.0**-8), ('float16', 2.0**-11), ('float32', 2.0**-24)])
def test_state_is_wide_and_parameters_follow_it(dtype, unit):
  params, grads = tree(0, dtype), tree(1, dtype)
  tx = weight_normalized(optax.sgd(1e-3))
  state = tx.init(params)
  for _ in range(30):
    params, state = step(tx, grads, state, params)
  for name, axes in (('dense', (0,)), ('conv', (0, 1, 2))):
    v, g = state.v[name]['kernel'], state.g[name]['kernel']
    assert v.dtype == g.dtype == 'float32'
    assert params[name]['kernel'].dtype == dtype
    w = reference.weight(v, g, axes)
    gap = reference.norms(np.asarray(params[name]['kernel'], float) - w, axes)
    assert (gap <= 3 * unit * np.abs(np.asarray(g))).all()
  # Thirty steps of a thousandth are not lost in bfloat16's roundoff.
  moved = np.asarray(state.g['dense']['kernel']) - reference.norms(
      np.asarray(tree(0, dtype)['dense']['kernel'], float), (0,))
  assert np.abs(moved).max() > 1e-2


def test_edited_units_restart_and_others_stay():
  params, grads = tree(), tree(1)
  tx = weight_normalized(SGD)
  params, state = step(tx, grads, tx.init(params), params)
  edited = jax.tree.map(lambda x: x, params)
  edited['dense']['kernel'] = edited['dense']['kernel'].at[:, 1].mul(1.01)
  zeros = jax.tree.map(jnp.zeros_like, grads)
  updates, after = tx.update(zeros, state, edited)
  np.testing.assert_array_equal(
      after.v['dense']['kernel'][:, 1], edited['dense']['kernel'][:, 1])
  np.testing.assert_allclose(
      after.g['dense']['kernel'][0, 1],
      np.linalg.norm(edited['dense']['kernel'][:, 1]), rtol=1e-6)
  for column in (0, 2):
    np.testing.assert_array_equal(
        after.v['dense']['kernel'][:, column],
        state.v['dense']['kernel'][:, column])
    assert (after.v['dense']['kernel'][:, column]
            != edited['dense']['kernel'][:, column]).any()
  assert np.abs(updates['dense']['kernel']).max() < 1e-6
  # A repaired parameter is taken even where the state is not finite.
  broken = state._replace(v=jax.tree.map(lambda x: x * jnp.nan, state.v))
  updates, after = tx.update(zeros, broken, params)
  np.testing.assert_array_equal(
      after.v['conv']['kernel'], params['conv']['kernel'])


def test_a_zero_unit_steps_as_a_plain_weight():
  params = {'kernel': jnp.array([[0., 3.], [0., 4.]])}
  tx = weight_normalized(SGD)
  grads = {'kernel': jnp.array([[1., 0.], [-2., 0.]])}
  params, state = step(tx, grads, tx.init(params), params)
  np.testing.assert_allclose(
      params['kernel'], [[-.1, 3.], [.2, 4.]], rtol=1e-6)
  np.testing.assert_allclose(
      state.g['kernel'], [[np.hypot(.1, .2), 5.]], rtol=1e-6)


def test_unmatched_leaves_reach_inner_as_they_are():
  seen = []
  spy = optax.GradientTransformationExtraArgs(
      lambda params: seen.append(('init', params)) or optax.EmptyState(),
      lambda u, s, p, **extra: seen.append((u, p, extra)) or (u, s))
  params, grads = tree(), tree(1)
  tx = weight_normalized(spy, where='dense*kernel')
  updates, _ = tx.update(grads, tx.init(params), params, value=3)
  (_, start), *_, (got, position, extra) = seen
  assert extra == {'value': 3}
  for which in (start, position, got):
    assert jax.tree.map(jnp.shape, which['g']) == {
        'dense': {'kernel': (1, 3), 'bias': (0,)}, 'conv': {'kernel': (0,)}}
  np.testing.assert_array_equal(got['v']['conv']['kernel'],
                                grads['conv']['kernel'])
  np.testing.assert_array_equal(position['v']['dense']['bias'],
                                params['dense']['bias'])
  np.testing.assert_array_equal(updates['dense']['bias'],
                                grads['dense']['bias'])
  by_v = got['v']['dense']['kernel']
  across = np.einsum('ij,ij->j', by_v, position['v']['dense']['kernel'])
  np.testing.assert_allclose(across, 0, atol=1e-5)


def test_wrappers_and_transforms_do_not_change_the_trajectory():
  params, grads = tree(), tree(1)
  plain = weight_normalized(optax.sgd(0.1, momentum=0.9))
  want, state = params, plain.init(params)
  for _ in range(4):
    want, state = step(plain, grads, state, want)

  def scanned(tx):
    def run(params, grads):
      def body(carry, _):
        return step(tx, grads, carry[1], carry[0]), None
      return jax.lax.scan(body, (params, tx.init(params)), length=4)[0][0]
    return run

  inject = optax.inject_hyperparams(
      lambda rate: weight_normalized(optax.sgd(rate, momentum=0.9)))
  labels = {'dense': {'kernel': 'a', 'bias': 'b'}, 'conv': {'kernel': 'a'}}
  with jax.numpy_dtype_promotion('standard'):
    wrapped = {
        'inject': inject(0.1),
        'masked': optax.masked(plain, jax.tree.map(lambda _: True, params)),
        'partition': optax.partition(
            {'a': plain, 'b': optax.sgd(0.1, momentum=0.9)}, labels),
        'finite': optax.apply_if_finite(plain, 3)}
    for name, tx in wrapped.items():
      got = jax.jit(scanned(tx))(params, grads)
      jax.tree.map(functools.partial(
          np.testing.assert_allclose, rtol=1e-6, atol=1e-6, err_msg=name),
                   got, want)
    twice = jax.tree.map(lambda x: jnp.stack([x, x + 1]), params)
    got = jax.jit(jax.vmap(scanned(plain), in_axes=(0, None)))(twice, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(
        a[0], b, rtol=1e-6, atol=1e-6), got, want)


def test_accumulated_micro_batches_are_one_step():
  params, grads = tree(), tree(1)
  tx = weight_normalized(SGD)
  want, _ = step(tx, grads, tx.init(params), params)
  many = optax.MultiSteps(tx, 2)
  got, state = params, many.init(params)
  for scale in (0.5, 1.5):
    part = jax.tree.map(lambda g, k=scale: g * k, grads)
    with jax.numpy_dtype_promotion('standard'):
      got, state = step(many, part, state, got)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-6, atol=1e-6), got, want)


def test_holes_keep_their_place():
  params = {'a': {'kernel': jnp.ones((2, 2))}, 'b': {'kernel': None},
            'c': {'kernel': optax.MaskedNode()}, 'd': {'kernel': jnp.zeros(
                (0, 3))}}
  tx = weight_normalized(SGD)
  state = tx.init(params)
  updates, new = tx.update(params, state, params)
  assert updates['b']['kernel'] is None
  assert updates['c']['kernel'] == optax.MaskedNode()
  assert updates['d']['kernel'].shape == (0, 3)
  assert jax.tree.structure(new) == jax.tree.structure(state)
  # Beside holes a glob may match nothing: what it means may be hidden.
  weight_normalized(SGD, where=['*kernel', 'e/*']).init(params)
  # A hole among the updates alone freezes the parameter, its v and its g.
  frozen = {**params, 'a': {'kernel': None}}
  updates, new = tx.update(frozen, state, params)
  assert updates['a']['kernel'] is None
  np.testing.assert_array_equal(new.v['a']['kernel'], state.v['a']['kernel'])


def test_params_and_state_can_be_donated_together():
  params = tree()
  with jax.numpy_dtype_promotion('standard'):
    tx = weight_normalized(optax.contrib.schedule_free_sgd(0.1))
    state = tx.init(params)
    advance = jax.jit(functools.partial(step, tx), donate_argnums=(1, 2))
    params, state = advance(tree(1), state, params)
    params, state = advance(tree(1), state, params)
  assert np.isfinite(params['dense']['kernel']).all()


def test_map_params_reaches_every_array_shaped_like_parameters():
  tx = weight_normalized(optax.sgd(0.1, momentum=0.9))
  state = tx.init(tree())
  mapped = optax.tree.map_params(tx, lambda x: x + 1, state)
  np.testing.assert_array_equal(
      mapped.v['dense']['kernel'], state.v['dense']['kernel'] + 1)
  np.testing.assert_array_equal(
      mapped.g['dense']['kernel'], state.g['dense']['kernel'] + 1)
  trace = mapped.inner[0].trace
  np.testing.assert_array_equal(trace['v']['conv']['kernel'], 1)


@pytest.mark.parametrize('axis', [0, 1])
def test_sharded_leaves_give_the_step_of_whole_ones(axis):
  params = tree()['dense']
  params = {'kernel': jnp.tile(params['kernel'], (8, 8)),
            'bias': jnp.tile(params['bias'], 8)}
  params['kernel'] += jnp.cos(jnp.arange(960.).reshape(40, 24))
  grads = jax.tree.map(jnp.cos, params)
  blocks = Blocks('unit', sharded={'kernel': axis})
  whole = weight_normalized(SGD)
  want = step(whole, grads, whole.init(params), params)[0]
  tx = weight_normalized(SGD, blocks=blocks, axis_name='x')
  cut = P('x') if axis == 0 else P(None, 'x')
  small = P() if axis == 0 else P(None, 'x')
  specs = {'kernel': cut, 'bias': P()}
  state = whole.init(params)
  state_specs = state._replace(
      v=specs, g={'kernel': small, 'bias': P()},
      size={'kernel': small, 'bias': P()},
      inner=jax.tree.map(lambda _: P(), state.inner))
  run = jax.shard_map(
      lambda g, s, p: step(tx, g, s, p), mesh=Mesh(jax.devices(), 'x'),
      in_specs=(specs, state_specs, specs), out_specs=(specs, state_specs))
  program = jax.jit(run).lower(grads, state, params).compile()
  got = program(grads, state, params)[0]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-6, atol=1e-6), got, want)
  # One for each stage, as docs/blocks.md says; none where units stay whole.
  count = program.as_text().count(' all-reduce(')
  assert count == (4 if axis == 0 else 0)


@pytest.mark.parametrize('vma', [True, False])
def test_a_start_inside_shard_map_is_that_of_whole_leaves(vma):
  """With an inner optimizer that keeps what it is given at the start."""
  params = {'kernel': tree()['dense']['kernel'][:4]}
  grads = jax.tree.map(jnp.cos, params)

  def trained(axis_name, params, grads):
    tx = weight_normalized(
        optax.contrib.schedule_free_sgd(0.1), axis_name=axis_name)
    state = tx.init(params)
    for _ in range(2):
      params, state = step(tx, grads, state, params)
    return params, state.g['kernel']

  cut = {'kernel': P('x')}
  run = jax.shard_map(
      functools.partial(trained, 'x'), mesh=Mesh(jax.devices()[:2], 'x'),
      in_specs=(cut, cut), out_specs=(cut, P()), check_vma=vma)
  with jax.numpy_dtype_promotion('standard'):
    got, want = jax.jit(run)(params, grads), trained(None, params, grads)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-5, atol=1e-6), got, want)


@pytest.mark.parametrize('kernel', [
    np.full((3, 2), 1.5), np.full((3, 2), 1.5, np.float32), 1.5])
def test_leaves_that_are_no_jax_arrays(kernel):
  want = step(weight_normalized(SGD), {'kernel': jnp.asarray(kernel)},
              weight_normalized(SGD).init({'kernel': jnp.asarray(kernel)}),
              {'kernel': jnp.asarray(kernel)})
  tx = weight_normalized(SGD)
  params = {'kernel': kernel}
  got = step(tx, params, tx.init(params), params)
  jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize('make, params, error, words', [
    (lambda: weight_normalized(SGD, where='*kernle'), None, ValueError,
     "weight_normalized: where='\\*kernle' matches no path.*conv/kernel"),
    (lambda: weight_normalized(SGD, where=['dense/*', 'cnov/kernel']), None,
     ValueError, "where='cnov/kernel' matches no.*mean 'conv/kernel'"),
    (lambda: weight_normalized(SGD, blocks='layer'), None, ValueError,
     'by "unit".*not by .layer.'),
    (lambda: weight_normalized(SGD, where=3), None, TypeError, 'glob'),
    (lambda: weight_normalized('adam'), None, TypeError, 'optax optimizer'),
    (lambda: weight_normalized(SGD), {'kernel': jnp.ones((2, 2), jnp.int32)},
     TypeError, "'kernel' has dtype int32"),
    (lambda: weight_normalized(SGD, where='*w'), {'w': jnp.ones((2, 2))},
     ValueError, "'w'.*no known output axis"),
])
def test_mistakes_are_named(make, params, error, words):
  with pytest.raises(error, match=f'(?s){words}'):
    make().init(tree() if params is None else params)


def test_wrong_trees_are_named():
  params = tree()
  tx = weight_normalized(SGD)
  state = tx.init(params)
  with pytest.raises(ValueError, match='weight_normalized needs the param'):
    tx.update(params, state)
  with pytest.raises(ValueError, match="no|none.*'dense/bias'|'dense/bias'"):
    tx.update(params, state, {'conv': params['conv']})
  smaller = {'conv': params['conv']}
  with pytest.raises(ValueError, match="changed since `init`: 'dense/bias'"):
    tx.update(smaller, state, smaller)
  other = {**params, 'conv': {'kernel': jnp.ones((1, 2, 3, 4))}}
  with pytest.raises(ValueError, match='conv/kernel.*Call `init` again'):
    tx.update(other, state, other)
