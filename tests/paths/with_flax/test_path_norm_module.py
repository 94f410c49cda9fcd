"""`PathNorm` and `apply_fn` in Linen and NNX."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

import gradnorm_optax as gn
from gradnorm_optax import linen, nnx as gnx, paths

X = jax.random.normal(jax.random.key(0), (5, 3))


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Dense(4, name='a')(x))
    return nn.Dense(2, name='b')(x)


class NnxNet(nnx.Module):
  def __init__(self, rngs):
    self.a = nnx.Linear(3, 4, rngs=rngs)
    self.norm = nnx.BatchNorm(4, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)
    self.b = nnx.Linear(4, 2, rngs=rngs)

  def __call__(self, x):
    return self.b(self.drop(nnx.relu(self.norm(self.a(x)))))


def test_linen_module_is_invariant():
  net = linen.PathNorm(Net())
  params = net.init(jax.random.key(1), X)['params']
  inner = params['module']
  phi = paths.path_norm(linen.apply_fn(Net()), inner, X[:1])
  np.testing.assert_allclose(params['scale'], phi, rtol=1e-6)
  plain = Net().apply({'params': inner}, X)
  out, state = net.apply({'params': params}, X, mutable=['intermediates'])
  np.testing.assert_allclose(out, plain, rtol=1e-5)
  np.testing.assert_allclose(
      state['intermediates']['path_norm'], phi, rtol=1e-6)
  a, b = paths.rescale_units(
      inner['a'], {'kernel': inner['b']['kernel']},
      jnp.array([1e-3, 2.0, 50.0, 1.0]))
  moved = {'a': a, 'b': {**inner['b'], **b}}
  # Twice the last layer: the same function after division.
  double = {'a': inner['a'], 'b': jax.tree.map(lambda v: 2 * v, inner['b'])}
  for module in (moved, double):
    same = net.apply({'params': {**params, 'module': module}}, X)
    np.testing.assert_allclose(same, out, rtol=1e-4, atol=1e-5)
  grad = jax.jit(jax.grad(
      lambda w: (net.apply({'params': w}, X) ** 2).sum()))(params)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grad))
  assert abs(float(grad['scale'])) > 0
  # Along the last layer's scale the gradient vanishes.
  along = jax.tree.map(lambda g, v: (g * v).sum(), grad['module']['b'],
                       inner['b'])
  size = np.abs(jax.tree.leaves(grad['module']['b'])[0]).sum()
  assert abs(sum(jax.tree.leaves(along))) < 1e-4 * size
  zero = jax.tree.map(jnp.zeros_like, params)
  np.testing.assert_array_equal(net.apply({'params': zero}, X), 0)


def test_nnx_module():
  inner = NnxNet(nnx.Rngs(0))
  inner.eval()
  phi = paths.path_norm(
      gnx.apply_fn(inner), nnx.state(inner, nnx.Param), X[:1])
  net = gnx.PathNorm(inner)
  assert float(net.scale[...]) == 1
  np.testing.assert_allclose(net(X), inner(X) / phi, rtol=1e-5)
  np.testing.assert_allclose(net.path_norm(X), phi, rtol=1e-6)
  np.testing.assert_allclose(gnx.PathNorm(inner, X)(X), inner(X), rtol=1e-5)

  @nnx.jit
  def gradient(net, x):
    return nnx.grad(lambda net: (net(x) ** 2).sum())(net)

  state = gradient(net, X)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(state))


def test_nnx_optimizer_with_batch_statistics():
  model = NnxNet(nnx.Rngs(0))
  model.drop.deterministic = True
  tx = gn.path_sgd(0.01, gnx.apply_fn(model), X[:1], momentum=0.9)
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

  @nnx.jit
  def step(model, optimizer, x):
    def loss(model):
      return ((model(x) - 1) ** 2).mean()

    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(
        model, grads, apply_args=(nnx.state(model, nnx.BatchStat),))
    return value

  losses = [float(step(model, optimizer, X)) for _ in range(20)]
  assert losses[-1] < 0.7 * losses[0]
  # The statistics passed are those used: other ones give another scale.
  net = gnx.apply_fn(model)
  params = nnx.state(model, nnx.Param)
  stats = nnx.state(model, nnx.BatchStat)
  wide = jax.tree.map(lambda a: a + 3.0, stats)
  one = paths.path_norm(lambda w, x: net(w, x, stats), params, X[:1])
  two = paths.path_norm(lambda w, x: net(w, x, wide), params, X[:1])
  assert abs(float(one / two) - 1) > 1e-2


def test_batch_statistics_of_linen_through_apply_args():
  class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.BatchNorm(use_running_average=True)(nn.Dense(2)(x))

  variables = Normed().init(jax.random.key(0), X)
  params = variables['params']
  tx = gn.normalize_by_path_scale(linen.apply_fn(Normed()), X[:1])
  stats = {'batch_stats': jax.tree.map(
      lambda a: 4 * a + 0.5, variables['batch_stats'])}
  ones = jax.tree.map(jnp.ones_like, params)
  out, _ = tx.update(ones, tx.init(params), params, apply_args=(stats,))
  # gamma of a kernel entry: (scale / sqrt(var + eps))^2.
  np.testing.assert_allclose(
      out['Dense_0']['kernel'], 4.5 + 1e-5, rtol=1e-5)
  with pytest.raises(Exception, match='mean'):
    tx.update(ones, tx.init(params), params)


@pytest.mark.parametrize(
    'boxed', [nn.with_partitioning, nn.with_logical_partitioning])
def test_boxed_parameters_are_the_plain_ones(boxed):
  init = boxed(nn.initializers.lecun_normal(), ('in', 'out'))
  net = nn.Sequential([
      nn.Dense(4, kernel_init=init), nn.relu, nn.Dense(2, kernel_init=init)])
  boxes = net.init(jax.random.key(1), X)['params']
  plain = nn.unbox(boxes)
  assert jax.tree.structure(boxes) != jax.tree.structure(plain)
  call = linen.apply_fn(net)
  np.testing.assert_array_equal(
      paths.path_norm(call, boxes, X[:1]), paths.path_norm(call, plain, X[:1]))
  gamma = paths.path_scale(call, boxes, X[:1])
  assert jax.tree.structure(gamma) == jax.tree.structure(boxes)
  tx = gn.normalize_by_path_scale(call, X[:1], refresh_every=2)
  want, _ = tx.update(plain, tx.init(plain), plain)
  for updates, first, params in (
      (boxes, boxes, boxes), (plain, boxes, boxes), (boxes, plain, plain),
      (boxes, boxes, plain), (plain, plain, boxes)):
    got, state = tx.update(updates, tx.init(first), params)
    assert jax.tree.structure(got) == jax.tree.structure(updates)
    assert jax.tree.structure(state.gamma) == jax.tree.structure(first)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
      np.testing.assert_array_equal(a, b)


def test_state_of_an_abstract_model():
  model = NnxNet(nnx.Rngs(0))
  abstract = nnx.eval_shape(lambda: NnxNet(nnx.Rngs(0)))
  tx = gn.normalize_by_path_scale(
      gnx.apply_fn(model), X[:1], refresh_every=2)
  made, shapes = (
      nnx.state(nnx.Optimizer(m, tx, wrt=nnx.Param)) for m in (model, abstract))
  assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, shapes)
