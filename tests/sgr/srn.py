"""Simple recurrent nets in NumPy, with loops, and the same one in JAX."""

import jax
import numpy as np
from jax import numpy as jnp

F = {'tanh': (np.tanh, lambda a: 1 - np.tanh(a) ** 2),
     'relu': (lambda a: np.maximum(a, 0), lambda a: (a > 0) * 1.0),
     'linear': (lambda a: a, np.ones_like)}


def forward(p, u, f):
  """Returns pre-activations (T, B, H) and outputs (B,)."""
  z = np.zeros((u.shape[0], p['rec'].shape[0]))
  seen = []
  for k in range(u.shape[1]):
    a = u[:, k] @ p['in'] + z @ p['rec'] + p['b']
    z = F[f][0](a)
    seen.append(a)
  return np.stack(seen), z @ p['out']


def losses(p, u, t, f):
  return (forward(p, u, f)[1] - t) ** 2 / 2


def deltas(p, u, t, f):
  """The explicit backward recursion."""
  a, y = forward(p, u, f)
  back = (y - t)[:, None] * p['out'] * F[f][1](a[-1])
  found = [back]
  for k in range(len(a) - 2, -1, -1):
    back = (back @ p['rec'].T) * F[f][1](a[k])
    found.append(back)
  return np.stack(found[::-1])


def log_norm(d, horizon, relative=False):
  def at(k):
    return np.log10(np.mean(np.sqrt((d[k] ** 2).sum(-1))))
  last = len(d) - 1
  return at(last - horizon) - (at(last) if relative else 0)


def jax_loss(f):
  act = {'tanh': jnp.tanh, 'relu': jax.nn.relu, 'linear': lambda a: a}[f]

  def per_example_loss(p, batch, perturb):
    u, t = batch
    drive = jnp.swapaxes(u, 0, 1) @ p['in']
    drive = drive + jnp.broadcast_to(p['b'], drive.shape) + perturb
    z, _ = jax.lax.scan(lambda z, a: (act(a + z @ p['rec']), None),
                        jnp.zeros_like(drive[0]), drive)
    return (z @ p['out'] - t) ** 2 / 2
  return per_example_loss


def problem(steps=8, batch=6, width=5, channels=3, scale=1.0, seed=0):
  """Returns parameters, inputs and targets: float32 numbers as float64."""
  rng = np.random.default_rng(seed)
  p = {'in': rng.normal(size=(channels, width)) / 4,
       'rec': scale * rng.normal(size=(width, width)) / width**.5,
       'b': rng.normal(size=width) / 4,
       'out': rng.normal(size=width) / width**.5}
  u, t = rng.normal(size=(batch, steps, channels)), rng.normal(size=batch)
  return jax.tree.map(lambda a: np.float64(np.float32(a)), (p, u, t))


def cast(tree, dtype):
  return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)
