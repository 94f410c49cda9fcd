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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/gradnorm_optax/blob/main/notebooks/02_sing_transformer.ipynb)
#
# # SING on a transformer whose layers are scanned
#
# **SING** ([arXiv 2305.15997](https://arxiv.org/abs/2305.15997)) standardizes
# the gradient of every array before AdamW sees it: subtract each output unit's
# mean over its fan-in, divide by the array's L2 norm.
#
# ```python
# tx = gn.sing(schedule, weight_decay=1e-3, blocks=blocks)
# ```
#
# `nn.scan` stores all layers of a kind in one array. What must not happen is
# that six layers share one norm, so we tell the library which axis is the layer
# axis, check it in a table, look at the norms, and train. One to two minutes on
# two CPU cores. The mathematics and the authors' advice are in `docs/sing.md`.

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

import gradnorm_optax as gn
from gradnorm_optax.lab.data import generated_text

SMOKE = os.environ.get('SMOKE') == '1'  # seconds, for the tests
STEPS, POINTS = (30, 3) if SMOKE else (300, 15)
LAYERS, WIDTH, HEADS, LENGTH, BATCH = 6, 48, 4, 48, 16
plt.rcParams.update({'figure.dpi': 80, 'font.size': 11, 'axes.grid': True,
                     'grid.alpha': 0.3})

# %% [markdown]
# ## The text and the model
#
# A text made by a small grammar that counts, adds and closes its brackets; the
# model predicts the next character. Layers are pre-LN: attention and a
# two-layer perceptron, each behind a LayerNorm.

# %%
text = generated_text.text(1200 * LENGTH + 1)
print(text[:150])
alphabet = sorted(set(text))
codes = jnp.asarray([alphabet.index(c) for c in text])
x, y = codes[:-1].reshape(-1, LENGTH), codes[1:].reshape(-1, LENGTH)
x_train, y_train, x_valid, y_valid = x[:1000], y[:1000], x[1000:], y[1000:]


class Layer(nn.Module):

  @nn.compact
  def __call__(self, x, mask):
    y = nn.LayerNorm(name='attention_norm')(x)
    x = x + nn.MultiHeadDotProductAttention(HEADS, name='attention')(
        y, mask=mask)
    y = nn.LayerNorm(name='mlp_norm')(x)
    y = nn.gelu(nn.Dense(4 * WIDTH, name='mlp_in')(y))
    return x + nn.Dense(WIDTH, name='mlp_out')(y), None


class Transformer(nn.Module):

  @nn.compact
  def __call__(self, x):
    mask = nn.make_causal_mask(x)
    x = nn.Embed(len(alphabet), WIDTH, name='symbol')(x) + nn.Embed(
        LENGTH, WIDTH, name='position')(jnp.arange(LENGTH))
    layers = nn.scan(
        Layer, variable_axes={'params': 0}, split_rngs={'params': True},
        in_axes=nn.broadcast, length=LAYERS)
    x, _ = layers(name='layers')(x, mask)
    return nn.Dense(len(alphabet), name='output')(
        nn.LayerNorm(name='final_norm')(x))


model = Transformer()
start = jax.jit(model.init)(jax.random.key(0), x_train[:1])['params']


def loss(params, x, y):
  logits = model.apply({'params': params}, x)
  return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


# %% [markdown]
# ## The blocks
#
# SING normalizes each array. `stacked` says that under `layers` axis 0 counts
# layers: every index is a block of its own and is never averaged over. In the
# table, `6 x 9216` reads six blocks of 9216 entries.

# %%
blocks = gn.Blocks('leaf', stacked={'layers/*': 0})
table = gn.explain(start, blocks)
print(table)

# %% [markdown]
# ## The norms before and after
#
# One gradient at the start, a recorder in front of `standardize` and one
# behind.

# %%
probe = optax.chain(
    gn.record_block_norms('gradient', blocks),
    gn.standardize(blocks),
    gn.record_block_norms('standardized', blocks))
gradient = jax.jit(jax.grad(loss))(start, x_train[:BATCH], y_train[:BATCH])
_, probe_state = jax.jit(probe.update)(gradient, probe.init(start))
norms_at_start = jax.tree.map(np.asarray, gn.block_norms(probe_state))

# %%
KERNELS = ('attention/query', 'attention/key', 'attention/value',
           'attention/out', 'mlp_in', 'mlp_out')
MARKERS = 'osv^DX'
layer = np.arange(1, LAYERS + 1)
fig, axes = plt.subplots(
    1, 2, figsize=(10.5, 4.7), sharey=True, layout='constrained')
for axis, (name, title) in zip(
    axes, {'gradient': 'Before: the gradient',
           'standardized': 'After standardize: all on 1'}.items(), strict=True):
  for i, kernel in enumerate(KERNELS):
    axis.semilogy(
        layer, norms_at_start[name][f'layers/{kernel}/kernel'], color=f'C{i}',
        marker=MARKERS[i], markersize=7, markerfacecolor='none', label=kernel)
  axis.set(title=title, xlabel='layer (1: next to the input)', xticks=layer)
axes[0].set_ylabel('L2 norm of a kernel\'s gradient')
legend = fig.legend(*axes[0].get_legend_handles_labels(),
                    loc='outside lower center', ncols=6)

# %% [markdown]
# One array cannot be standardized: attention does not depend on the bias of its
# keys, whose gradient is therefore rounding noise. Divided by its norm + 1e-8
# it stays noise, and moves a parameter that has no effect.

# %%
for name in ('gradient', 'standardized'):
  norms = norms_at_start[name]['layers/attention/key/bias']
  print(f'{name:13s} norm of the key biases:', ' '.join(
      f'{norm:.0e}' for norm in norms))

# %% [markdown]
# ## Training
#
# The authors advise about 10x AdamW's learning rate, a tenth of its decay, and
# 5% of warm-up before a cosine. Both methods search four rates, and get the
# same schedule, start and batches.

# %%
METHODS = {
    'AdamW': (lambda rate: optax.adamw(rate, weight_decay=1e-2),
              (1e-3, 3e-3, 1e-2, 3e-2)),
    'SING': (lambda rate: gn.sing(rate, weight_decay=1e-3, blocks=blocks),
             (3e-3, 1e-2, 3e-2, 1e-1)),
}


@functools.partial(jax.jit, static_argnums=0)
def train(make, rate, params, key):
  """Returns curves: validation loss and the norms of the raw gradient."""
  shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, STEPS // 20, STEPS)
  tx = optax.chain(gn.record_block_norms('gradient', blocks),
                   make(lambda count: rate * shape(count)))

  def step(carry, key):
    params, state = carry
    batch = jax.random.randint(key, (BATCH,), 0, len(x_train))
    grads = jax.grad(loss)(params, x_train[batch], y_train[batch])
    updates, state = tx.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), None

  def stretch(carry, keys):
    (params, state), _ = lax.scan(step, carry, keys)
    return (params, state), (
        loss(params, x_valid, y_valid), gn.block_norms(state, 'gradient'))

  keys = jax.random.split(key, (POINTS, STEPS // POINTS))
  return lax.scan(stretch, (params, tx.init(params)), keys)[1]


curves = {
    name: {rate: train(make, rate, start, jax.random.key(1))
           for rate in (rates[1:2] if SMOKE else rates)}
    for name, (make, rates) in METHODS.items()}

# %%
losses = {name: {rate: float(curve[0][-1]) for rate, curve in runs.items()}
          for name, runs in curves.items()}
best = {name: min(runs, key=runs.get) for name, runs in losses.items()}
print('validation loss after', STEPS, 'steps (nats per character)')
for name, runs in losses.items():
  print(f'{name:6s}', '   '.join(
      f'{rate:g}: {value:.3f}' for rate, value in runs.items()))

# %%
STYLES = {'AdamW': ('C3', '--'), 'SING': ('C0', '-')}
steps = np.arange(1, POINTS + 1) * (STEPS // POINTS)
fig, (left, right) = plt.subplots(
    1, 2, figsize=(10.5, 4.2), layout='constrained')
for name, runs in curves.items():
  color, line = STYLES[name]
  for rate, (values, _) in runs.items():
    left.plot(steps, values, color=color, linestyle=line, **(
        {'linewidth': 2.5, 'label': f'{name}, rate {rate:g}'}
        if rate == best[name] else {'linewidth': 0.8, 'alpha': 0.6}))
  right.semilogx(list(losses[name]), list(losses[name].values()), color=color,
                 linestyle=line, marker='o', label=name)
left.set(title='Validation during training', xlabel='step',
         ylabel='cross-entropy (nats per character)')
left.legend(title='thick: best of four rates')
right.set(title=f'After {STEPS} steps', xlabel='peak learning rate',
          ylabel='cross-entropy (nats per character)')
legend = right.legend()

# %% [markdown]
# In this run both methods are best at 0.01 and end alike. The tenfold rate of
# the advice, against AdamW at its usual 0.001, is the whole of that difference:
# search the rate of either method before comparing them.
#
# ## The gradient's norms during training
#
# Recorded at the head of each chain, so both panels show what the loss gives,
# not what the optimizer makes of it.

# %%
fig, axes = plt.subplots(
    1, 2, figsize=(10.5, 4.7), sharey=True, layout='constrained')
shades = plt.colormaps['viridis'](np.linspace(0, 0.85, LAYERS))
for axis, name in zip(axes, METHODS, strict=True):
  norms = curves[name][best[name]][1]['layers/mlp_in/kernel']
  for i in range(LAYERS):
    axis.semilogy(steps, norms[:, i], color=shades[i], marker=MARKERS[i],
                  markersize=5, label=f'layer {i + 1}')
  axis.set(title=f'{name}, rate {best[name]:g}', xlabel='step')
axes[0].set_ylabel('L2 norm of the gradient of mlp_in/kernel')
legend = fig.legend(*axes[0].get_legend_handles_labels(),
                    loc='outside lower center', ncols=6)

# %% [markdown]
# **Keep in mind.** One seed of a small model in 300 steps shows how the pieces
# fit; it does not rank AdamW and SING. `gradnorm compare
# configs/chars_sing.toml` repeats over seeds. Where the gradient's norm rises
# while the loss falls, the authors freeze LayerNorm's parameters: the code is
# in `docs/sing.md`.
