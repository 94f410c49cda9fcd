"""Path-SGD as a transformation, and what its trajectory is invariant to."""

import chex
import jax
import numpy as np
import optax
import pytest
from jax import lax, numpy as jnp

import gradnorm_optax as gn
from gradnorm_optax import paths

X = jax.ShapeDtypeStruct((1, 2), jnp.float32)


def net(w, x):
  h = jax.nn.relu(x.astype(w['a'].dtype) @ w['a'] + w['b'])
  return h @ w['c']


def params(dtype='float32'):
  rng = np.random.default_rng(0)
  shapes = {'a': (2, 3), 'b': (1, 3), 'c': (3, 2)}
  return {k: jnp.asarray(rng.normal(size=s), dtype) for k, s in shapes.items()}


def reference(w, u, p=2):
  """u / gamma of the net above, layer by layer, in float64."""
  a, b, c = (np.abs(np.asarray(w[k], np.float64)) ** p for k in 'abc')
  out = c.sum(1)
  gamma = {
      'a': np.broadcast_to(out, a.shape),
      'b': out[None],
      'c': np.repeat((a.sum(0) + b[0])[:, None], 2, 1),
  }
  u = {k: np.asarray(v, np.float64) for k, v in u.items()}
  return {k: u[k] / gamma[k] ** (2 / p) for k in u}


TOLERANCE = {'float32': 1e-6, 'bfloat16': 1e-2, 'float16': 2e-3}


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('p', [1, 2, 3])
@pytest.mark.gpu
def test_update(dtype, p):
  w = params(dtype)
  u = jax.tree.map(lambda a: a[::-1] + 1, w)
  tx = gn.normalize_by_path_scale(net, X, p=p)
  for update in (tx.update, jax.jit(tx.update)):
    out, _ = update(u, tx.init(w), w, unknown=1)
    want = reference(w, u, p)
    for k in w:
      assert out[k].dtype == w[k].dtype
      np.testing.assert_allclose(
          np.asarray(out[k], np.float64), want[k], rtol=TOLERANCE[dtype])


def test_momentum_and_the_worked_step():
  w = [jnp.array([[1., -2.], [3., .5]]), jnp.array([2., -1.])]
  model = lambda w, x: jax.nn.relu(x @ w[0]) @ w[1]  # noqa: E731
  loss = lambda w: (model(w, jnp.array([-1., 2.])) - 1) ** 2 / 2  # noqa: E731
  tx = gn.path_sgd(0.01, model, jnp.zeros(2))
  step, _ = tx.update(jax.grad(loss)(w), tx.init(w), w)
  first, second = optax.apply_updates(w, step)
  np.testing.assert_allclose(first, [[1.03, -2.06], [2.94, .62]], rtol=1e-6)
  np.testing.assert_allclose(second, [1.97, -1.0423529412], rtol=1e-6)
  plain = gn.normalize_by_path_scale(model, jnp.zeros(2))
  for nesterov in (False, True):
    tx = gn.path_sgd(
        lambda t: 0.1, model, jnp.zeros(2), momentum=0.9, nesterov=nesterov)
    by_hand = optax.chain(
        plain, optax.trace(0.9, nesterov), optax.scale(-0.1))
    state, other = tx.init(w), by_hand.init(w)
    for _ in range(2):
      got, state = tx.update(w, state, w)
      want, other = by_hand.update(w, other, w)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)


def test_refresh():
  w = params()
  other = jax.tree.map(lambda a: 3 * a, w)
  tx = gn.normalize_by_path_scale(net, X, refresh_every=3)
  once = gn.normalize_by_path_scale(net, X)
  update = jax.jit(tx.update)
  state = tx.init(w)
  seen = []
  for step in range(5):
    out, state = update(w, state, w if step in (0, 3) else other)
    seen.append(out['a'])
  want = once.update(w, once.init(w), w)[0]['a']
  for out in seen:  # steps 1, 2, 4 still have the scale of steps 0 and 3
    np.testing.assert_allclose(out, want, rtol=1e-6)
  assert int(state.count) == 5 and state.count.dtype == jnp.int32
  out, state = update(w, state, other)
  assert int(state.count) == 6
  out, _ = update(w, state, other)
  np.testing.assert_allclose(out['a'] * 9, want, rtol=1e-5)


def test_wrappers():
  w = params()
  tx = gn.normalize_by_path_scale(net, X, refresh_every=2)
  want, state = tx.update(w, tx.init(w), w)
  step = jax.jit(chex.assert_max_traces(lambda *a: tx.update(*a)[1], n=1))
  carry = tx.init(w)
  for _ in range(3):
    carry = step(w, carry, w)
  final, _ = lax.scan(
      lambda s, _: (tx.update(w, s, w)[1], None), tx.init(w), length=3)
  assert int(final.count) == 3
  doubled = optax.tree.map_params(tx, lambda a: 2 * a, state)
  np.testing.assert_allclose(doubled.gamma['a'], 2 * state.gamma['a'])
  assert int(doubled.count) == 1
  many = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), w)
  out = jax.vmap(lambda w: tx.update(w, tx.init(w), w)[0])(many)
  np.testing.assert_allclose(out['a'][0], want['a'], rtol=1e-6)
  np.testing.assert_allclose(out['a'][1], want['a'] / 2, rtol=1e-6)
  masked = optax.masked(tx, {'a': True, 'b': True, 'c': False})
  with pytest.raises(ValueError, match=r"'c' is hidden.*full_params"):
    masked.update(w, masked.init(w), w)
  out, _ = masked.update(w, masked.init(w), w, full_params=w)
  np.testing.assert_allclose(out['a'], want['a'], rtol=1e-6)
  np.testing.assert_array_equal(out['c'], w['c'])
  hole = {**w, 'a': None}
  out, _ = tx.update(hole, tx.init(w), w)
  assert out['a'] is None
  np.testing.assert_allclose(out['c'], want['c'], rtol=1e-6)
  every = optax.MultiSteps(tx, 2)
  with jax.numpy_dtype_promotion('standard'):  # optax averages by an int32
    out, state = every.update(w, every.init(w), w)
    out, _ = every.update(w, state, w)
  np.testing.assert_allclose(out['a'], want['a'], rtol=1e-6)


def test_injected_hyperparams():
  w = params()
  plain = gn.path_sgd(0.5, net, X, momentum=0.9)
  static = ('apply_fn', 'x', 'p')
  with jax.numpy_dtype_promotion('standard'):  # optax multiplies mixed dtypes
    tx = optax.inject_hyperparams(gn.path_sgd, static_args=static)(
        0.5, net, X, momentum=0.9)
    got, _ = jax.jit(tx.update)(w, tx.init(w), w)
  want, _ = plain.update(w, plain.init(w), w)
  np.testing.assert_allclose(got['a'], want['a'], rtol=1e-6)

  def build(name, value):
    make = gn.normalize_by_path_scale
    return jax.jit(lambda v: make(**{'apply_fn': net, 'x': X, name: v}).init(
        w))(value)

  for name, value in (('x', jnp.zeros((1, 2))), ('p', 2), ('refresh_every', 1)):
    with pytest.raises(TypeError, match=rf'traced.*{name!r} to static_args'):
      build(name, value)
  with pytest.raises(TypeError, match="'apply_fn' to static_args"):
    gn.normalize_by_path_scale(jnp.zeros(3), X)


def test_bad_arguments_and_trees():
  w = params()
  tx = gn.normalize_by_path_scale(net, X)
  with pytest.raises(ValueError, match='normalize_by_path_scale needs'):
    tx.update(w, tx.init(w))
  ints = {**w, 'b': jnp.zeros((1, 3), jnp.int32)}
  for call in (lambda: tx.init(ints), lambda: tx.update(ints, tx.init(w), w)):
    with pytest.raises(TypeError, match="'b' has dtype int32"):
      call()
  for p in (0.5, float('nan'), -1):
    with pytest.raises(ValueError, match='at least 1'):
      gn.normalize_by_path_scale(net, X, p=p)
  with pytest.raises(ValueError, match='positive'):
    gn.normalize_by_path_scale(net, X, refresh_every=0)
  with pytest.raises(TypeError, match='integer'):
    gn.normalize_by_path_scale(net, X, refresh_every=1.5)
  with pytest.raises(TypeError, match='one-hot'):
    gn.normalize_by_path_scale(net, jnp.zeros((1, 2), jnp.int32))
  with pytest.warns(UserWarning, match='leading axis of size 5'):
    gamma = paths.path_scale(net, w, jnp.zeros((5, 2)))
  single = paths.path_scale(net, w, X)
  np.testing.assert_allclose(gamma['a'], 5 * single['a'], rtol=1e-6)


def test_zeros_and_broken_entries():
  w = params()
  tx = gn.normalize_by_path_scale(net, X)
  for dead in ('a', 'c'):
    zero = {**w, dead: jnp.zeros_like(w[dead])}
    if dead == 'a':
      zero['b'] = jnp.zeros_like(w['b'])
    out, _ = tx.update(w, tx.init(w), zero)
    alone = {'a': ('c',), 'c': ('a', 'b')}[dead]
    for k in w:
      assert np.all(np.isfinite(out[k]))
      assert np.any(np.asarray(out[k]) != 0) == (k not in alone)
    assert paths.path_norm(net, zero, X) == 0
    slope = jax.grad(lambda z: paths.path_norm(net, z, X))(zero)
    assert all(np.all(np.isfinite(g)) for g in slope.values())
  broken = {**w, 'a': w['a'].at[0, 1].set(jnp.nan)}
  out, _ = tx.update(broken, tx.init(w), w)
  assert np.sum(np.isnan(out['a'])) == 1 and np.isnan(out['a'][0, 1])
  assert np.all(np.isfinite(out['c']))


def test_rule_for_a_new_primitive():
  from jax.extend.core import Primitive
  twice = Primitive('path_test_twice')
  twice.def_abstract_eval(lambda x: x)
  model = lambda w, x: twice.bind(x @ w)  # noqa: E731
  w = jnp.ones((2, 2))
  with pytest.raises(paths.LiftError, match=r'path_test_twice.*register_rule'):
    paths.path_norm(model, w, X)

  @paths.register_rule(twice)
  def rule(lifter, eqn, x):
    del eqn
    four = lambda v: 4 * v  # noqa: E731
    return paths.Data(lifter.linear(four, lifter.lifted(x)))

  np.testing.assert_allclose(paths.path_norm(model, w, X) ** 2, 16, rtol=1e-6)
  with pytest.raises(TypeError, match='primitive or its name'):
    paths.register_rule(3)


def deep(w, x):
  for layer in w:
    x = jax.nn.relu(x @ layer)
  return x


@pytest.mark.gpu
def test_range_of_the_path_norm():
  x = jnp.zeros((1, 4))
  wide = [jnp.full((4, 4), 1e3)] * 20 + [jnp.full((4, 4), 1e-3)] * 20
  # 4^41 paths of weight 1: far beyond float32 on the way there.
  np.testing.assert_allclose(
      paths.path_norm(deep, wide, x), 4 ** 20.5, rtol=1e-5)
  np.testing.assert_allclose(
      paths.path_norm(deep, wide[::-1], x, p=1), 4.0 ** 41, rtol=1e-5)
  tiny = [jnp.full((4, 4), 1e-25), jnp.full((4, 4), 1e25)]
  np.testing.assert_allclose(paths.path_norm(deep, tiny, x), 8, rtol=1e-5)
  with pytest.warns(RuntimeWarning, match='exceeds the range of float32'):
    assert np.isinf(paths.path_norm(deep, [jnp.full((4, 4), 1e30)] * 3, x))
  with pytest.warns(RuntimeWarning, match='not finite'):
    bad = [jnp.full((4, 4), jnp.nan), jnp.zeros((4, 4))]
    assert np.isinf(paths.path_norm(deep, bad, x))


def test_gradient_of_the_path_norm():
  with jax.enable_x64(True):
    w = {k: v.astype(jnp.float64) for k, v in params().items()}
    for p in (1, 2, 3):
      norm = lambda w: paths.path_norm(net, w, X, p=p)  # noqa: B023, E731
      slope = jax.jit(jax.grad(norm))(w)
      for k in w:
        step = 1e-6 * jnp.ones_like(w[k]).at[0, 0].set(3.0)
        up, down = ({**w, k: w[k] + s * step} for s in (1, -1))
        np.testing.assert_allclose(
            jnp.sum(slope[k] * step), (norm(up) - norm(down)) / 2, rtol=1e-6)


def test_unbalanced_start_computes_the_same():
  rng = np.random.default_rng(2)
  sizes = [(3, 20), (20, 20), (20, 2)]
  layers = [
      {'kernel': jnp.asarray(rng.normal(size=s), jnp.float32),
       'bias': jnp.asarray(rng.normal(size=s[1:]), jnp.float32)}
      for s in sizes
  ]

  def forward(layers, x):
    for layer in layers[:-1]:
      x = jax.nn.relu(x @ layer['kernel'] + layer['bias'][None])
    return x @ layers[-1]['kernel'] + layers[-1]['bias'][None]

  x = jnp.asarray(rng.normal(size=(5, 3)), jnp.float32)
  start = paths.unbalance(layers, jax.random.key(0))
  moved = np.abs(start[0]['kernel'] / layers[0]['kernel'] - 1) > 0.5
  assert 0 < moved.any(0).sum() < 20
  np.testing.assert_allclose(
      forward(start, x), forward(layers, x), rtol=1e-4, atol=1e-4)
  with pytest.raises(ValueError, match='does not have 4 units'):
    paths.rescale_units(jnp.ones((3, 2)), jnp.ones((2, 1)), jnp.ones(4))


def test_cost_of_a_step_in_flops():
  batch = 32
  shapes = [(64, 256), (256, 256), (256, 256), (256, 10)]
  w = [jnp.full(s, 0.1) for s in shapes]
  x = jnp.zeros((batch, 64))

  def flops(tx):
    def step(w, state, x):
      grads = jax.grad(lambda w: (deep(w, x) ** 2).mean())(w)
      updates, state = tx.update(grads, state, w)
      return optax.apply_updates(w, updates), state

    compiled = jax.jit(step).lower(w, tx.init(w), x).compile()
    return compiled.cost_analysis()['flops']

  ratio = flops(gn.path_sgd(0.1, deep, x[:1])) / flops(optax.sgd(0.1))
  assert abs(ratio / (1 + 1 / batch) - 1) < 0.02
