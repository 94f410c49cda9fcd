"""gamma and phi against a walk of every path, in float64."""

import jax
import numpy as np
import path_walk
import pytest
from jax import lax, numpy as jnp

from gradnorm_optax import paths

POWERS = [1, 2, 3, 1.5]


def normal(seed, **shapes):
  rng = np.random.default_rng(seed)
  return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def as_jax(params):
  return {name: jnp.asarray(value) for name, value in params.items()}


def check(net, params, x, walked, p):
  with jax.enable_x64(True):
    given = as_jax(params)
    phi = paths.path_norm(net, given, x, p=p)
    gamma = paths.path_scale(net, given, x, p=p)
    assert phi.dtype == np.float64
    np.testing.assert_allclose(float(phi), walked.norm(p), rtol=1e-12)
    path_walk.assert_close(gamma, walked.scale(params, p))


@pytest.fixture(scope='module')
def mlp():
  params = normal(0, w1=(3, 4), b1=(4,), w2=(4, 3), b2=(3,), w3=(3, 2), b3=(2,))
  params['w2'][1, 2] = 0.0
  graph = path_walk.Graph()
  nodes = graph.inputs((3,))
  for layer in '123':
    nodes = graph.dense(nodes, params['w' + layer], 'w' + layer)
    nodes = graph.shift(nodes, params['b' + layer], 'b' + layer)
  return params, path_walk.Paths(graph, nodes)


def mlp_net(w, x):
  h = jax.nn.relu(x @ w['w1'] + w['b1'])
  h = jax.nn.leaky_relu(h @ w['w2'] + w['b2'], 0.1)
  return h @ w['w3'] + w['b3']


@pytest.mark.parametrize('p', POWERS)
def test_biased_mlp(mlp, p):
  params, walked = mlp
  check(mlp_net, params, np.zeros(3), walked, p)


@pytest.fixture(scope='module')
def rnn():
  params = normal(1, u=(2, 3), w=(3, 3), b=(3,), v=(3, 2))
  graph = path_walk.Graph()
  hidden = None
  for _ in range(4):
    new = graph.shift(
        graph.dense(graph.inputs((2,)), params['u'], 'u'), params['b'], 'b')
    if hidden is not None:
      new = graph.add(new, graph.dense(hidden, params['w'], 'w'))
    hidden = new
  return params, path_walk.Paths(graph, graph.dense(hidden, params['v'], 'v'))


@pytest.mark.parametrize('p', POWERS)
def test_recurrent_network(rnn, p):
  params, walked = rnn

  def net(w, x):
    def step(h, x):
      return jax.nn.relu(x @ w['u'] + w['b'] + h @ w['w']), None

    h, _ = lax.scan(step, jnp.zeros(3, x.dtype), x)
    return h @ w['v']

  check(net, params, np.zeros((4, 2)), walked, p)


@pytest.mark.parametrize('p', [1, 2, 3])
def test_in_float32(mlp, p):
  params, walked = mlp
  given = {k: jnp.asarray(v, jnp.float32) for k, v in params.items()}
  phi = jax.jit(lambda w: paths.path_norm(mlp_net, w, np.zeros(3, 'f'), p=p))(
      given)
  np.testing.assert_allclose(float(phi), walked.norm(p), rtol=1e-6)
  gamma = paths.path_scale(mlp_net, given, np.zeros(3, 'f'), p=p)
  path_walk.assert_close(gamma, walked.scale(params, p), rtol=3e-6)


def test_worked_examples():
  relu = jax.nn.relu
  params = [jnp.array([[1., -2.], [3., .5]]), jnp.array([2., -1.])]
  net = lambda w, x: relu(x @ w[0]) @ w[1]  # noqa: E731
  x = jax.ShapeDtypeStruct((2,), jnp.float32)
  first, second = paths.path_scale(net, params, x)
  np.testing.assert_allclose(first, [[4, 1], [4, 1]])
  np.testing.assert_allclose(second, [10, 4.25])
  np.testing.assert_allclose(paths.path_norm(net, params, x) ** 2, 44.25, 1e-6)
  first, second = paths.path_scale(net, params, x, p=1)
  np.testing.assert_allclose(first, [[4, 1], [4, 1]])
  np.testing.assert_allclose(second, [16, 6.25])
  np.testing.assert_allclose(paths.path_norm(net, params, x, p=1), 10.5)

  def conv(w, x):
    y = lax.conv_general_dilated(
        x, w['k'].reshape(2, 1, 1), (1,), 'VALID',
        dimension_numbers=('NWC', 'WIO', 'NWC'))
    return relu(y).reshape(1, 2) @ w['d'].reshape(2, 1)

  params = {'k': jnp.array([1., 2.]), 'd': jnp.array([3., -1.])}
  x = jnp.zeros((1, 3, 1))
  np.testing.assert_allclose(paths.path_norm(conv, params, x) ** 2, 50, 1e-6)
  gamma = paths.path_scale(conv, params, x)
  np.testing.assert_allclose(gamma['k'], [10, 10])
  np.testing.assert_allclose(gamma['d'], [5, 5])

  def scalar_rnn(w, x):
    step = lambda h, x: (relu(w['u'] * x + w['w'] * h), None)  # noqa: E731
    return lax.scan(step, jnp.zeros([]), x)[0] * w['v']

  params = {'u': jnp.array(2.), 'w': jnp.array(.5), 'v': jnp.array(3.)}
  x = jnp.zeros(3)
  gamma = paths.path_scale(scalar_rnn, params, x)
  got = [float(gamma[name]) for name in 'wuv']
  np.testing.assert_allclose(got, [54, 11.8125, 5.25])
  phi = paths.path_norm(scalar_rnn, params, x)
  np.testing.assert_allclose(phi ** 2, 47.25, 1e-6)
