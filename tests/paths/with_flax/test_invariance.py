"""Node-wise rescaling leaves a Path-SGD trajectory where it was."""

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from jax import lax, numpy as jnp

import gradnorm_optax as gn
from gradnorm_optax import linen

KINDS = {'dtype': jnp.float64, 'param_dtype': jnp.float64}
STEPS = 100


class Mlp(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = x.reshape(x.shape[0], -1)
    x = nn.relu(nn.Dense(8, name='a', **KINDS)(x))
    x = nn.relu(nn.Dense(6, name='b', **KINDS)(x))
    return nn.Dense(2, name='c', **KINDS)(x)


class Cnn(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(4, (3, 3), name='a', **KINDS)(x))
    x = nn.max_pool(x, (2, 2), (2, 2))
    x = nn.relu(nn.Conv(4, (3, 3), name='b', **KINDS)(x))
    return nn.Dense(2, name='c', **KINDS)(x.mean((1, 2)))


class Residual(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Conv(4, (3, 3), name='stem', **KINDS)(x)
    y = nn.Conv(4, (3, 3), name='a', **KINDS)(nn.relu(x))
    y = nn.relu(nn.BatchNorm(True, name='norm', **KINDS)(y))
    x = nn.relu(x + nn.Conv(4, (3, 3), name='b', **KINDS)(y))
    return nn.Dense(2, name='c', **KINDS)(x.mean((1, 2)))


def enter(params, layer, factors):
  params[layer] = {k: v * factors for k, v in params[layer].items()}


def leave(params, layer, factors):
  kernel = params[layer]['kernel'] / factors[:, None]
  params[layer] = {**params[layer], 'kernel': kernel}


def rescale(params, pairs, seed):
  """Rescales hidden units by 1e-3 .. 1e3; pairs of (incoming, outgoing)."""
  rng = np.random.default_rng(seed)
  params = dict(params)
  for before, after in pairs:
    units = params[before]['bias'].shape[0]
    factors = 10 ** rng.uniform(-3, 3, size=units)
    enter(params, before, factors)
    leave(params, after, factors)
  return params


MODELS = {
    'mlp': (Mlp, [('a', 'b'), ('b', 'c')], 0.1),
    'cnn': (Cnn, [('a', 'b'), ('b', 'c')], 0.1),
    # A batch norm in inference mode shifts by constants: the units after it
    # are the ones that can be rescaled.
    'residual': (Residual, [('norm', 'b')], 0.01),
}


def trajectory(net, params, tx, x, y, batch):
  def loss(w):
    return jnp.mean((net(w, x) - y) ** 2)

  def step(carry, _):
    w, state = carry
    updates, state = tx.update(jax.grad(loss)(w), state, w, apply_args=batch)
    w = optax.apply_updates(w, updates)
    return (w, state), net(w, x)

  run = jax.jit(lambda w: lax.scan(step, (w, tx.init(w)), length=STEPS)[1])
  return np.asarray(run(params))


@pytest.mark.parametrize('name', MODELS)
def test_trajectory(name):
  model, pairs, rate = MODELS[name]
  with jax.enable_x64(True):
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], (8, 4, 4, 2), jnp.float64)
    y = jax.random.normal(keys[1], (8, 2), jnp.float64)
    variables = model().init(keys[2], x)
    params = variables.pop('params')
    params = jax.tree.map(
        lambda a: a + 0.05 * jax.random.normal(keys[3], a.shape, a.dtype),
        params)
    apply_fn = linen.apply_fn(model())
    held = dict(variables)
    if held:
      held = {'batch_stats': {'norm': {
          'mean': jnp.array([0.3, -0.2, 0.1, 0.0]),
          'var': jnp.array([0.5, 1.5, 1.0, 2.0])}}}
    net = lambda w, x: apply_fn(w, x, held)  # noqa: E731
    moved = rescale(params, pairs, seed=1)
    start = np.asarray(net(params, x))
    np.testing.assert_allclose(net(moved, x), start, rtol=1e-9, atol=1e-12)
    example = jax.ShapeDtypeStruct((1, 4, 4, 2), jnp.float64)
    for momentum in (None, 0.9):
      tx = gn.path_sgd(
          rate / 5 if momentum else rate, apply_fn, example, momentum=momentum)
      args = (tx, x, y, (held,))
      one = trajectory(net, params, *args)
      two = trajectory(net, moved, *args)
      scale = np.abs(one).max()
      assert np.isfinite(one).all()
      assert np.abs(one[-1] - start).max() > 0.05 * scale  # it moved
      assert np.abs(one - two).max() < 1e-9 * scale
    plain = optax.with_extra_args_support(optax.sgd(1e-2))
    one = trajectory(net, params, plain, x, y, ())
    two = trajectory(net, moved, plain, x, y, ())
    # Diverged, or more than a tenth away.
    assert not np.abs(one - two).max() < 0.1 * np.abs(one).max()
