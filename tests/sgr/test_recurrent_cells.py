"""The lab's recurrent nets against loops in NumPy, and their starts."""

import jax
import nets
import numpy as np
import pytest
import srn
from jax import numpy as jnp

from gradnorm_optax import sgr
from gradnorm_optax.lab.data import long_dependency
from gradnorm_optax.lab.models import recurrent, recurrent_start

KEY = jax.random.key(3)


def sigmoid(a):
  return 1 / (1 + np.exp(-a))


def reference(model, p, x):
  """Returns the state after every step, (T, B, H)."""
  h, rec = model.width, p['recurrent']['kernel']
  z = c = np.zeros((len(x), h))
  seen = []
  for k in range(x.shape[1]):
    a = x[:, k] @ p['input']['kernel'] + p['recurrent']['bias']
    if model.cell == 'srn':
      z = srn.F[model.activation][0](a + z @ rec)
    elif model.cell == 'lstm':
      i, f, g, o = np.split(a + z @ rec, 4, axis=1)
      c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
      z = sigmoid(o) * np.tanh(c)
    else:
      r = sigmoid(a[:, :h] + z @ rec[:, :h])
      u = sigmoid(a[:, h:2 * h] + z @ rec[:, h:2 * h])
      new = np.tanh(a[:, 2 * h:] + (r * z) @ rec[:, 2 * h:])
      z = u * z + (1 - u) * new
    seen.append(z)
  return np.stack(seen)


@pytest.mark.parametrize(('cell', 'activation'), [
    ('srn', 'tanh'), ('srn', 'relu'), ('srn', 'linear'), ('lstm', 'tanh'),
    ('gru', 'tanh')])
def test_cells(cell, activation):
  model = recurrent.Recurrent(2, 5, 4, cell, activation, readout=2)
  p = nets.params(model, KEY)
  x = jax.random.randint(KEY, (3, 6), 0, 5)
  p64 = jax.tree.map(lambda a: np.asarray(a, np.float64), p)
  states = reference(model, p64, np.eye(5)[x])[-2:]
  want = states @ p64['output']['kernel'] + p64['output']['bias']
  apply = lambda x, model=model, **options: model.apply(  # noqa: E731
      {'params': p}, x, **options)
  for inputs in (x, jax.nn.one_hot(x, 5)):  # symbols are one-hot vectors
    got = apply(inputs)
    np.testing.assert_allclose(got, want.swapaxes(0, 1), rtol=1e-5, atol=1e-6)
  last = apply(x, model.clone(readout=None))
  assert last.shape == (3, 2)
  np.testing.assert_array_equal(last, apply(
      x, model.clone(readout=1),
      perturb=jnp.zeros(model.perturb_shape(6, 3)))[:, 0])


@pytest.mark.parametrize('cell', recurrent.GATES)
def test_perturb_reaches_every_gate(cell):
  task = long_dependency.make('memorization', 4)
  model = nets.of(task, width=6, cell=cell)
  d = sgr.deltas(nets.losses(model, task), nets.params(model, KEY),
                 task.sample(KEY, 3), model.perturb_shape(task.steps, 3))
  norms = np.linalg.norm(np.asarray(d).reshape(24, 3, -1, 6), axis=-1)
  # An LSTM and a GRU forget nothing before there is something to forget.
  assert (norms[1:] > 0).all() and (norms[0] > 0).any()


def test_starts():
  task = long_dependency.make('temporal_order', 20)
  def kernel(**options):
    model = nets.of(task, width=50, **options)
    p = nets.params(model, KEY)
    return np.asarray(p['recurrent']['kernel'], np.float64), p
  w, _ = kernel()
  limit = np.sqrt(6 / 100)
  assert abs(w).max() <= limit and w.std() == pytest.approx(
      limit / np.sqrt(3), rel=0.05)
  w, _ = kernel(start='orthogonal', scale=1.5)
  np.testing.assert_allclose(w.T @ w, 2.25 * np.eye(50), atol=1e-5)
  w, p = kernel(start='irnn', scale=0.5)
  np.testing.assert_array_equal(w, 0.5 * np.eye(50))
  assert np.asarray(p['input']['kernel']).std() < 2e-3
  w, _ = kernel(start='radius', scale=0.7)
  assert abs(np.linalg.eigvals(w)).max() == pytest.approx(0.7, rel=1e-5)
  _, p = kernel(cell='lstm')
  bias = np.asarray(p['recurrent']['bias'])
  np.testing.assert_array_equal(bias.nonzero()[0], np.arange(50, 100))


@pytest.mark.parametrize('start', recurrent_start.START)
def test_starts_under_jit_and_vmap(start):
  model = recurrent.Recurrent(2, 3, 6, 'gru', start=start, scale=0.7)
  keys = jax.random.split(KEY, 2)
  many = jax.jit(jax.vmap(lambda key: nets.params(model, key)))(keys)
  for i, key in enumerate(keys):
    for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(
        nets.params(model, key)), strict=True):
      np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('size', [1, 2, 100, 301])
def test_spectral_radius(size):
  rng = np.random.default_rng(size)
  kernels = np.float32(rng.normal(size=(4, size, size)))
  kernels[0] = np.triu(kernels[0], 1)  # a power of it is zero
  got = jax.jit(jax.vmap(recurrent_start.spectral_radius))(jnp.asarray(kernels))
  want = abs(np.linalg.eigvals(kernels.astype(np.float64))).max(-1)
  np.testing.assert_allclose(got, want, rtol=2e-5)
