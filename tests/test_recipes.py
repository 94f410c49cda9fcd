"""The compositions of docs/recipes.md against references written by hand."""

import functools

import jax
import numpy as np
import optax
import pytest
import references
from jax import numpy as jnp
from jax.sharding import Mesh, PartitionSpec as P

import gradnorm_optax as gn

RATE = 0.1


def drawn(seed, **shapes):
  rng = np.random.default_rng(seed)
  return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def walk(tx, start, slope, steps):
  """Parameters after steps in float64, or the dtype of `start`."""
  @jax.jit
  def step(params, state):
    updates, state = tx.update(slope(params, jnp), state, params)
    return optax.apply_updates(params, updates), state

  with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
    params = {name: jnp.asarray(w) for name, w in start.items()}
    state = tx.init(params)
    for _ in range(steps):
      params, state = step(params, state)
    return {name: np.asarray(w) for name, w in params.items()}


def bends(params, xp):
  """A gradient that is no multiple of the parameters, nor orthogonal."""
  return {name: xp.sin(3 * w) + w**2 for name, w in params.items()}


def check(found, wanted, tol=1e-9):
  assert found.keys() == wanted.keys()
  for name in wanted:
    np.testing.assert_allclose(
        found[name], wanted[name], rtol=tol, atol=tol, err_msg=name)


def column_norms(w):
  return np.sqrt((w**2).sum(tuple(range(w.ndim - 1)), keepdims=True))


class Nadam:
  """Adam as muon takes it: with Nesterov's momentum."""

  def __init__(self, b1=0.9, b2=0.999, eps=1e-8, nesterov=True):
    self.b1, self.b2, self.eps, self.nesterov = b1, b2, eps, nesterov
    self.t, self.m, self.n = 0, 0.0, 0.0

  def step(self, g):
    self.t += 1
    self.m = self.b1 * self.m + (1 - self.b1) * g
    self.n = self.b2 * self.n + (1 - self.b2) * g**2
    mean = self.m / (1 - self.b1**self.t)
    if self.nesterov:
      mean = (self.b1 * self.m / (1 - self.b1**(self.t + 1))
              + (1 - self.b1) * g / (1 - self.b1**self.t))
    return -RATE * mean / (
        np.sqrt(self.n / (1 - self.b2**self.t)) + self.eps)


class Muon:
  """Of one matrix (in, out)."""

  def __init__(self, beta=0.95):
    self.beta, self.t, self.m = beta, 0, 0.0

  def step(self, g):
    self.t += 1
    self.m = self.beta * self.m + (1 - self.beta) * g
    x = (self.beta * self.m / (1 - self.beta**(self.t + 1))
         + (1 - self.beta) * g / (1 - self.beta**self.t))
    x = x / (np.sqrt((x**2).sum()) + 1e-8)
    for _ in range(5):  # of Newton and Schulz
      a = x @ x.T
      x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return -RATE * np.sqrt(max(1, g.shape[1] / g.shape[0])) * x


def muon(params, placed=lambda table: table):
  return optax.contrib.muon(RATE, muon_weight_dimension_numbers=placed(
      gn.muon_dimension_numbers(params)))


def test_row_normalized_momentum():
  start = drawn(0, kernel=(5, 3), bias=(3,))
  tx = optax.chain(optax.trace(0.95), gn.normalize_by_block_norm('unit'),
                   optax.scale_by_learning_rate(RATE))
  w, m = dict(start), dict.fromkeys(start, 0.0)
  for _ in range(4):
    slope = bends(w, np)
    m = {name: 0.95 * m[name] + slope[name] for name in w}
    w = {'kernel': w['kernel'] - RATE * m['kernel'] / column_norms(m['kernel']),
         'bias': w['bias'] - RATE * m['bias'] / np.linalg.norm(m['bias'])}
  check(walk(tx, start, bends, 4), w)


@pytest.mark.parametrize('inner, make', [
    (optax.sgd(RATE), lambda: lambda g: -RATE * g),
    (optax.adam(RATE), lambda: Nadam(nesterov=False).step)])
@pytest.mark.parametrize('blocks, shape, axes', [
    ('unit', (5, 3), (0,)), ('leaf', (5, 3), (0, 1)),
    (gn.Blocks('unit', stacked={'*': 0}), (2, 5, 3), (1,))])
def test_fixed_lengths_are_a_projection(inner, make, blocks, shape, axes):
  start = drawn(1, kernel=shape, bias=(3,))
  found = walk(gn.weight_normalized(inner, blocks=blocks, lengths='fixed'),
               start, bends, 6)
  norm = functools.partial(np.linalg.norm, keepdims=True, axis=(
      axes if len(axes) > 1 else axes[0]))
  w, b, length = start['kernel'], start['bias'], norm(start['kernel'])
  move, plain = make(), make()
  for _ in range(6):
    slope, v = bends({'kernel': w, 'bias': b}, np), w / length
    along = (slope['kernel'] * v).sum(axes, keepdims=True)
    v = v + move(length * (slope['kernel'] - along * v))
    w, b = length * v / norm(v), b + plain(slope['bias'])
  check(found, {'kernel': w, 'bias': b})
  np.testing.assert_allclose(norm(found['kernel']), length, rtol=1e-14)


def test_hyperball():
  """W <- R N(W - rate R N(u)), N(x) = x/||x||_F, R the norm of the start."""
  start = drawn(2, kernel=(5, 3), bias=(3,))
  tx = gn.weight_normalized(optax.chain(
      optax.scale_by_adam(eps=0.0),
      gn.normalize_by_block_norm(gn.Blocks('leaf', skip=['v/bias'])),
      optax.scale_by_learning_rate(RATE)), blocks='leaf', lengths='fixed')
  unit = lambda x: x / np.linalg.norm(x)  # noqa: E731
  w, b = start['kernel'], start['bias']
  radius = np.linalg.norm(w)
  kernel, bias = (Nadam(eps=0.0, nesterov=False) for _ in range(2))
  for _ in range(6):
    slope = bends({'kernel': w, 'bias': b}, np)
    u = kernel.step(
        slope['kernel'] - (slope['kernel'] * w).sum() / radius**2 * w)
    w = radius * unit(w + RATE * radius * unit(u))  # u points downhill
    b = b + bias.step(slope['bias'])
  check(walk(tx, start, bends, 6), {'kernel': w, 'bias': b})


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_fixed_lengths_do_not_drift(dtype):
  start = {'kernel': jnp.asarray(
      np.random.default_rng(3).normal(size=(40, 4)), dtype)}
  tx = gn.weight_normalized(optax.sgd(0.3, momentum=0.9), lengths='fixed')

  def body(carry, _):
    params, state = carry
    grads = jax.tree.map(jnp.cos, params)
    updates, state = tx.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), None

  run = jax.jit(lambda p: jax.lax.scan(body, (p, tx.init(p)), length=10000)[0])
  params, state = run(start)
  norms = lambda w: column_norms(np.asarray(w, np.float64))  # noqa: E731
  end = state.weights['kernel'].w if state.weights else params['kernel']
  # Within roundings, of which there are as many after one step.
  np.testing.assert_allclose(norms(end), norms(start['kernel']), rtol=1e-6)
  np.testing.assert_allclose(
      norms(params['kernel']), norms(start['kernel']),
      rtol=2 * float(jnp.finfo(dtype).eps))
  assert not np.allclose(end, np.asarray(start['kernel'], np.float32), atol=.1)


def test_fixed_lengths_of_sharded_leaves():
  params = {'kernel': jnp.cos(jnp.arange(24.)).reshape(8, 3)}
  grads = {'kernel': jnp.sin(jnp.arange(24.)).reshape(8, 3)}

  def steps(axis_name, params, grads):
    tx = gn.weight_normalized(
        optax.sgd(0.5), lengths='fixed', axis_name=axis_name)
    state = tx.init(params)
    for _ in range(2):
      updates, state = tx.update(grads, state, params)
      params = optax.apply_updates(params, updates)
    return params

  cut = {'kernel': P('x')}
  run = jax.shard_map(functools.partial(steps, 'x'), in_specs=(cut, cut),
                      mesh=Mesh(jax.devices()[:2], 'x'), out_specs=cut)
  np.testing.assert_allclose(
      jax.jit(run)(params, grads)['kernel'],
      steps(None, params, grads)['kernel'], rtol=1e-5, atol=1e-6)


def test_edited_units_return_to_their_length():
  params = {'kernel': jnp.array([[3., 0.], [4., 2.]])}
  tx = gn.weight_normalized(optax.sgd(0.0), lengths='fixed')
  state = tx.init(params)
  edited = {'kernel': jnp.array([[8., 1.], [6., 0.]])}
  updates, new = tx.update(params, state, edited)
  w = optax.apply_updates(edited, updates)['kernel']
  np.testing.assert_allclose(w, [[4., 2.], [3., 0.]], rtol=1e-6)
  jax.tree.map(np.testing.assert_array_equal, new.length, state.length)


def test_units_of_length_zero():
  params = {'kernel': jnp.array([[3., 0.], [4., 0.]])}
  tx = gn.weight_normalized(optax.sgd(0.1), lengths='fixed')
  state = tx.init(params)
  for kernel in (params['kernel'], params['kernel'] + 1):  # and edited
    held = {'kernel': kernel}
    updates, _ = tx.update({'kernel': jnp.ones((2, 2))}, state, held)
    w = optax.apply_updates(held, updates)['kernel']
    np.testing.assert_array_equal(w[:, 1], 0)
    np.testing.assert_allclose(np.linalg.norm(w[:, 0]), 5, rtol=1e-6)
  zeros = {'head': {'kernel': jnp.zeros((2, 2))}}
  with pytest.raises(ValueError, match="'head/kernel' is all zeros"):
    tx.init(zeros)
  assert jax.eval_shape(tx.init, zeros).length['head/kernel'].shape == (1, 2)
  with pytest.raises(ValueError, match="lengths='fix'.*trained"):
    gn.weight_normalized(optax.sgd(0.1), lengths='fix')


def test_muon_inside_weight_normalization():
  start = drawn(4, kernel=(3, 5), bias=(5,))
  tx = gn.weight_normalized(
      muon(start, lambda table: {'v': table, 'g': None}))
  v, b, g = start['kernel'], start['bias'], column_norms(start['kernel'])
  directions, lengths, biases = Muon(), Nadam(), Nadam()
  for _ in range(4):
    slope = bends({'kernel': g * v / column_norms(v), 'bias': b}, np)
    by_g = (slope['kernel'] * v).sum(0, keepdims=True) / column_norms(v)
    by_v = g / column_norms(v) * (
        slope['kernel'] - by_g * v / column_norms(v))
    v, g = v + directions.step(by_v), g + lengths.step(by_g)
    b = b + biases.step(slope['bias'])
  check(walk(tx, start, bends, 4),
        {'kernel': g * v / column_norms(v), 'bias': b})


@pytest.mark.parametrize('front, reference', [
    (gn.standardize(), references.standardized),
    (gn.normalize_by_block_norm(), references.block_normalized)],
    ids=['sing', 'bng'])
def test_normalization_before_muon(front, reference):
  start = drawn(5, kernel=(5, 3), bias=(3,))
  w, matrix, vector = start, Muon(), Nadam()
  for _ in range(4):
    slope = reference(bends(w, np), w)
    w = {'kernel': w['kernel'] + matrix.step(slope['kernel']),
         'bias': w['bias'] + vector.step(slope['bias'])}
  check(walk(optax.chain(front, muon(start)), start, bends, 4), w)
