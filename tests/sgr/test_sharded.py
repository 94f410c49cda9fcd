"""A pool and parameters that are cut over devices are chosen from as whole."""

import jax
import numpy as np
import pytest
import srn
from jax import numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from gradnorm_optax import sgr

KINDS = [AxisType.Auto, AxisType.Explicit]
KEY = jax.random.key(0)


def mesh(kind):
  return jax.make_mesh((4, 2), ('pool', 'units'), axis_types=(kind, kind))


def cut(tree, *spec):
  where = NamedSharding(jax.sharding.get_mesh(), P(*spec))
  return jax.device_put(tree, where)


@pytest.mark.parametrize('kind', KINDS)
def test_scores_and_choice(kind):
  p, u, t = srn.problem(batch=8)
  p, pool = srn.cast(p, 'float32'), srn.cast((u, t), 'float32')

  @jax.jit
  def choose(pool):  # no device holds three examples
    s, value = sgr.contributions(srn.jax_loss('tanh'), p, pool,
                                 shape=(8, 8, 5), horizon=5, probe=3)
    return s, value, sgr.select(s, value, KEY, size=3, low=9., high=9.)

  s, value, chosen = choose(pool)
  with jax.set_mesh(mesh(kind)):
    got = choose(cut(pool, 'pool'))
  np.testing.assert_allclose(got[0], s, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(got[1], value, rtol=1e-6)
  jax.tree.map(np.testing.assert_array_equal, got[2], chosen)


@pytest.mark.parametrize('kind', KINDS)
def test_transformation(kind):
  draw = lambda i, *shape: jax.random.normal(  # noqa: E731
      jax.random.fold_in(KEY, i), shape)
  g = {'w': draw(0, 8, 4, 6), 'b': draw(1, 8, 6)}
  slope = {'w': draw(2, 4, 6), 'b': draw(3, 6)}
  tx = sgr.regularize_by_sampling(3, low=-1.0, high=1.0)

  @jax.jit
  def update(g, slope):
    return tx.update(g, tx.init(slope), long_term_log_norm=jnp.float32(-4.0),
                     long_term_grad=slope, key=KEY)

  want = update(g, slope)
  with jax.set_mesh(mesh(kind)):
    got = update(
        {'w': cut(g['w'], 'pool', None, 'units'), 'b': cut(g['b'], 'pool')},
        {'w': cut(slope['w'], None, 'units'), 'b': slope['b']})
  assert got[1].raised_count == 1
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-6, atol=1e-6), got, want)
