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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/gradnorm_optax/blob/main/notebooks/09_language_model.ipynb)
#
# # A small language model: Muon, row norms, fixed lengths
#
# Three optimizers of 2025 and 2026 that also give gradients, steps or weights
# one size, each a few lines of optax and this library:
#
# * **Muon** makes all singular values of a matrix's step one.
# * **Row-normalized momentum** makes the norm of each unit's step one.
# * **Fixed lengths** trains the direction of each unit's weights alone.
#
# We train a decoder of 0.2 M parameters on Python's own library with each and
# with AdamW, and look at what a step of each is and at how long the weights
# grow. Three to five minutes on two CPU cores. Formulas, sources and departures
# are in `docs/recipes.md`.

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

SMOKE = os.environ.get('SMOKE') == '1'  # seconds, for the tests
STEPS, POINTS = (20, 4) if SMOKE else (160, 10)
LAYERS, WIDTH, HEADS, LENGTH, BATCH = 4, 64, 4, 48, 12
plt.rcParams.update({'figure.dpi': 80, 'font.size': 11, 'axes.grid': True,
                     'grid.alpha': 0.3})

# %% [markdown]
# ## The text and the model
#
# The source of a dozen modules of the standard library, character by character;
# two other modules are for validation. The numbers below are those of one
# version of Python, another one's library is another text.

# %%
ROOT = pathlib.Path(os.__file__).parent


def read(*modules):
  text = ''.join((ROOT / f'{module}.py').read_text('utf-8')
                 for module in modules)
  return np.frombuffer(text.encode('ascii', 'replace'), np.uint8)


train_text = read('argparse', 'ast', 'calendar', 'configparser', 'csv', 'copy',
                  'difflib', 'enum', 'fractions', 'inspect', 'shutil',
                  'statistics')
valid_text = read('textwrap', 'queue')
print(f'{len(train_text):,} characters to train on, {len(valid_text):,} others')


class Layer(nn.Module):

  @nn.compact
  def __call__(self, x, mask):
    y = nn.LayerNorm(name='attention_norm')(x)
    x = x + nn.MultiHeadDotProductAttention(
        HEADS, use_bias=False, name='attention')(y, mask=mask)
    y = nn.LayerNorm(name='mlp_norm')(x)
    y = nn.gelu(nn.Dense(4 * WIDTH, use_bias=False, name='mlp_in')(y))
    return x + nn.Dense(WIDTH, use_bias=False, name='mlp_out')(y), None


class Decoder(nn.Module):

  @nn.compact
  def __call__(self, x):
    mask = nn.make_causal_mask(x)
    x = nn.Embed(128, WIDTH, name='symbol')(x) + nn.Embed(
        LENGTH, WIDTH, name='position')(jnp.arange(LENGTH))
    layers = nn.scan(
        Layer, variable_axes={'params': 0}, split_rngs={'params': True},
        in_axes=nn.broadcast, length=LAYERS)
    x, _ = layers(name='layers')(x, mask)
    return nn.Dense(128, name='output')(nn.LayerNorm(name='final_norm')(x))


model = Decoder()
start = jax.jit(model.init)(
    jax.random.key(0), jnp.zeros((1, LENGTH), jnp.int32))['params']
print(f'{sum(leaf.size for leaf in jax.tree.leaves(start)):,} parameters')


def loss(params, text):  # (batch, LENGTH + 1)
  logits = model.apply({'params': params}, text[:, :-1])
  return optax.softmax_cross_entropy_with_integer_labels(
      logits, text[:, 1:]).mean()


def windows(text, begin):
  return jnp.asarray(text, jnp.int32)[
      begin[:, None] + jnp.arange(LENGTH + 1)]


# %% [markdown]
# ## Which axes
#
# All three need to know what a unit is. In a scanned decoder axis 0 counts
# layers, queries store (layer, in, heads, head size), and so on: `gn.Blocks`
# says so once, `gn.explain` shows it. `skip` leaves the embeddings and the head
# to Adam, as Muon's authors do; vectors go there by themselves.

# %%
blocks = gn.Blocks('unit', stacked={'layers/*': 0},
                   skip=['symbol/*', 'position/*', 'output/*'])
print(gn.explain(start, blocks))
table = gn.muon_dimension_numbers(start, blocks)
for name in ('query', 'out'):
  print(f'{name:6s}', table['layers']['attention'][name]['kernel'])

# %% [markdown]
# ## The four

# %%
ADAM = 3e-3  # the rate of what is left to Adam
MATRICES = jax.tree.map(
    lambda axes: 'rest' if axes is None else 'rows', table,
    is_leaf=lambda axes: axes is None
    or isinstance(axes, optax.contrib.MuonDimensionNumbers))


def muon(rate, shape):
  return optax.contrib.muon(
      lambda count: rate * shape(count),
      adam_learning_rate=lambda count: ADAM * shape(count),
      muon_weight_dimension_numbers=table)


def row_norms(rate, shape):
  rows = optax.chain(
      optax.trace(0.95),
      gn.normalize_by_block_norm(blocks),
      optax.scale_by_learning_rate(lambda count: rate * shape(count)))
  rest = optax.adam(lambda count: ADAM * shape(count))
  return optax.partition({'rows': rows, 'rest': rest}, MATRICES)


def fixed_lengths(rate, shape):
  return gn.weight_normalized(
      optax.adam(lambda count: rate * shape(count)), where='layers/*kernel',
      blocks=blocks, lengths='fixed')


def adamw(rate, shape):
  return optax.adamw(lambda count: rate * shape(count), weight_decay=1e-2)


METHODS = {
    'AdamW': (adamw, (1e-3, 3e-3, 1e-2)),
    'Muon': (muon, (1e-2, 3e-2, 1e-1)),
    'row norms': (row_norms, (1e-2, 3e-2, 1e-1)),
    'fixed lengths': (fixed_lengths, (1e-3, 3e-3, 1e-2)),
}

# %% [markdown]
# ## What a step is
#
# The first step of each, for the matrix that leads into the first layer's
# perceptron: its singular values, and the norms of its units' parts, both
# against the largest.

# %%
KERNEL = ('layers', 'mlp_in', 'kernel')  # (layer, in, out)


def kernel(tree):
  for name in KERNEL:
    tree = tree[name]
  return np.asarray(tree)


rng = np.random.default_rng(0)
batch = windows(train_text, rng.integers(0, len(train_text) - LENGTH, BATCH))
gradient = jax.jit(jax.grad(loss))(start, batch)


@functools.partial(jax.jit, static_argnums=0)
def first_step(make, gradient, start):
  tx = make(1e-2, lambda count: 1.0)
  return tx.update(gradient, tx.init(start), start)[0]


steps = {'gradient': gradient, **{
    name: first_step(make, gradient, start) for name, (make, _) in METHODS.items()}}
singular, rows = {}, {}
for name, tree in steps.items():
  matrix = kernel(tree)[0].astype(np.float64)
  singular[name] = np.linalg.svd(matrix, compute_uv=False)
  rows[name] = np.sort(np.linalg.norm(matrix, axis=0))[::-1]

fig, axes = plt.subplots(1, 2, figsize=(10.5, 4.6), layout='constrained')
for i, name in enumerate(steps):
  style = {'color': 'black', 'linestyle': ':'} if i == 0 else {
      'color': f'C{i - 1}'}
  for axis, values in zip(axes, (singular[name], rows[name]), strict=True):
    axis.semilogy(values / values[0], label=name, **style)
axes[0].set(title='Singular values of the first step',
            xlabel='which, the largest first', ylabel='against the largest',
            ylim=(1e-3, 2))
axes[1].set(title='Norm of each unit\'s step', xlabel='which, the largest first',
            ylabel='against the largest', ylim=(1e-2, 2))
legend = fig.legend(*axes[0].get_legend_handles_labels(), ncols=5,
                    loc='outside lower center')

# %% [markdown]
# Muon's singular values lie within a factor of two, where the gradient's span
# more than two decades; its five iterations make them alike, not equal. The last
# is zero, but for Adam's steps: what leaves a LayerNorm sums to zero. Row norms has one
# size for every unit, and most of the gradient's singular values. Fixed lengths
# steps nearly as AdamW does, without the part along each unit's weights.
#
# ## Training
#
# Three rates each, one warm-up and cosine, one start, the same windows.


# %%
@functools.partial(jax.jit, static_argnums=0)
def train(make, rate, begins):
  """Returns validation losses and the kernel's mean length by layer."""
  shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, STEPS // 10, STEPS)
  tx = make(rate, shape)
  held_out = windows(valid_text, jnp.linspace(
      0, len(valid_text) - LENGTH - 1, 64).astype(jnp.int32))

  def step(carry, begin):
    params, state = carry
    grads = jax.grad(loss)(params, windows(train_text, begin))
    updates, state = tx.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), None

  def stretch(carry, begins):
    carry, _ = lax.scan(step, carry, begins)
    params = carry[0]
    weights = params['layers']['mlp_in']['kernel']
    return carry, (loss(params, held_out),
                   jnp.linalg.norm(weights, axis=1).mean(-1))

  return lax.scan(stretch, (start, tx.init(start)), begins)[1]


begins = jnp.asarray(rng.integers(
    0, len(train_text) - LENGTH - 1, (POINTS, STEPS // POINTS, BATCH)))
curves = {name: {rate: jax.device_get(train(make, rate, begins))
                 for rate in (rates[1:2] if SMOKE else rates)}
          for name, (make, rates) in METHODS.items()}

# %%
ends = {name: {rate: float(np.nan_to_num(losses[-1], nan=np.inf))
               for rate, (losses, _) in runs.items()}
        for name, runs in curves.items()}
best = {name: min(found, key=found.get) for name, found in ends.items()}
print(f'nats a character after {STEPS} steps, two modules not trained on')
for name, found in ends.items():
  print(f'{name:14s}', '   '.join(
      f'{rate:g}: {end:.3f}' for rate, end in found.items()))

# %%
at = np.arange(1, POINTS + 1) * (STEPS // POINTS)
fig, axis = plt.subplots(figsize=(7.5, 4.4), layout='constrained')
for i, (name, runs) in enumerate(curves.items()):
  for rate, (losses, _) in runs.items():
    chosen = rate == best[name]
    axis.plot(at, losses, color=f'C{i}', linewidth=2.2 if chosen else 0.8,
              alpha=1 if chosen else 0.6,
              label=f'{name}, rate {rate:g}' if chosen else None)
axis.set(title='Validation (thick: the best of three rates)', xlabel='step',
         ylabel='nats a character', ylim=(None, 4))
legend = axis.legend()

# %% [markdown]
# Muon is ahead by a tenth of a nat at its best rate, and equals AdamW at the two
# others; row norms stays two tenths behind. AdamW and fixed
# lengths run one course, so that one line covers the other: in so few steps the
# lengths hardly matter. Both are best at their largest rate; a wider grid might
# find a better one.
#
# ## How long the weights grow

# %%
before = np.linalg.norm(kernel(start), axis=1).mean(-1)
grown = {name: runs[best[name]][1] / before for name, runs in curves.items()}
fig, axis = plt.subplots(figsize=(7.5, 4.2), layout='constrained')
for i, (name, lengths) in enumerate(grown.items()):
  for layer in range(LAYERS):
    axis.plot(at, lengths[:, layer], color=f'C{i}', linewidth=1.4,
              label=name if layer == 0 else None)
axis.set(title='mlp_in: mean length of a unit\'s weights, a line a layer',
         xlabel='step', ylabel='against the start')
legend = axis.legend()

# %% [markdown]
# Weights grow: 2.4 times with row norms, 1.7 with Muon, a few percent with AdamW,
# at these rates. The longer a unit's weights, the less a step turns them, so the schedule
# decays twice. With fixed lengths a rate is an angle from the first step to the
# last; weight decay is the usual answer for the others.
#
# **Keep in mind.** One seed, 160 steps and 0.2 M parameters show what the methods
# do and do not rank them. In the lab all four are rows of a configuration
# (`docs/recipes.md` has the tables), with several seeds, longer runs and
# intervals. Compositions (SING or BNG in front of Muon, Muon inside weight
# normalization) are one line each there.
