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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/gradnorm_optax/blob/main/notebooks/06_recurrent.ipynb)
#
# # Recurrent nets and the gradient through time
#
# Shall a net answer at step 40 to what it read at step 1, the gradient must
# arrive 39 steps back. In a simple recurrent net it shrinks or grows a little
# with every step, and a little to the power of 39 is nothing or too much.
#
# We measure that gradient (`gn.sgr.deltas`), train with and without
# **Sampling-based Gradient Regularization** (SGR,
# [arXiv 1606.07767](https://arxiv.org/abs/1606.07767)), which chooses the
# examples of each step so that it stays in a safe range, and look at what
# arrives afterwards:
#
# ```python
# s, Q = gn.sgr.contributions(loss, params, pool, shape=..., horizon=39)
# chosen = gn.sgr.select(s, Q, key, size=12, low=-2.5, high=1.0)
# ```
#
# Two minutes on two CPU cores. Mathematics, LSTMs and NNX are in `docs/sgr.md`,
# ten paired seeds in `docs/sgr_study.md`.

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
from jax import lax
from matplotlib import pyplot as plt

import gradnorm_optax as gn

SMOKE = os.environ.get('SMOKE') == '1'  # seconds, for the tests
STEPS = 80 if SMOKE else 500
SEEDS = 2 if SMOKE else 6
LENGTH, UNITS, POOL, SIZE = 40, 16, 60, 12
LOW, HIGH = -2.5, 1.0  # the safe range, in decades
plt.rcParams.update({'figure.dpi': 80, 'font.size': 11, 'axes.grid': True,
                     'grid.alpha': 0.3})

# %% [markdown]
# ## A net that has to remember
#
# Two channels of noise for 40 steps; at the end the net says the very first
# number of the first channel. What is measured and regularized is the gradient
# by the pre-activations, so the loss takes one argument more, `perturb`, which
# is added to them; with zeros it is the loss of the net.
#
# `scale` multiplies a random rotation in the recurrent weights. Tanh's slope
# takes a part of it away again, so that at one the gradient still vanishes.


# %%
def recall(params, batch, perturb):
  """Returns the loss of each example of (inputs (B, T, 2), targets (B,))."""
  x, target = batch

  def step(state, drive):
    x, moved = drive
    return jnp.tanh(
        x @ params['in'] + state @ params['rec'] + moved), None

  state, _ = lax.scan(step, jnp.zeros((len(x), UNITS)),
                      (x.swapaxes(0, 1), perturb))
  return (state @ params['out'] - target) ** 2


def start(scale, seed):
  rng = np.random.default_rng(seed)
  rotation = np.linalg.qr(rng.normal(size=(UNITS, UNITS)))[0]
  arrays = {'in': 0.3 * rng.normal(size=(2, UNITS)), 'rec': scale * rotation,
            'out': 0.3 * rng.normal(size=UNITS)}
  return {name: jnp.asarray(array, jnp.float32)
          for name, array in arrays.items()}


def examples(key):
  x = jax.random.normal(key, (POOL, LENGTH, 2))
  return x, x[:, 0, 0]


STILL = jnp.zeros((LENGTH, POOL, UNITS))

# %% [markdown]
# ## The gradient, step by step back
#
# One backward pass gives it at every step: the derivative by `perturb`.

# %%
SCALES = (0.6, 0.8, 1.0, 1.3)
through_time, measured = {}, {}
pool = examples(jax.random.key(1))


@jax.jit
def deltas(params):
  return gn.sgr.deltas(recall, params, pool, STILL.shape)  # (T, B, H)


def going_back(params):
  """Returns the mean norm at the answer, a step before, two before, ..."""
  norms = jnp.linalg.norm(deltas(params), axis=-1).mean(1)[::-1]
  return norms / norms[0]


for scale in SCALES:
  through_time[scale] = np.asarray(going_back(start(scale, 0)))
  measured[scale] = float(gn.sgr.long_term_log_norm(
      deltas(start(scale, 0)), LENGTH - 1, relative=True))
  print(f'scale {scale}: Q = {measured[scale]:6.2f} decades, '
        f'{LENGTH - 1} steps back')

fig, axis = plt.subplots(figsize=(7.5, 4.2), layout='constrained')
for (scale, norms), marker in zip(through_time.items(), 'os^v', strict=True):
  axis.semilogy(norms, label=f'scale {scale}', marker=marker, markevery=5)
axis.axhspan(10 ** LOW, 10 ** HIGH, color='C2', alpha=0.15,
             label='the safe range')
axis.set(title='The gradient that arrives, four starts',
         xlabel='steps back from the answer',
         ylabel='mean norm, against that at the answer')
legend = axis.legend()

# %% [markdown]
# `Q`, the long-term log norm, is the last point of such a curve, in decades.
# `horizon` says how many steps back.
#
# ## What a normalization of the step leaves as it is
#
# BNG and Adam give each array's step a size. But an array of a recurrent net is
# used at all steps, and its gradient is a sum over them: the late steps drown
# the early ones in it, and dividing the sum by its norm leaves their shares as
# they were. A larger step may still help by luck, as we shall see.
#
# ## Choosing examples
#
# Each example's gradient step would move `Q` a little, up or down; the scores
# `s` say by how much, all by one forward-mode derivative of the pool. Below the
# safe range SGR takes those that raise `Q` most, above it those that lower it,
# within it random ones. Everything else is an ordinary step: every way gets the
# same starts, pools and five rates.

# %%
def clipped(make):
  return lambda rate: optax.chain(optax.clip_by_global_norm(1.0), make(rate))


def momentum(rate):
  return optax.sgd(rate, momentum=0.9)


RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
WAYS = {  # the optimizer, and whether SGR chooses
    'momentum': (clipped(momentum), False),
    'BNG + momentum': (lambda rate: gn.bng(momentum(rate)), False),
    'Adam': (clipped(optax.adam), False),
    'SGR + momentum': (clipped(momentum), True),
}


@functools.partial(jax.jit, static_argnums=(0, 1))
@functools.partial(jax.vmap, in_axes=(None, None, 0, None, None))  # rates
@functools.partial(jax.vmap, in_axes=(None, None, None, 0, 0))  # seeds
def train(make, sampled, rate, params, key):
  """Returns the trained parameters; Q, the pool's mean loss, whether it acted.

  All but the parameters at every step.
  """
  decay = optax.cosine_decay_schedule(1.0, STEPS)
  tx = make(lambda count: rate * decay(count))

  def step(carry, key):
    params, state = carry
    pool = examples(key)
    error = recall(params, pool, STILL).mean()
    scores, Q = gn.sgr.contributions(
        recall, params, pool, shape=STILL.shape, horizon=LENGTH - 1, probe=SIZE,
        relative=True)
    low, high = (LOW, HIGH) if sampled else (-jnp.inf, jnp.inf)
    chosen = gn.sgr.select(scores, Q, key, size=SIZE, low=low, high=high)
    few = jax.tree.map(lambda a: a[chosen.indices], pool)
    grads = jax.grad(
        lambda w: recall(w, few, STILL[:, :SIZE]).mean())(params)
    updates, state = tx.update(grads, state, params)
    return ((optax.apply_updates(params, updates), state),
            (Q, error, chosen.mode != 0))

  (params, _), seen = lax.scan(
      step, (params, tx.init(params)), jax.random.split(key, STEPS))
  return params, *seen


beginnings = jax.tree.map(
    lambda *leaves: jnp.stack(leaves), *(start(0.8, n) for n in range(SEEDS)))
keys = jax.random.split(jax.random.key(2), SEEDS)
runs = {  # each array: (rates, seeds, ...)
    way: jax.device_get(train(
        make, sampled, jnp.asarray(RATES), beginnings, keys))
    for way, (make, sampled) in WAYS.items()}

# %%
last = STEPS // 10
best = {}  # the rate's place, by the mean over the seeds
for way, (_, _, errors, acted) in runs.items():
  ends = np.nan_to_num(errors[..., -last:].mean(-1), nan=np.inf)
  best[way] = at = int(np.argmin(ends.mean(1)))
  print(f'{way:15s} rate {RATES[at]:<6g} error {ends[at].mean():.2f}  '
        'seeds', ' '.join(f'{end:.2f}' for end in sorted(ends[at])),
        f' SGR acted in {acted[at].mean():.0%}' if WAYS[way][1] else '')

# %%
fig, axes = plt.subplots(1, 2, figsize=(10.5, 4.6), layout='constrained')
window = STEPS // 20
steps = np.arange(20) * window + window / 2
for i, (way, (_, Q, errors, _)) in enumerate(runs.items()):
  for axis, values in zip(axes, (Q, errors), strict=True):
    smooth = values[best[way]][:, :20 * window].reshape(SEEDS, 20, -1).mean(-1)
    for seed, line in enumerate(smooth):
      axis.plot(steps, line, color=f'C{i}', linewidth=1.2, alpha=0.8,
                label=way if seed == 0 else None)
axes[0].axhspan(LOW, HIGH, color='C2', alpha=0.15)
axes[0].set(title=f'The gradient {LENGTH - 1} steps back (shaded: safe range)',
            xlabel='step', ylabel='Q: decades against the last step')
axes[1].set(title='Recalling the first number, a line a seed', xlabel='step',
            ylabel='mean squared error (1: knows nothing)')
legend = fig.legend(*axes[0].get_legend_handles_labels(), ncols=4,
                    loc='outside lower center')

# %% [markdown]
# Here the rate decides more than the method. With the rates that one would try
# first Adam learns from no start. SGR brings `Q` into the range within a few dozen
# steps, acts in a third of all, and learns from five starts of six where momentum
# alone learns from four and BNG from two. Adam at 0.1, a hundred times its usual
# rate, learns from all six, to an error of about 0.4, while its `Q` falls by dozens
# of decades: the units saturate and hold one bit. To know the sign of a normal
# number and nothing else leaves an error of 1 - 2/pi = 0.36. Four of SGR's nets
# went below that, one of momentum's and one of Adam's: they hold the number.
#
# ## The gradient after training
#
# The curves of the first figure once more, of the nets that were trained: the
# median over the seeds at each method's best rate.

# %%
after = {'at the start': jax.vmap(going_back)(beginnings)}
for way, (params, *_) in runs.items():
  after[way] = jax.vmap(going_back)(jax.tree.map(
      lambda leaf, at=best[way]: leaf[at], params))
fig, axis = plt.subplots(figsize=(7.5, 4.2), layout='constrained')
for i, (way, norms) in enumerate(after.items()):
  after[way] = np.median(norms, axis=0)
  axis.semilogy(after[way], label=way, color='black' if i == 0 else f'C{i - 1}',
                linestyle=':' if i == 0 else '-')
axis.axhspan(10 ** LOW, 10 ** HIGH, color='C2', alpha=0.15)
axis.set(title='The gradient that arrives, before and after training',
         xlabel='steps back from the answer',
         ylabel='median norm, against that at the answer')
legend = axis.legend()

# %% [markdown]
# Of SGR's nets the gradient arrives as it left; a longer training can go on from
# there. Adam's latched nets are done: nothing arrives that could improve them.
#
# **Keep in mind.** Six starts of a toy show what happens, they do not rank
# methods. In `docs/sgr_study.md`, ten paired seeds on longer tasks, SGR rescued 6
# of 20 starts whose gradient vanishes; where it arrives from the start, random
# batches learned as well. A step in which SGR acts costs about five others
# (`docs/sgr.md`). An LSTM or a better start is the first thing to try.
