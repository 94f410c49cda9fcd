"""Properties of block norms, for any tree of numbers."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from jax import numpy as jnp

import gradnorm_optax as gn

SHAPES = {'kernel': (4, 3), 'bias': (3,)}
ENTRIES = st.floats(-1, 1, width=32, allow_subnormal=False)
LAYERS = st.fixed_dictionaries({
    layer: st.fixed_dictionaries({
        name: hnp.arrays(np.float32, shape, elements=ENTRIES)
        for name, shape in SHAPES.items()}) for layer in ('a', 'b')})
normalize = jax.jit(lambda tree: gn.normalize_by_block_norm().update(tree, ())
                    [0])
PROFILE = settings(max_examples=40, deadline=None, derandomize=True)


def norm(layer):
  return np.sqrt(sum((np.asarray(x, np.float64)**2).sum()
                     for x in layer.values()))


def close(one, other, tolerance=1e-5):
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(a, b, atol=tolerance)


@PROFILE
@given(LAYERS)
def test_nonzero_blocks_have_norm_one(tree):
  for layer, result in normalize(tree).items():
    # Below this norm entries may be lost: their squares' sum is subnormal.
    if norm(tree[layer]) > 1e-37:
      assert abs(norm(result) - 1) < 1e-5
    elif norm(tree[layer]) == 0:
      assert norm(result) == 0


@PROFILE
@given(LAYERS, st.integers(-60, 60))
def test_result_does_not_depend_on_the_loss_scale(tree, power):
  tree = jax.tree.map(lambda x: np.where(np.abs(x) < 1e-15, 0, x), tree)
  scaled = jax.tree.map(lambda x: (x * 2.0**power).astype(np.float32), tree)
  close(normalize(tree), normalize(scaled), 1e-6)


@PROFILE
@given(LAYERS)
def test_normalizing_twice_is_normalizing_once(tree):
  once = normalize(tree)
  close(once, normalize(once))


@PROFILE
@given(LAYERS)
def test_blocks_do_not_see_each_other(tree):
  swapped = normalize({'a': tree['b'], 'b': tree['a']})
  result = normalize(tree)
  close(result, {'a': swapped['b'], 'b': swapped['a']}, 1e-6)


@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize('shared', [False, True], ids=['kernel', 'with bias'])
def test_every_slice_of_a_stack_is_a_block(axis, shared):
  rng = np.random.default_rng(0)
  scales = 10.0 ** np.arange(6)
  tree = {'kernel': rng.normal(size=(6, 8, 4)) * scales[:, None, None]}
  if shared:
    tree['bias'] = rng.normal(size=(6, 4)) * scales[:, None]
  tree = {'mlp': {k: jnp.asarray(np.moveaxis(v, 0, axis), jnp.float32)
                  for k, v in tree.items()}}
  tx = gn.normalize_by_block_norm(gn.Blocks(stacked={'*': axis}))
  result = jax.jit(tx.update)(tree, tx.init(tree))[0]['mlp']
  for index in range(6):
    block = {k: np.take(np.asarray(v), index, axis) for k, v in result.items()}
    np.testing.assert_allclose(norm(block), 1, rtol=1e-6)


def test_units_are_blocks():
  rng = np.random.default_rng(0)
  tree = {'kernel': jnp.asarray(rng.normal(size=(3, 3, 2, 5)), jnp.float32),
          'bias': jnp.asarray(rng.normal(size=5), jnp.float32)}
  result, _ = gn.normalize_by_block_norm('unit').update(tree, ())
  units = np.sqrt((np.asarray(result['kernel'])**2).sum((0, 1, 2)))
  np.testing.assert_allclose(units, np.ones(5), rtol=1e-6)
  np.testing.assert_allclose(np.linalg.norm(result['bias']), 1, rtol=1e-6)


def test_parameter_norms_of_a_zero_block_have_a_floor():
  params = {'a': {'kernel': jnp.zeros((2, 2)), 'bias': jnp.zeros(2)}}
  updates = jax.tree.map(jnp.ones_like, params)
  for floor in (0.0, 0.25):
    tx = gn.scale_by_block_param_norm(ratio=2.0, min_norm=floor)
    result, _ = tx.update(updates, tx.init(params), params)
    np.testing.assert_array_equal(result['a']['bias'], np.full(2, 2 * floor))


def test_extreme_blocks_stand_side_by_side():
  """The rescaled reading takes each block's own power of two."""
  tree = {name: {'kernel': jnp.full((64, 32), value, jnp.float32)}
          for name, value in {'tiny': 1e-37, 'small': 1e-23, 'one': 1.0,
                              'large': 1e30, 'huge': 3e38}.items()}
  for layer in normalize(tree).values():
    np.testing.assert_allclose(norm(layer), 1, rtol=1e-5)


def test_derivative_through_the_normalization_is_finite():
  """Meta-learning differentiates through optimizers, zero blocks included."""
  tree = {'a': {'kernel': jnp.zeros((2, 2))}, 'b': {'kernel': jnp.ones((2, 2))}}

  def loss(tree):
    leaves = jax.tree.leaves(normalize(tree))
    return sum(jnp.sum(leaf[0]) for leaf in leaves)

  grads = jax.jit(jax.grad(loss))(tree)
  # d(u_ij)/d(g) of a 2x2 block of ones: (1 - 1/4 * 2) / 2 on the first row.
  np.testing.assert_allclose(
      grads['b']['kernel'], [[0.25, 0.25], [-0.25, -0.25]], atol=1e-6)
  assert np.isfinite(grads['a']['kernel']).all()


def test_complex_leaves():
  tree = {'kernel': jnp.asarray([[3 + 4j, 0], [0, 12j]], jnp.complex64)}
  result, _ = gn.normalize_by_block_norm().update(tree, ())
  np.testing.assert_allclose(result['kernel'], tree['kernel'] / 13, rtol=1e-6)
  assert result['kernel'].dtype == jnp.complex64


@pytest.mark.parametrize('make', [
    gn.normalize_by_block_norm, gn.standardize,
    lambda: gn.record_block_norms('found')])
def test_gradients_known_when_compiled(make):
  """XLA must not take (x s)^2 for x^2 s^2: of a frozen layer that is 0 inf."""
  tx = make()

  def update(known):
    tree = {name: {'kernel': jnp.full((2, 3), value)}
            for name, value in known.items()}
    return tx.update(tree, tx.init(tree))

  known = {'zero': 0.0, 'tiny': 1e-37, 'small': 1e-23, 'one': 1.0,
           'huge': 1e30}
  want, got = update(known), jax.jit(lambda: update(known))()
  for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(got), strict=True):
    np.testing.assert_allclose(b, a, rtol=1e-6)
    assert np.isfinite(b).all()
