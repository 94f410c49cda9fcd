"""What the reductions compile to, by platform, and where ranges meet."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradnorm_optax as gn

TRANSFORMS = {'bng': gn.normalize_by_block_norm, 'standardize': gn.standardize}


@pytest.mark.parametrize('tx', TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize(('platform', 'most'), [('tpu', 1), ('cpu', 4)])
def test_conditionals_are_those_of_the_platform_that_is_compiled_for(
    tx, platform, most):
  """One by one on a CPU; elsewhere one, since each waits for the host."""
  g = {f'Dense_{n}': {'kernel': jnp.ones((4, 3 + n))} for n in range(4)}
  lowered = jax.jit(lambda g: tx().update(g, optax.EmptyState())[0]).trace(
      g).lower(lowering_platforms=(platform,))
  # The choice of the platform leaves two of one branch, which XLA folds away.
  assert lowered.as_text().count('stablehlo.case') == most + 2
  if platform == 'cpu':
    assert lowered.compile().as_text().count(' conditional(') == most


@pytest.mark.parametrize('by', ['leaf', 'layer', 'unit', 'global'])
def test_standardized_blocks_of_leaves_of_any_size(by):
  """Against float64, where no leaf is so small that its block hides it."""
  rng = np.random.default_rng(0)
  values = {f'Dense_{n}': {'kernel': rng.normal(size=(6, 4)) + offset,
                           'bias': rng.normal(size=4)}
            for n, offset in enumerate([0.0, 100.0, -3.0])}
  for scale in (1e-35, 1e-23, 1.0, 1e30, 1e36):
    with jax.enable_x64(True):
      g = jax.tree.map(lambda x, s=scale: np.float32(x * s), values)
      exact = jax.tree.map(lambda x: jnp.asarray(x, 'float64'), g)
      tx = gn.standardize(by, eps=0.0)
      want, _ = tx.update(exact, optax.EmptyState())
    got, _ = jax.jit(tx.update)(g, optax.EmptyState())
    for path, leaf in jax.tree_util.tree_leaves_with_path(got):
      other = want[path[0].key][path[1].key]
      np.testing.assert_allclose(
          leaf, other, atol=2e-5 * np.abs(other).max(),
          err_msg=f'{scale} {jax.tree_util.keystr(path)}')
