# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/gradnorm_optax/blob/main/notebooks/01_deep_nets.ipynb)
#
# # A deep net that does not train, and one line that makes it
#
# Twelve sigmoid layers, a gradient that shrinks a few times with every layer,
# and an optimizer that never leaves the start. **Block-Normalized Gradient**
# (BNG, [arXiv 1707.04822](https://arxiv.org/abs/1707.04822)) divides each
# layer's gradient by its L2 norm before the optimizer sees it:
#
# ```python
# tx = gn.bng(optax.adam(3e-3))      # in place of optax.adam(3e-3)
# ```
#
# We look at the norms, train with and without it, and look again. One to two
# minutes on two CPU cores. The mathematics and the caveats are in
# `docs/block_norm.md`.

# %%
# Does nothing where the library is installed. Elsewhere (Colab) it installs it:
# from the checkout around this notebook, or from SOURCE (or a wheel of yours).
SOURCE = 'gradnorm_optax[lab] @ git+https://github.com/OWNER/gradnorm_optax'

import importlib.util
import pathlib
import subprocess
import sys

if importlib.util.find_spec('gradnorm_optax') is None:
  checkout = pathlib.Path('../pyproject.toml').exists()
  subprocess.run([sys.executable, '-m', 'pip', 'install', '-q',
                  '..[lab]' if checkout else SOURCE], check=True)

# %%
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax
from matplotlib import pyplot as plt
from sklearn import datasets

import gradnorm_optax as gn

SMOKE = os.environ.get('SMOKE') == '1'  # seconds, for the tests
STEPS = 500 if SMOKE else 3000
POINTS = 10 if SMOKE else 30  # on each learning curve
DEPTH, WIDTH, BATCH = 12, 100, 100
plt.rcParams.update({'figure.dpi': 80, 'font.size': 11, 'axes.grid': True,
                     'grid.alpha': 0.3})

# %% [markdown]
# ## The net and the data
#
# Scikit-learn's 1797 digits, 8 x 8 pixels; twelve layers of 100 sigmoid units,
# nothing that would help the gradient: no residual sums, no batch norm.

# %%
digits = datasets.load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
x, y = (digits.data[order] / 16).astype(np.float32), digits.target[order]
x_train, x_valid = jnp.asarray(x[:1437]), jnp.asarray(x[1437:])
y_train, y_valid = jnp.asarray(y[:1437]), jnp.asarray(y[1437:])


class MLP(nn.Module):

  @nn.compact
  def __call__(self, x):
    for i in range(DEPTH):
      x = nn.sigmoid(nn.Dense(WIDTH, name=f'layer{i + 1:02d}')(x))
    return nn.Dense(10, name='output')(x)


model = MLP()
start = model.init(jax.random.key(0), x_train[:1])['params']


def loss(params, x, y):
  logits = model.apply({'params': params}, x)
  return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


# %% [markdown]
# A *block* is what gets one norm. The default is a layer, kernel and bias
# together, as in the paper. `gn.explain` shows what that means for a tree:

# %%
print(gn.explain(start))

# %% [markdown]
# ## What the optimizer is given
#
# `gn.record_block_norms` changes nothing and remembers the norms of what passes
# through. One in front of the normalization and one behind it:

# %%
probe = optax.chain(
    gn.record_block_norms('gradient'),
    gn.normalize_by_block_norm(),
    gn.record_block_norms('normalized'))
gradient = jax.grad(loss)(start, x_train[:BATCH], y_train[:BATCH])
_, probe_state = probe.update(gradient, probe.init(start))
norms_at_start = {name: {label: float(norm) for label, norm in norms.items()}
                  for name, norms in gn.block_norms(probe_state).items()}

# %%
LAYERS = [*(str(i + 1) for i in range(DEPTH)), 'out']


def plot_norms(axis, norms, label, **style):
  axis.semilogy(LAYERS, list(norms.values()), label=label, markersize=6,
                **style)


def finish(axis, title):
  axis.set(title=title, xlabel='layer (1: next to the input)',
           ylabel='L2 norm of the layer\'s gradient')
  axis.legend()


fig, axis = plt.subplots(figsize=(7.5, 4.2), layout='constrained')
plot_norms(axis, norms_at_start['gradient'], 'gradient', color='C3', marker='o')
plot_norms(axis, norms_at_start['normalized'], 'behind normalize_by_block_norm',
           color='C0', marker='s', linestyle='--')
finish(axis, f'{DEPTH} sigmoid layers at the start: one mini-batch')

# %%
ends = norms_at_start['gradient']
print(f'layer 1: {ends["layer01"]:.1e}, output: {ends["output"]:.1e}')

# %% [markdown]
# ## Training
#
# An ordinary optax loop, compiled as one `lax.scan`. Every method gets four
# learning rates, the same cosine decay, the same start and the same batches.
# The recorder at the head of each chain keeps the raw gradient's norms.

# %%
METHODS = {
    'Adam': (optax.adam, (3e-4, 1e-3, 3e-3, 1e-2)),
    'Adam, no eps': (lambda rate: optax.adam(rate, eps=1e-25),
                     (3e-4, 1e-3, 3e-3, 1e-2)),
    'BNG + Adam': (lambda rate: gn.bng(optax.adam(rate)),
                   (3e-4, 1e-3, 3e-3, 1e-2)),
    'momentum': (lambda rate: optax.sgd(rate, momentum=0.9),
                 (3e-3, 1e-2, 3e-2, 1e-1)),
    'BNG + momentum': (lambda rate: gn.bng(optax.sgd(rate, momentum=0.9)),
                       (3e-3, 1e-2, 3e-2, 1e-1)),
}


@functools.partial(jax.jit, static_argnums=0)
def train(make, rate, params, key):
  """Returns curves: training loss, validation accuracy, gradient norms."""
  decay = optax.cosine_decay_schedule(1.0, STEPS)
  tx = optax.chain(gn.record_block_norms('gradient'),
                   make(lambda count: rate * decay(count)))

  def step(carry, key):
    params, state = carry
    batch = jax.random.randint(key, (BATCH,), 0, len(x_train))
    value, grads = jax.value_and_grad(loss)(
        params, x_train[batch], y_train[batch])
    updates, state = tx.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), value

  def stretch(carry, keys):
    (params, state), values = lax.scan(step, carry, keys)
    right = model.apply({'params': params}, x_valid).argmax(-1) == y_valid
    norms = gn.block_norms(state, 'gradient')
    return (params, state), (values.mean(), right.mean(), norms)

  keys = jax.random.split(key, (POINTS, STEPS // POINTS))
  return lax.scan(stretch, (params, tx.init(params)), keys)[1]


curves = {
    name: {rate: train(make, rate, start, jax.random.key(1))
           for rate in (rates[2:3] if SMOKE else rates)}
    for name, (make, rates) in METHODS.items()}

# %%
accuracy = {name: {rate: float(curve[1][-1]) for rate, curve in runs.items()}
            for name, runs in curves.items()}
best = {name: max(runs, key=runs.get) for name, runs in accuracy.items()}
print('validation accuracy after', STEPS, 'steps; guessing gives 10%')
for name, runs in accuracy.items():
  print(f'{name:15s}', '   '.join(
      f'{rate:g}: {right:4.0%}' for rate, right in runs.items()))

# %%
STYLES = {'Adam': ('C3', '-'), 'Adam, no eps': ('C1', ':'),
          'BNG + Adam': ('C0', '-'), 'momentum': ('C4', '--'),
          'BNG + momentum': ('C2', '--')}
steps = np.arange(1, POINTS + 1) * (STEPS // POINTS)
fig, (left, right) = plt.subplots(
    1, 2, figsize=(10.5, 4.8), layout='constrained')
for name, runs in curves.items():
  color, line = STYLES[name]
  for rate, (values, hits, _) in runs.items():
    style = (
        {'linewidth': 2.5, 'label': f'{name}, rate {rate:g}'}
        if rate == best[name] else {'linewidth': 0.8, 'alpha': 0.6})
    left.plot(steps, values, color=color, linestyle=line, **style)
    right.plot(steps, 100 * hits, color=color, linestyle=line, **style)
left.set(title='Training', xlabel='step', ylabel='cross-entropy (nats)')
right.set(title='Validation', xlabel='step', ylabel='right (%)', ylim=(0, 100))
legend = fig.legend(
    *left.get_legend_handles_labels(), loc='outside lower center', ncols=3,
    title='thick: the best of a method\'s four rates')

# %% [markdown]
# Adam and momentum alone stay at the loss of guessing, ln 10 = 2.30, whatever
# the rate. Adam does rescale each coordinate, but its denominator is at least
# its epsilon, 1e-8, and the entries of layer 1's gradient are about 1e-10.
# Taking the epsilon away ('no eps': 1e-25) frees the early layers, and the net
# learns a little. The same optimizers behind BNG learn most of the digits.
#
# ## The norms after training

# %%
fig, axis = plt.subplots(figsize=(7.5, 4.2), layout='constrained')
plot_norms(axis, norms_at_start['gradient'], 'at the start',
           color='black', marker='.', linestyle=':')
norms_at_end = {}
for name, marker in (('Adam', 'o'), ('BNG + Adam', 's'),
                     ('BNG + momentum', '^')):
  norms = curves[name][best[name]][2]
  norms_at_end[name] = {label: float(norm[-1]) for label, norm in norms.items()}
  plot_norms(axis, norms_at_end[name], f'after training with {name}',
             color=STYLES[name][0], linestyle=STYLES[name][1], marker=marker)
finish(axis, 'Gradient norms before any normalization, last mini-batch')

# %% [markdown]
# After Adam the profile is still that of the start: the early layers receive
# next to nothing. With BNG the net has moved to where all layers take part.
#
# ## To paste into your own loop
#
# Any optax optimizer goes inside; the loop does not change.

# %%
tx = gn.bng(optax.adam(3e-3))
params, state = start, tx.init(start)


@jax.jit
def step(params, state, x, y):
  grads = jax.grad(loss)(params, x, y)
  updates, state = tx.update(grads, state, params)
  return optax.apply_updates(params, updates), state


params, state = step(params, state, x_train[:BATCH], y_train[:BATCH])

# %% [markdown]
# **Keep in mind.** One seed on a small problem shows the mechanism, it does not
# rank methods; `gradnorm compare configs/digits_depth.toml` searches rates and
# repeats over seeds. A normalized step has a fixed length, so let the learning
# rate decay. On residual nets with batch norm the paper itself finds Adam
# *worse* with the plain form (`docs/block_norm.md` has its table).
