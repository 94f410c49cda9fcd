"""Every kind of layer, each against its own Jacobian.

A layer affine in x has one path per entry of its Jacobian A and of its bias, so
that G = sum |A|^p + sum |b|^p and gamma(w) = (sum |dA/dw|^p)^(2/p); for pooling
by maximum the Jacobians at all winners are added up by hand.
"""

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx
from jax import lax, numpy as jnp

from gradnorm_optax import linen, paths

KINDS = {'dtype': jnp.float64, 'param_dtype': jnp.float64}


def layer(module, *shape):
  return module, (1, *shape)


LAYERS = {
    'dense': layer(nn.Dense(3, **KINDS), 4),
    'dense_general': layer(
        nn.DenseGeneral((2, 2), axis=(-2, -1), **KINDS), 3, 2),
    'einsum': layer(nn.Einsum((2, 3, 4), 'bhi,hij->bhj', **KINDS), 2, 3),
    'conv1d': layer(nn.Conv(2, (3,), **KINDS), 5, 2),
    'conv2d_strides': layer(nn.Conv(2, (3, 3), (2, 1), **KINDS), 4, 3, 1),
    'conv2d_valid_dilated': layer(
        nn.Conv(1, (2, 2), padding='VALID', kernel_dilation=2, **KINDS),
        4, 4, 1),
    'conv2d_groups': layer(
        nn.Conv(4, (2, 2), feature_group_count=2, **KINDS), 3, 3, 2),
    'conv2d_explicit': layer(
        nn.Conv(1, (2, 2), padding=((1, 0), (0, 2)), **KINDS), 3, 3, 1),
    'conv2d_circular': layer(
        nn.Conv(1, (3, 3), padding='CIRCULAR', **KINDS), 3, 3, 1),
    'conv3d': layer(nn.Conv(1, (2, 2, 2), **KINDS), 2, 3, 2, 1),
    'conv_local': layer(nn.ConvLocal(2, (2,), **KINDS), 4, 1),
    'conv_transpose': layer(
        nn.ConvTranspose(2, (3, 3), (2, 2), **KINDS), 2, 2, 1),
    'conv_transpose_kernel': layer(
        nn.ConvTranspose(2, (2,), (2,), transpose_kernel=True, **KINDS), 3, 2),
}


@pytest.mark.parametrize('name', LAYERS)
def test_linear_layer(name):
  module, shape = LAYERS[name]
  with jax.enable_x64(True):
    x = jax.random.normal(jax.random.key(0), shape, jnp.float64)
    params = module.init(jax.random.key(1), x)['params']
    params = jax.tree.map(lambda a: a + 0.3, params)
    net = linen.apply_fn(module)
    jacobian = jax.jacobian(net, argnums=1)
    slopes = np.asarray(jacobian(params, x))
    bias = np.asarray(net(params, jnp.zeros_like(x)))
    by_params = jax.jacobian(jacobian)(params, x)
    for p in (1, 3):
      phi = paths.path_norm(net, params, x, p=p)
      want = (np.abs(slopes) ** p).sum() + (np.abs(bias) ** p).sum()
      np.testing.assert_allclose(float(phi), want ** (1 / p), rtol=1e-12)
    gamma = paths.path_scale(net, params, x, p=1)
    for key in gamma.keys() - {'bias'}:
      slope = np.abs(np.asarray(by_params[key]))
      axes = tuple(range(slope.ndim - params[key].ndim))
      np.testing.assert_allclose(
          gamma[key], slope.sum(axes) ** 2, rtol=1e-12)


def ones_of(function, *shape):
  """Returns G of a function without parameters, and its Jacobian's sum."""
  with jax.enable_x64(True):
    x = jax.random.normal(jax.random.key(0), shape, jnp.float64)
    net = lambda params, x: function(x)[None]  # noqa: E731
    phi = paths.path_norm(net, {}, jax.ShapeDtypeStruct(shape, jnp.float32))
    return float(phi) ** 2, np.asarray(jax.jacfwd(function)(x))


INDEX = np.array([2, 0, 2])
LINEAR = {
    'reshape': lambda x: jnp.reshape(x, (4, 3)).T,
    'slice': lambda x: x[1:, ::2],
    'pad': lambda x: jnp.pad(x, ((1, 2), (0, 1))),
    'gather': lambda x: x[:, INDEX],
    'take': lambda x: jnp.take(x, INDEX, axis=1),
    'concatenate': lambda x: jnp.concatenate([x, 2 * x[:1]]),
    'stack': lambda x: jnp.stack([x, -x], 1),
    'split': lambda x: jnp.concatenate(jnp.split(x, 3, axis=1)[::-1]),
    'flip_roll': lambda x: jnp.roll(x[::-1], 1, axis=1),
    'tile_repeat': lambda x: jnp.repeat(jnp.tile(x, (1, 2)), 2, axis=0),
    'mean': lambda x: x.mean(1),
    'cumsum': lambda x: jnp.cumsum(x, 1),
    'where': lambda x: jnp.where(np.eye(4, 3) > 0, x, 0.0),
    'update': lambda x: jnp.zeros((4, 4)).at[:, 1:].set(x),
    'scatter_add': lambda x: jnp.zeros((4, 3)).at[:, INDEX].add(x),
    'dynamic_slice': lambda x: lax.dynamic_slice(x, (1, 0), (2, 2)),
    'einsum': lambda x: jnp.einsum('ij,jk->ki', x, np.ones((3, 2))),
    'jit': jax.jit(lambda x: jax.jit(lambda y: 3 * y)(x) / 2),
    'remat': jax.checkpoint(lambda x: 3 * x),
    'while': lambda x: lax.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, 2 * c[1]), (0, x))[1],
    'fori': lambda x: lax.fori_loop(0, 3, lambda i, c: 2 * c, x),
    'switch': lambda x: lax.switch(1, [lambda x: x, lambda x: 3 * x], x),
    'average_pool': lambda x: nn.avg_pool(x[None, :, :, None], (2, 2)),
    'average_pool_same': lambda x: nn.avg_pool(
        x[None, :, :, None], (2, 2), padding='SAME'),
    'average_pool_inside': lambda x: nn.avg_pool(
        x[None, :, :, None], (2, 2), padding='SAME', count_include_pad=False),
}


@pytest.mark.parametrize('name', LINEAR)
def test_linear_function(name):
  total, jacobian = ones_of(LINEAR[name], 4, 3)
  np.testing.assert_allclose(total, (jacobian ** 2).sum(), rtol=1e-5)


@jax.custom_vjp
def doubled(x):
  return 2 * x


doubled.defvjp(lambda x: (doubled(x), None), lambda _, g: (2 * g,))

# Each function with its G for p = 2 on an input of shape (1, 4): by hand.
HOMOGENEOUS = {
    'relu': (nn.relu, 4),
    'leaky_relu': (lambda x: nn.leaky_relu(x, 0.3), 4),
    'steep_leaky_relu': (lambda x: nn.leaky_relu(x, -3.0), 36),
    'leaky_by_maximum': (lambda x: jnp.maximum(x, 0.1 * x), 4),
    'where': (lambda x: jnp.where(x > 0, x, 0.0), 4),
    'gate': (lambda x: x * (x > 0), 4),
    'sign_gate': (lambda x: x * jnp.sign(x), 4),
    'sign_gate_of_others': (lambda x: x * jnp.sign(x.sum()), 4),
    'clip_by_where': (lambda x: jnp.where(x > 1, 1.0, x), 4),
    'clip_of_a_multiple': (lambda x: jnp.where(-3 * x > 1, -1 / 3, x), 4),
    'relu_by_abs': (lambda x: (x + jnp.abs(x)) / 2, 2),  # two paths of weight ½
    'relu6': (nn.relu6, 4),
    'clip': (lambda x: jnp.clip(x, -1, 1), 4),
    'lax_clamp': (lambda x: lax.clamp(-1.0, x, 1.0), 4),
    'hard_tanh': (nn.hard_tanh, 4),
    'abs': (jnp.abs, 4),
    'maxout': (lambda x: x.reshape(1, 2, 2).max(-1), 4),
    'minimum_of_two': (lambda x: jnp.minimum(x[:, :2], x[:, 2:]), 4),
    'where_of_two': (
        lambda x: jnp.where(x[:, :2] > x[:, 2:], x[:, :2], x[:, 2:]), 4),
    'residual': (lambda x: x + nn.relu(x), 8),
    'custom_vjp': (doubled, 16),
    'bias': (lambda x: x - 3.0, 40),
    'max_pool': (
        lambda x: nn.max_pool(x.reshape(1, 2, 2, 1), (2, 2)), 4),
    'max_pool_same': (
        lambda x: nn.max_pool(x.reshape(1, 2, 2, 1), (2, 2), padding='SAME'),
        9),
    'max_pool_padded': (
        lambda x: lax.reduce_window(
            jnp.pad(x, ((0, 0), (1, 1)), constant_values=-np.inf),
            -np.inf, lax.max, (1, 2), (1, 2), 'VALID'), 4),
    'cummax': (lambda x: lax.cummax(x, axis=1), 10),
    'dropout_off': (nn.Dropout(0.5, deterministic=True), 4),
}


@pytest.mark.parametrize('name', HOMOGENEOUS)
def test_homogeneous_function(name):
  function, want = HOMOGENEOUS[name]
  if isinstance(function, nn.Module):
    function = function.bind({})
  net = lambda params, x: function(x)  # noqa: E731
  phi = paths.path_norm(net, {}, jnp.zeros((1, 4)))
  np.testing.assert_allclose(phi ** 2, want, rtol=1e-6)


class Block(nn.Module):
  @nn.compact
  def __call__(self, x, _):
    return nn.relu(nn.Dense(3)(x)), None


def test_scan_over_layers_equals_the_unrolled_stack():
  scanned = nn.scan(
      nn.remat(Block), variable_axes={'params': 0},
      split_rngs={'params': True}, length=3)()
  x = jnp.ones((1, 3))
  params = scanned.init(jax.random.key(0), x, None)['params']
  stacked = params['Dense_0']

  def unrolled(w, x):
    for kernel, bias in zip(w['kernel'], w['bias']):
      x = nn.relu(x @ kernel + bias)
    return x

  call = lambda w, x: scanned.apply({'params': w}, x, None)[0]  # noqa: E731
  for p in (1, 2):
    np.testing.assert_allclose(
        paths.path_norm(call, params, x, p=p),
        paths.path_norm(unrolled, stacked, x, p=p), rtol=1e-6)
    got = paths.path_scale(call, params, x, p=p)['Dense_0']
    want = paths.path_scale(unrolled, stacked, x, p=p)
    for name in want:
      np.testing.assert_allclose(got[name], want[name], rtol=1e-5)


def plain_rnn(w, x):
  h = jnp.zeros((1, 2))
  outs = []
  for t in range(x.shape[1]):
    h = nn.relu(x[:, t] @ w['i'] + w['b'] + h @ w['h'])
    outs.append(h)
  return jnp.stack(outs, 1)


def test_linen_and_nnx_recurrent_networks_equal_the_unrolled_loop():
  x = jnp.ones((1, 4, 3))
  rnn = nn.RNN(nn.SimpleCell(2, activation_fn=nn.relu))
  params = rnn.init(jax.random.key(0), x)['params']
  (cell,) = params.values()
  plain = {'i': cell['i']['kernel'], 'b': cell['i']['bias'],
           'h': cell['h']['kernel']}
  want = paths.path_norm(plain_rnn, plain, x)
  np.testing.assert_allclose(
      paths.path_norm(linen.apply_fn(rnn), params, x), want, rtol=1e-6)
  gamma = paths.path_scale(linen.apply_fn(rnn), params, x)
  (gamma,) = gamma.values()
  reference = paths.path_scale(plain_rnn, plain, x)
  np.testing.assert_allclose(gamma['h']['kernel'], reference['h'], rtol=1e-5)

  from gradnorm_optax.nnx import apply_fn
  rnn = nnx.RNN(nnx.SimpleCell(3, 2, activation_fn=nnx.relu,
                               rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
  rnn.cell.dense_i.kernel[...] = plain['i']
  rnn.cell.dense_i.bias[...] = plain['b']
  rnn.cell.dense_h.kernel[...] = plain['h']
  params = nnx.state(rnn, nnx.Param)
  np.testing.assert_allclose(
      paths.path_norm(apply_fn(rnn), params, x), want, rtol=1e-6)


def test_weight_normalized_layer_equals_the_folded_one():
  module = nn.WeightNorm(nn.Dense(3, use_bias=False), epsilon=0.0)
  x = jnp.ones((1, 4))
  variables = module.init(jax.random.key(0), x)
  params = jax.tree.map(lambda a: a * 1.7, variables['params'])
  kernel = jax.jacobian(lambda x: module.apply({'params': params}, x)[0])(x)
  want = np.sum(np.asarray(kernel) ** 2) ** 0.5
  phi = paths.path_norm(linen.apply_fn(module), params, x)
  np.testing.assert_allclose(phi, want, rtol=1e-5)
  gamma = paths.path_scale(linen.apply_fn(module), params, x)
  assert all(np.all(np.asarray(g) > 0) for g in jax.tree.leaves(gamma))
