"""SING against its authors' order of operations, and on Flax's layouts."""

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradnorm_optax as gn

W = np.array([[1.0, 2, 3], [4, 5, 6]])  # torch layout (out, in)
B = np.array([0.5, -0.5])
GRAD_W = np.array([[1.0, 0, 2], [0, -1, 4]])
GRAD_B = np.array([3.0, 4])


def tree(w, b):
  return {'kernel': jnp.asarray(w.T), 'bias': jnp.asarray(b)}


def test_golden_value():
  with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
    tx = gn.sing(0.1, weight_decay=0.01, softplus_beta=50.0)
    params = tree(W, B)
    updates, _ = tx.update(tree(GRAD_W, GRAD_B), tx.init(params), params)
    params = optax.apply_updates(params, updates)
  want = [[0.999, 2.09799997, 2.89700003], [4.09599997, 5.095, 5.894]]
  np.testing.assert_allclose(params['kernel'].T, want, atol=1e-8)
  np.testing.assert_allclose(params['bias'], [0.4, -0.6], atol=1e-8)


def authors_steps(w, b, grads, *, lr, wd, beta, lookahead, steps):
  """The released optimizer, array by array and step by step, torch layout."""
  arrays, moments = [w.copy(), b.copy()], [(0.0, 0.0), (0.0, 0.0)]
  slow = [a.copy() for a in arrays]
  for t in range(1, steps + 1):
    for n, g in enumerate(grads(t)):
      g = g.astype(np.float64)
      if g.ndim > 1:
        g = g - g.mean(axis=tuple(range(1, g.ndim)), keepdims=True)
      g = g / (np.sqrt((g**2).sum()) + 1e-8)
      m, v = moments[n]
      m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
      moments[n] = m, v
      if g.ndim > 1:
        arrays[n] = arrays[n] * (1 - lr * wd)
      d = np.sqrt(v) / np.sqrt(1 - 0.999**t)
      d = np.logaddexp(0, beta * d) / beta if beta else d + 1e-8
      arrays[n] = arrays[n] - lr / (1 - 0.9**t) * m / d
    if lookahead and t % 5 == 0:
      slow = [s + 0.5 * (a - s) for s, a in zip(slow, arrays, strict=True)]
      arrays = [s.copy() for s in slow]
  return arrays


@pytest.mark.parametrize('beta', [None, 50.0])
@pytest.mark.parametrize('lookahead', [False, True])
@pytest.mark.parametrize('wd', [0.0, 0.05])
def test_hundred_steps_of_the_authors(beta, lookahead, wd):
  rng = np.random.default_rng(0)
  noise = [(rng.normal(size=W.shape), rng.normal(size=B.shape))
           for _ in range(101)]
  want = authors_steps(W, B, lambda t: noise[t], lr=0.1, wd=wd, beta=beta,
                       lookahead=lookahead, steps=100)
  with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
    tx = gn.sing(0.1, weight_decay=wd, softplus_beta=beta)
    params = tree(W, B)
    if lookahead:
      tx = optax.lookahead(tx, sync_period=5, slow_step_size=0.5)
      params = optax.LookaheadParams.init_synced(params)
    grads = jax.tree.map(
        lambda *leaves: jnp.stack(leaves),
        *[tree(w, b) for w, b in noise[1:]])

    def step(carry, g):
      params, state = carry
      updates, state = tx.update(g, state, params)
      return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, grads))(
        (params, tx.init(params)))
    if lookahead:
      params = params.fast  # the weights that the authors evaluate
  np.testing.assert_allclose(params['kernel'].T, want[0], atol=1e-12)
  np.testing.assert_allclose(params['bias'], want[1], atol=1e-12)


class Layers(nn.Module):
  """One of each layout: Dense, Conv, depthwise, q/k/v, out, Embed."""

  @nn.compact
  def __call__(self, x, tokens):
    h = nn.Conv(6, (3, 3))(x)
    h = nn.Conv(6, (3, 3), feature_group_count=6)(h)
    h = nn.Dense(8)(h).reshape(x.shape[0], -1, 8)
    h = nn.MultiHeadDotProductAttention(2)(h, h)
    return h.mean() + nn.Embed(11, 5)(tokens).mean()


def test_unit_means_vanish_on_flax_layouts():
  shapes = jax.eval_shape(
      Layers().init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)),
      jnp.zeros((2,), jnp.int32))['params']
  leaves, treedef = jax.tree.flatten(shapes)
  rng = np.random.default_rng(0)
  g = treedef.unflatten(
      jnp.asarray(rng.normal(size=s.shape) + 2, jnp.float32) for s in leaves)
  result, _ = jax.jit(gn.standardize().update)(g, optax.EmptyState())
  rows, checked = gn.explain(g, 'leaf').rows, 0
  for leaf, row in zip(jax.tree.leaves(result), rows, strict=True):
    if row.fan_in != '-':
      axes = tuple(map(int, row.fan_in.split(',')))
      means = np.asarray(leaf, np.float64).mean(axes)
      assert np.abs(means).max() < 1e-6 * np.abs(leaf).max(), row.path
      checked += 1
    np.testing.assert_allclose(np.linalg.norm(leaf), 1, rtol=1e-5)
  assert checked == 8


def test_fan_in_of_one_still_trains():
  g = {'kernel': jnp.asarray([[3.0, 4.0]]), 'bias': jnp.asarray([2.0]),
       'scale': jnp.asarray(-0.1)}
  result, _ = gn.standardize().update(g, optax.EmptyState())
  np.testing.assert_allclose(result['kernel'], [[0.6, 0.8]], rtol=1e-6)
  np.testing.assert_allclose(result['bias'], [1.0], rtol=1e-6)
  np.testing.assert_allclose(result['scale'], -1.0, rtol=1e-6)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('jit', [False, True])
def test_constant_along_fan_in_gives_zeros_not_noise(dtype, jit):
  values = np.random.default_rng(0).normal(size=1000)
  g = {'kernel': jnp.asarray(np.tile(values, (64, 1)), dtype)}
  update = gn.standardize().update
  result, _ = (jax.jit(update) if jit else update)(g, optax.EmptyState())
  np.testing.assert_array_equal(np.asarray(result['kernel'], np.float32), 0)


def test_small_variation_along_fan_in_is_kept():
  rng = np.random.default_rng(0)
  values = 1 + 1e-4 * rng.normal(size=(64, 10))
  g = {'kernel': jnp.asarray(values, jnp.float32)}
  result, _ = gn.standardize().update(g, optax.EmptyState())
  want = np.asarray(g['kernel'], np.float64)
  want = want - want.mean(0)
  np.testing.assert_allclose(
      result['kernel'], want / np.linalg.norm(want), atol=1e-4)
  np.testing.assert_allclose(np.linalg.norm(result['kernel']), 1, rtol=1e-5)


def test_step_length_is_rate_times_root_of_blocks():
  g = {str(n): {'kernel': jnp.asarray(
      np.random.default_rng(n).normal(size=(4, 3)), jnp.float32)}
       for n in range(9)}
  tx = optax.chain(gn.standardize(), optax.sgd(0.1))
  updates, _ = tx.update(g, tx.init(g))
  length = np.sqrt(sum((np.asarray(u)**2).sum()
                       for u in jax.tree.leaves(updates)))
  np.testing.assert_allclose(length, 0.1 * 3, rtol=1e-5)


def test_decay_spares_vectors_and_follows_the_mask():
  params = {'mlp': {'kernel': jnp.ones((2, 3, 4)), 'bias': jnp.ones((2, 4)),
                    'scale': jnp.ones((2, 4))},
            'query': {'bias': jnp.ones((2, 4))}}
  zero = jax.tree.map(jnp.zeros_like, params)
  blocks = gn.Blocks('leaf', stacked={'mlp/*': 0})
  with jax.numpy_dtype_promotion('standard'):
    tx = gn.sing(0.5, weight_decay=0.1, blocks=blocks)
    updates, _ = tx.update(zero, tx.init(params), params)
    assert np.allclose(updates['mlp']['kernel'], -0.05)
    for leaf in (updates['mlp']['bias'], updates['mlp']['scale'],
                 updates['query']['bias']):
      assert not leaf.any()
    tx = gn.sing(0.5, weight_decay=0.1, blocks=blocks,
                 mask=jax.tree.map(lambda _: True, params))
    updates, _ = tx.update(zero, tx.init(params), params)
    assert np.allclose(updates['query']['bias'], -0.05)


@pytest.mark.parametrize('axis', [0, 1])
def test_scanned_layers_equal_unrolled_ones(axis):
  rng = np.random.default_rng(0)
  layers = [{'kernel': rng.normal(size=(4, 3)) * 10**n,
             'bias': rng.normal(size=3)} for n in range(5)]
  stack = {'mlp': {
      name: jnp.asarray(np.stack([layer[name] for layer in layers], axis),
                        jnp.float32) for name in ('kernel', 'bias')}}
  unrolled = {f'mlp_{n}': jax.tree.map(
      lambda x: jnp.asarray(x, jnp.float32), layer)
              for n, layer in enumerate(layers)}
  with jax.numpy_dtype_promotion('standard'):
    one = gn.sing(0.1, weight_decay=0.01,
                  blocks=gn.Blocks('leaf', stacked={'mlp/*': axis}))
    many = gn.sing(0.1, weight_decay=0.01)
    got, _ = jax.jit(one.update)(stack, one.init(stack), stack)
    want, _ = jax.jit(many.update)(unrolled, many.init(unrolled), unrolled)
  for name in ('kernel', 'bias'):
    for n in range(5):
      np.testing.assert_allclose(
          np.take(np.asarray(got['mlp'][name]), n, axis),
          want[f'mlp_{n}'][name], atol=1e-6)


def test_traced_operations_do_not_grow_with_depth():
  def operations(depth):
    stack = {'mlp': {'kernel': jax.ShapeDtypeStruct((depth, 4, 3), 'float32'),
                     'bias': jax.ShapeDtypeStruct((depth, 3), 'float32')}}
    tx = gn.standardize(gn.Blocks('leaf', stacked={'*': 0}))
    return str(jax.make_jaxpr(lambda g: tx.update(g, optax.EmptyState())[0])(
        stack)).count('=')

  assert operations(2) == operations(24)


def test_words_of_memory_traffic():
  """By XLA's count, the branch that is seldom taken included."""
  shapes = [(256, 512), (512, 512), (512, 64)]
  params = {f'Dense_{n}': {
      'kernel': jax.ShapeDtypeStruct(s, 'float32'),
      'bias': jax.ShapeDtypeStruct(s[1:], 'float32')}
            for n, s in enumerate(shapes)}
  size = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params))

  def words(tx):
    def step(params, state, grads):
      updates, state = tx.update(grads, state, params)
      return optax.apply_updates(params, updates), state

    state = jax.eval_shape(tx.init, params)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(
        params, state, params).compile()
    return compiled.cost_analysis()['bytes accessed'] / 4 / size

  with jax.numpy_dtype_promotion('standard'):
    assert words(optax.adamw(1e-3)) < 10.1
    assert words(gn.bng(optax.adamw(1e-3))) < 12.1  # 11 and one in the branch
    assert words(gn.sing(1e-3, weight_decay=0.1)) < 14.15


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float32'])
def test_sing_keeps_dtypes_with_array_hyperparameters(dtype):
  params = {'kernel': jnp.ones((3, 2), dtype), 'bias': jnp.ones(2, dtype)}
  tx = gn.sing(jnp.float32(0.1), weight_decay=jnp.float32(0.1))
  updates, state = tx.update(params, tx.init(params), params)
  assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
  assert {m.dtype for m in jax.tree.leaves((state[1].mu, state[1].nu))} == {
      jnp.dtype('float32')}


def test_injected_epsilon_of_zero_leaves_zero_gradients_at_rest():
  params = {'bias': jnp.ones(2, 'float16')}
  tx = optax.inject_hyperparams(gn.sing)(learning_rate=0.1)
  zero = jax.tree.map(jnp.zeros_like, params)
  updates, _ = jax.jit(tx.update)(zero, tx.init(params), params)
  np.testing.assert_array_equal(updates['bias'], 0)


def test_moments_of_odd_leaves():
  tx = gn.scale_by_softplus_adam()
  odd = {'a': 1.0, 'empty': jnp.zeros((0,), jnp.int32)}
  updates, _ = tx.update(odd, tx.init(odd))
  assert np.isfinite(updates['a'])
  assert updates['empty'].shape == (0,)
  with pytest.raises(TypeError, match="'a' is complex"):
    tx.init({'a': jnp.ones(2, jnp.complex64)})


def test_the_softplus_of_any_denominator():
  """The first step is g / softplus(|g|), beta being 1."""
  g = np.append(np.geomspace(1e-18, 1e18, 2001), np.linspace(0.01, 20, 2001))
  g = g.astype(np.float32)
  tx = gn.scale_by_softplus_adam(beta=1.0)
  got = jax.jit(tx.update)(g, tx.init(g))[0]
  exact = g.astype(np.float64)
  np.testing.assert_allclose(got, exact / np.logaddexp(0, exact), rtol=2e-6)
