"""Selection, and the transformation on per-example gradients."""

import collections

import contract
import jax
import numpy as np
import optax
import pytest
import srn
from jax import numpy as jnp

from gradnorm_optax import sgr
from gradnorm_optax.sgr import regularize_by_sampling

S = jnp.array([0.5, -3.0, 2.0, 0.0, 7.0, -1.0])
KEY = jax.random.key(0)


def test_select_takes_the_extremes_outside_the_safe_range():
  choose = jax.jit(lambda q: sgr.select(S, q, KEY, size=2, low=-1., high=1.))
  indices, mode = choose(-2.0)
  assert set(indices.tolist()) == {2, 4} and mode == 1
  indices, mode = choose(1.5)
  assert set(indices.tolist()) == {1, 5} and mode == -1
  assert indices.dtype == mode.dtype == jnp.int32


@pytest.mark.parametrize(('s', 'q'), [
    (S, 0.0), (S, -jnp.inf), (S, jnp.inf), (S, jnp.nan), (S * 0, -5.0),
    (S * 0, 5.0), (S * jnp.nan, -5.0), (jnp.full(6, -2.0), -5.0)])
def test_select_at_random_prefers_nobody(s, q):
  """Also not the first, where nothing is known or all are alike."""
  keys = jax.random.split(KEY, 3000)
  draws = jax.jit(jax.vmap(
      lambda k: sgr.select(s, q, k, size=2, low=-1., high=1.)))(keys)
  assert (draws.indices[:, 0] != draws.indices[:, 1]).all()
  count = collections.Counter(np.asarray(draws.indices).ravel().tolist())
  # Binomial of 3000 draws at 1/3: five standard deviations are 130.
  assert all(abs(count[i] - 1000) < 130 for i in range(6))
  assert set(np.asarray(draws.mode).tolist()) == {
      1 if s[0] == -2.0 else 0}


def test_select_ignores_the_sign_of_zero():
  s = jnp.array([0.0, -0.0, 0.0, -0.0, 1e-30])
  draws = jax.vmap(lambda k: sgr.select(
      s, -5.0, k, size=2, low=-1., high=1.).indices)(jax.random.split(KEY, 500))
  assert (draws[:, 0] == 4).all()
  share = np.mean(np.asarray(draws[:, 1]) % 2 == 0)
  assert abs(share - 0.5) < 0.12


@pytest.mark.parametrize(('options', 'error', 'match'), [
    ({'size': 0}, ValueError, 'size=0'), ({'size': 1.5}, TypeError, 'integer'),
    ({'low': 2.0}, ValueError, 'low=2.0'),
    ({'size': True}, TypeError, 'size=True'),
    ({'high': float('nan')}, ValueError, 'high=nan'),
    ({'low': 'a'}, TypeError, 'low must be a number, not str'),
    ({'low': None}, TypeError, 'low must be a number, not NoneType'),
    ({'low': optax.constant_schedule(0.0)}, TypeError, 'inject_hyperparams'),
    ({'high': np.zeros(2)}, TypeError, r'high must be .* of shape \(2,\)')])
def test_bad_arguments_fail_at_construction(options, error, match):
  options = {'size': 2, 'low': -1.0, 'high': 1.0, **options}
  with pytest.raises(error, match=match):
    regularize_by_sampling(**options)
  with pytest.raises(error, match=match):
    sgr.select(S, 0.0, KEY, **options)


@pytest.mark.parametrize(('s', 'Q', 'key', 'error', 'match'), [
    (np.arange(5), 0.0, KEY, ValueError, 'not int.* of shape'),
    (np.ones((2, 3), np.float32), 0.0, KEY, ValueError, r'shape \(2, 3\)'),
    (S, np.zeros(3), KEY, TypeError, r'Q must be .* of shape \(3,\)'),
    (S, None, KEY, TypeError, 'Q must be a number, not NoneType'),
    (S, 0.0, 3, TypeError, r'random key such as jax.random.key\(0\), not 3'),
    (S, 0.0, jnp.uint32(3), TypeError, r'one random key, not .* shape \(\)'),
    (S, 0.0, jnp.stack([KEY, KEY]), TypeError, r'one random key.*\(2,\)')])
def test_bad_scores_are_named(s, Q, key, error, match):
  with pytest.raises(error, match=match):
    sgr.select(s, Q, key, size=2, low=-1.0, high=1.0)


def test_traced_size_is_explained():
  tx = optax.inject_hyperparams(regularize_by_sampling)
  with pytest.raises(TypeError, match='static_args'):
    jax.jit(tx(2, low=-1.0, high=1.0).init)(jnp.zeros(2))


def examples(dtype='float32', pool=6, seed=0):
  """Returns per-example gradients, parameters and slopes of Q."""
  rng = np.random.default_rng(seed)
  draw = lambda *lead: contract.nest({  # noqa: E731
      path: jnp.asarray(rng.normal(size=(*lead, *shape)), dtype)
      for path, shape in contract.SHAPES.items()})
  return draw(pool), draw(), draw()


def scores(g, slope):
  g, slope = contract.flat(g), contract.flat(slope)
  return -sum((g[k] * slope[k]).reshape(len(g[k]), -1).sum(1) for k in g)


@pytest.mark.parametrize('dtype', contract.DTYPES)
@pytest.mark.parametrize(('q', 'mode'), [(-4.0, 1), (3.0, -1)])
def test_mean_of_the_selected(dtype, q, mode):
  with jax.enable_x64(dtype == 'float64'):
    g, p, slope = examples(dtype)
    tx = regularize_by_sampling(2, low=-1., high=1.)
    updates, state = jax.jit(tx.update)(
        g, tx.init(p), p, long_term_log_norm=q, long_term_grad=slope, key=KEY,
        unknown=1)
    rows = np.argsort(-mode * scores(g, slope))[:2]
    for path, got in contract.flat(updates).items():
      want = contract.flat(g)[path][rows].mean(0)
      np.testing.assert_allclose(
          got, want, rtol=contract.TOLERANCE[dtype],
          atol=contract.TOLERANCE[dtype])
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(updates))
    assert state.log_norm == q
    counts = [int(c) for c in state[:4]]
    assert counts == ([1, 0, 0, 0] if mode > 0 else [0, 0, 1, 0])
    assert all(c.dtype == jnp.int32 for c in state[:4])


@pytest.mark.parametrize('size', [1e-30, 1e30])
def test_scores_do_not_leave_the_range(size):
  g, p, slope = examples()
  g = jax.tree.map(lambda x: x * size, g)
  slope = jax.tree.map(lambda x: x * size, slope)
  tx = regularize_by_sampling(1, low=-1., high=1.)
  updates, state = tx.update(g, tx.init(p), p, long_term_log_norm=-4.0,
                             long_term_grad=slope, key=KEY)
  row = np.argmax(scores(g, slope))
  np.testing.assert_array_equal(
      updates['Dense_1']['kernel'], g['Dense_1']['kernel'][row])
  assert state.raised_count == 1


@pytest.mark.parametrize('poison', ['Q', 'slope', 'safe'])
def test_nothing_known_is_random_and_counted(poison):
  g, p, slope = examples()
  q = {'Q': -jnp.inf, 'slope': -4.0, 'safe': 0.0}[poison]
  if poison == 'slope':
    slope['Dense_0']['bias'] = slope['Dense_0']['bias'].at[1].set(jnp.nan)
  tx = regularize_by_sampling(2, low=-1., high=1.)
  step = jax.jit(jax.vmap(lambda key: tx.update(
      g, tx.init(p), p, long_term_log_norm=q, long_term_grad=slope, key=key)))
  updates, state = step(jax.random.split(KEY, 40))
  want = [0, 1, 0, 0] if poison == 'safe' else [0, 0, 0, 1]
  assert [int(c.sum()) for c in state[:4]] == [40 * w for w in want]
  assert len(np.unique(np.asarray(updates['Dense_0']['bias'][:, 0]))) > 8


def test_bad_example_left_out_does_no_harm():
  g, p, slope = examples()
  row = int(np.argmax(scores(g, slope)))
  g['Dense_0']['kernel'] = g['Dense_0']['kernel'].at[row].set(jnp.nan)
  tx = regularize_by_sampling(1, low=-1., high=1.)
  updates, _ = tx.update(g, tx.init(p), p, long_term_log_norm=-4.0,
                         long_term_grad=slope, key=KEY)
  second = np.argsort(-scores(g, slope))[0]  # NaN sorts last
  np.testing.assert_array_equal(
      updates['Dense_0']['kernel'], g['Dense_0']['kernel'][second])


def test_holes_empty_arrays_and_bare_trees():
  g, p, slope = examples()
  g['Dense_0']['bias'] = None
  g['Dense_1']['none'] = optax.MaskedNode()
  p['empty'], slope['empty'] = jnp.zeros((0, 3)), jnp.zeros((0, 3))
  g['empty'] = jnp.zeros((6, 0, 3))
  tx = regularize_by_sampling(2, low=-1., high=1.)
  updates, state = tx.update(g, tx.init(p), p, long_term_log_norm=-4.0,
                             long_term_grad=slope, key=KEY)
  assert updates['Dense_0']['bias'] is None
  assert updates['Dense_1']['none'] == optax.MaskedNode()
  assert updates['empty'].shape == (0, 3)
  assert updates['Dense_1']['kernel'].shape == (3, 2)
  same = optax.tree.map_params(tx, lambda leaf: leaf, state)
  assert jax.tree.structure(same) == jax.tree.structure(state)
  nothing, _ = tx.update({}, tx.init({}), {}, long_term_log_norm=0.0,
                         long_term_grad={}, key=KEY)
  assert nothing == {}


def test_errors_name_the_place():
  g, p, slope = examples()
  tx = regularize_by_sampling(2, low=-1., high=1.)
  state = tx.init(p)
  extra = dict(long_term_log_norm=0.0, long_term_grad=slope, key=KEY)
  with pytest.raises(ValueError, match='long_term_grad=, key=') as error:
    tx.update(g, state, p, long_term_log_norm=0.0)
  assert 'long_term_log_norm=,' not in str(error.value)
  with pytest.raises(TypeError, match='sampling: long_term_log_norm must be'):
    tx.update(g, state, p, **{**extra, 'long_term_log_norm': jnp.zeros(6)})
  with pytest.raises(TypeError, match='sampling: key must be one'):
    tx.update(g, state, p, **{**extra, 'key': jax.random.split(KEY)})
  with pytest.raises(ValueError, match='leading'):
    tx.update(p | {'Dense_0': {'bias': jnp.array(1.0)}}, state, None, **extra)
  short = jax.tree.map(lambda x: x, g)
  short['Dense_1']['bias'] = short['Dense_1']['bias'][:5]
  with pytest.raises(ValueError, match=r'Dense_1/bias.*6 as in'):
    tx.update(short, state, p, **extra)
  with pytest.raises(ValueError, match='pool of 6'):
    regularize_by_sampling(7, low=-1., high=1.).update(g, state, p, **extra)
  with pytest.raises(ValueError, match='Dense_1'):
    tx.update({'Dense_0': g['Dense_0']}, state, p, **extra)
  with pytest.raises(ValueError, match='long_term_grad'):
    tx.update(g, state, p, **{**extra, 'long_term_grad': {}})
  wrong = jax.tree.map(lambda x: x.astype(jnp.int32), p)
  with pytest.raises(TypeError, match='Dense_0/bias'):
    tx.init(wrong)
  with pytest.raises(TypeError, match='Dense_0/bias'):
    tx.update(jax.tree.map(lambda x: x.astype(jnp.int32), g), state, p, **extra)


def test_in_a_scanned_chain_with_injected_bounds():
  """A net is trained by the transformation alone, and Q rises into range."""
  p, u, t = srn.problem(steps=20, batch=32, width=8, scale=0.3)
  p, pool = srn.cast(p, 'float32'), srn.cast((u, t), 'float32')
  loss = srn.jax_loss('tanh')
  tx = optax.chain(
      optax.inject_hyperparams(regularize_by_sampling, static_args='size')(
          4, low=-3.0, high=1.0), optax.sgd(0.05))

  def one(w, row):
    return loss(w, jax.tree.map(lambda a: a[None], row),
                jnp.zeros((20, 1, 8)))[0]

  def step(carry, key):
    params, state = carry
    value, slope = sgr.long_term_gradient(
        loss, params, pool, shape=(20, 32, 8), horizon=19)
    g = jax.vmap(jax.grad(one), (None, 0))(params, pool)
    updates, state = tx.update(g, state, params, long_term_log_norm=value,
                               long_term_grad=slope, key=key)
    return (optax.apply_updates(params, updates), state), value

  with jax.numpy_dtype_promotion('standard'):
    (_, state), values = jax.jit(lambda: jax.lax.scan(
        step, (p, tx.init(p)), jax.random.split(KEY, 200)))()
  inner = state[0].inner_state
  assert sum(int(c) for c in inner[:4]) == 200
  assert values[0] < -3 and inner.raised_count > 0
  assert values[-50:].mean() > -3.5
