"""The optimizer-level form against its float64 reference, and its contract."""

import functools
from typing import Any, NamedTuple

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


def direction(state, params, *path):
  """Returns v and g of a leaf that stands for them."""
  w, scale = params, state.scale['/'.join(path)]
  for name in path:
    w = w[name]
  reduced = tuple(a for a, size in enumerate(scale.shape) if size == 1)
  w, scale = np.asarray(w, float), np.asarray(scale, float)
  return w / scale, np.sign(scale) * reference.norms(w, reduced)


def step(tx, grads, state, params):
  updates, state = tx.update(grads, state, params)
  return optax.apply_updates(params, updates), state


def test_the_documented_example():
  tx = weight_normalized(SGD)
  params = {'kernel': jnp.array([[1.2], [1.6]])}
  state = tx.init(params)._replace(scale={'kernel': jnp.array([[2 / 5]])})
  grads = {'kernel': jnp.array([[1.], [2.]])}
  params, state = step(tx, grads, state, params)
  np.testing.assert_allclose(
      params['kernel'].ravel(), [1.07255131, 1.42057513], rtol=1e-6)
  v, g = direction(state, params, 'kernel')
  np.testing.assert_allclose(g, [[2 - .22]], rtol=1e-6)
  np.testing.assert_allclose(v.ravel(), [3.0128, 3.9904], rtol=1e-6)


@pytest.mark.parametrize('shape, blocks, axes', [
    ((5, 3), 'unit', (0,)),
    ((5, 3), 'leaf', (0, 1)),
    ((3, 3, 3, 4), 'unit', (0, 1, 2)),
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
    # The weights are all that is kept, but for one number by unit.
    assert state.scale['kernel'].shape == g.shape
    assert state.scale['kernel'].dtype == 'float64' and not state.weights
    kept = np.asarray(params['kernel'] / state.scale['kernel'])
    np.testing.assert_allclose(kept, v, rtol=0, atol=1e-12)


def test_a_zero_unit_steps_as_a_plain_weight():
  params = {'kernel': jnp.array([[0., 3.], [0., 4.]])}
  tx = weight_normalized(SGD)
  grads = {'kernel': jnp.array([[1., 0.], [-2., 0.]])}
  params, state = step(tx, grads, tx.init(params), params)
  np.testing.assert_allclose(
      params['kernel'], [[-.1, 3.], [.2, 4.]], rtol=1e-6)
  np.testing.assert_allclose(
      direction(state, params, 'kernel')[1], [[np.hypot(.1, .2), 5.]],
      rtol=1e-6)


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
  assert new.scale['a/kernel'] is state.scale['a/kernel']


def test_params_and_state_can_be_donated_together():
  params = tree()
  with jax.numpy_dtype_promotion('standard'):
    tx = weight_normalized(optax.contrib.schedule_free_sgd(0.1))
    state = tx.init(params)
    advance = jax.jit(functools.partial(step, tx), donate_argnums=(1, 2))
    params, state = advance(tree(1), state, params)
    params, state = advance(tree(1), state, params)
  assert np.isfinite(params['dense']['kernel']).all()


@pytest.mark.parametrize('cut, cost', [
    (P('x'), 2), (P(None, 'y'), 0), (P('x', 'y'), 2), (P(('x', 'y')), 2)])
def test_sharded_leaves_give_the_step_of_whole_ones(cut, cost):
  params = tree()['dense']
  params = {'kernel': jnp.tile(params['kernel'], (8, 8)),
            'bias': jnp.tile(params['bias'], 8)}
  params['kernel'] += jnp.cos(jnp.arange(960.).reshape(40, 24))
  grads = jax.tree.map(jnp.cos, params)
  whole = weight_normalized(SGD)
  want = step(whole, grads, whole.init(params), params)[0]
  tx = weight_normalized(
      SGD, blocks=Blocks('unit', sharded={'kernel': cut}),
      axis_name=tuple(axis for axis in ('x', 'y') if axis in str(cut)))
  specs = {'kernel': cut, 'bias': P()}
  state = whole.init(params)
  state_specs = state._replace(
      scale={'kernel': P(None, *cut[1:])},
      inner=jax.tree.map(lambda _: P(), state.inner))
  run = jax.shard_map(
      lambda g, s, p: step(tx, g, s, p),
      mesh=Mesh(np.reshape(jax.devices(), (4, 2)), ('x', 'y')),
      in_specs=(specs, state_specs, specs), out_specs=(specs, state_specs))
  program = jax.jit(run).lower(grads, state, params).compile()
  got = program(grads, state, params)[0]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-6, atol=1e-6), got, want)
  # One for each stage, as docs/blocks.md says; none where units stay whole.
  assert program.as_text().count(' all-reduce(') == cost


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
    return params, state.scale['kernel']

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
  with pytest.raises(ValueError, match="'dense/kernel'.*the parameters have n"):
    tx.update(smaller, state, smaller)
  other = {**params, 'conv': {'kernel': jnp.ones((1, 1, 3, 4))}}
  tx.update(other, state, other)  # the units are the same
  other = {**params, 'conv': {'kernel': jnp.ones((2, 2, 3, 5))}}
  with pytest.raises(ValueError, match='conv/kernel.*Call `init` again'):
    tx.update(other, state, other)
  stateful = weight_normalized(optax.trace(0.9))
  with pytest.raises(ValueError, match="dense.*bias.*Call `init` again"):
    fewer = {**params, 'dense': {'kernel': params['dense']['kernel']}}
    stateful.update(fewer, stateful.init(params), fewer)


@pytest.mark.parametrize('change, words', [
    ({'blocks': Blocks('unit', units={'*kernel': 0})},
     r"'kernel' of shape \(3, 3\).*\(3, 1\).*in the state.*\(1, 3\).*`blocks`"),
    ({'blocks': 'leaf'}, r"'kernel'.*\(1, 1\).*\(1, 3\).*`blocks`"),
    ({'where': '*bias'}, "'bias'.*`where`"),
    ({'where': ['*kernel', '*bias']}, "'bias'.*`where`"),
    ({'where': 'kernel'}, None)])
def test_a_state_of_other_options_is_refused(change, words):
  params = {'kernel': jnp.eye(3) + 1, 'bias': jnp.ones(3)}
  state = weight_normalized(SGD).init(params)
  tx = weight_normalized(SGD, **change)
  if words is None:
    tx.update(params, state, params)
    return
  with pytest.raises(ValueError, match=f'(?s)weight_normalized.*{words}'):
    tx.update(params, state, params)


@pytest.mark.parametrize('given, wanted', [
    ('trained', 'fixed'), ('fixed', 'trained')])
def test_a_state_of_other_lengths_is_refused(given, wanted):
  params = {'kernel': jnp.eye(3) + 1}
  state = weight_normalized(SGD, lengths=given).init(params)
  with pytest.raises(ValueError, match=(
      f'state of lengths="{given}".*lengths="{wanted}".*call `init` again')):
    weight_normalized(SGD, lengths=wanted).update(params, state, params)


def test_large_leaves_take_turns():
  """Their new v, as large as they are, is not there for all at once."""
  tx = weight_normalized(optax.adam(1e-3))
  rng = np.random.default_rng(0)
  params, grads = ({f'{n}/kernel': jnp.asarray(
      rng.normal(size=(256, 256)), 'float32') for n in range(6)}
                   for _ in range(2))
  state = tx.init(params)
  run = jax.jit(functools.partial(step, tx))
  with jax.numpy_dtype_promotion('standard'):
    program = run.lower(grads, state, params).compile()
    memory: Any = program.memory_analysis()
    assert memory.temp_size_in_bytes < 3 * 4 * 256**2
    got = program(grads, state, params)[0]
    for path, leaf in params.items():
      one = {'kernel': leaf}
      want = run({'kernel': grads[path]}, tx.init(one), one)[0]['kernel']
      np.testing.assert_allclose(got[path], want, rtol=1e-6, atol=1e-7)


def test_a_narrower_where_is_refused():
  params = {'a': {'kernel': jnp.eye(3)}, 'b': {'kernel': jnp.eye(3)}}
  state = weight_normalized(SGD).init(params)
  with pytest.raises(ValueError, match="'b/kernel'.*`where`"):
    weight_normalized(SGD, where='a/*').update(params, state, params)


def test_a_state_of_another_dtype_or_version_is_refused():
  tx, params = weight_normalized(SGD), tree()
  state = tx.init(params)
  coarse = tree(dtype='bfloat16')
  with pytest.raises(ValueError, match="conv/kernel' has dtype bfloat16.*init"):
    tx.update(coarse, state, coarse)
  class Old(NamedTuple):
    v: Any
    g: Any
    size: Any
    inner: Any

  g = jax.tree.map(lambda x: jnp.ones((1, 3)), params)
  with pytest.raises(ValueError, match='(?s)earlier.*tx.init.*scale='):
    tx.update(params, Old(params, g, g, state.inner), params)
