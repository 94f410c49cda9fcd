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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/gradnorm_optax/blob/main/notebooks/03_five_methods.ipynb)
#
# # Five methods in ten minutes
#
# One small net, one data set, three starts: one that is made to train, one
# whose gradient vanishes, one whose units are out of balance. Four of the
# library's five methods go in front of, around, or in place of the optimizer;
# the fifth chooses the examples of a recurrent net. Each is one line:
#
# ```python
# gn.bng(optax.sgd(rate, momentum=0.9))            # Block-Normalized Gradient
# gn.sing(rate)                                    # SING
# gn.path_sgd(rate, net, example)                  # Path-SGD
# gn.weight_normalized(optax.adam(rate))           # Weight Normalization
# gn.sgr.select(scores, Q, key, size=12, low=-2.5, high=1.0)         # SGR
# ```
#
# One to three minutes on two CPU cores. `docs/choosing.md` says when each is
# worth a try, and each method has a page of its own.

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
from sklearn import datasets

import gradnorm_optax as gn

SMOKE = os.environ.get('SMOKE') == '1'  # seconds, for the tests
STEPS, POINTS = (100, 5) if SMOKE else (600, 20)
DEPTH, WIDTH, BATCH = 6, 48, 50
plt.rcParams.update({'figure.dpi': 80, 'font.size': 11, 'axes.grid': True,
                     'grid.alpha': 0.3})

# %% [markdown]
# ## A net, and three starts
#
# Scikit-learn's 1797 digits and a ReLU net in plain JAX. Parameters are any
# tree: here {layer: {kernel, bias}}.

# %%
digits = datasets.load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
x, y = (digits.data[order] / 16).astype(np.float32), digits.target[order]
x_train, x_valid = jnp.asarray(x[:1437]), jnp.asarray(x[1437:])
y_train, y_valid = jnp.asarray(y[:1437]), jnp.asarray(y[1437:])
SIZES = [64, *[WIDTH] * DEPTH, 10]


def net(params, x):
  *hidden, output = params.values()
  for layer in hidden:
    x = jax.nn.relu(x @ layer['kernel'] + layer['bias'])
  return x @ output['kernel'] + output['bias']


def loss(params, x, y):
  return optax.softmax_cross_entropy_with_integer_labels(
      net(params, x), y).mean()


def starts(rng):
  """Returns He's start, a small one, and one with its units rescaled."""
  layers = [rng.normal(0, np.sqrt(2 / n), (n, m))
            for n, m in zip(SIZES[:-1], SIZES[1:], strict=True)]
  small = [0.4 * kernel for kernel in layers]
  unbalanced = [kernel.copy() for kernel in layers]
  for before, behind in zip(unbalanced[:-1], unbalanced[1:], strict=True):
    factors = np.exp(rng.normal(0, 2, before.shape[1]))
    before *= factors  # into each unit, and out of it:
    behind /= factors[:, None]
  return {name: {f'layer{i + 1}': {
      'kernel': jnp.asarray(kernel, jnp.float32),
      'bias': jnp.zeros(kernel.shape[1])} for i, kernel in enumerate(kernels)}
      for name, kernels in (('balanced', layers), ('vanishing', small),
                            ('unbalanced', unbalanced))}


STARTS = starts(np.random.default_rng(1))

# %% [markdown]
# The unbalanced start computes the same function as the balanced one: what a
# ReLU unit receives is multiplied by a factor, what it sends divided. Look at
# what an optimizer is given, before choosing a method:

# %%
recorder = gn.record_block_norms('gradient')
norms = {}
for name, params in STARTS.items():
  gradient = jax.grad(loss)(params, x_train, y_train)
  _, state = recorder.update(gradient, recorder.init(params))
  norms[name] = {block: float(norm) for block, norm in
                 gn.block_norms(state, 'gradient').items()}

COLORS = {'balanced': 'C2', 'vanishing': 'C3', 'unbalanced': 'C1'}
fig, axis = plt.subplots(figsize=(7.5, 4), layout='constrained')
for (name, values), marker in zip(norms.items(), 'os^', strict=True):
  axis.semilogy(range(1, DEPTH + 2), list(values.values()), label=name,
                marker=marker, color=COLORS[name])
axis.set(title='Gradient of the first step, layer by layer',
         xlabel='layer (1: next to the input)',
         ylabel='L2 norm of the layer\'s gradient')
legend = fig.legend(*axis.get_legend_handles_labels(),
                    loc='outside right center')

# %% [markdown]
# ## Four methods, one loop
#
# An ordinary optax loop. All methods see the same batches and let their rate
# decay along a cosine; each gets six learning rates a factor of ten apart.
# One compiled program per method runs over the starts and the rates.
#
# * **BNG** divides each layer's gradient by its norm.
# * **SING** centers each output unit's gradient, divides each array's by its
#   norm, and hands it to AdamW.
# * **Path-SGD** divides each entry by the strength of the paths through it, all
#   else equal. It needs the net and the shape of one example.
# * **Weight normalization** trains length and direction of each unit's weights
#   apart; the net does not change.

# %%
EXAMPLE = jax.ShapeDtypeStruct((1, 64), jnp.float32)
METHODS = {
    'momentum': (lambda rate: optax.sgd(rate, momentum=0.9), -4),
    'Adam': (optax.adam, -5),
    'BNG + momentum': (
        lambda rate: gn.bng(optax.sgd(rate, momentum=0.9)), -5),
    'SING': (gn.sing, -5),
    'Path-SGD': (lambda rate: gn.path_sgd(rate, net, EXAMPLE), -4),
    'WN + Adam': (lambda rate: gn.weight_normalized(optax.adam(rate)), -5),
}
PAIRS = [(start, i) for start in STARTS for i in range(6)]


@functools.partial(jax.jit, static_argnums=0)
def train(make, params, rate):
  """Returns curves of the training loss and of the right answers."""
  decay = optax.cosine_decay_schedule(1.0, STEPS)
  tx = make(lambda count: rate * decay(count))

  def step(carry, key):
    params, state = carry
    batch = jax.random.randint(key, (BATCH,), 0, len(x_train))
    value, grads = jax.value_and_grad(loss)(
        params, x_train[batch], y_train[batch])
    updates, state = tx.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), value

  def stretch(carry, keys):
    carry, values = lax.scan(step, carry, keys)
    right = net(carry[0], x_valid).argmax(-1) == y_valid
    return carry, (values.mean(), right.mean())

  keys = jax.random.split(jax.random.key(2), (POINTS, STEPS // POINTS))
  return lax.scan(stretch, (params, tx.init(params)), keys)[1]


curves = {
    name: {(start, 10.0 ** (first + i)): jax.device_get(
        train(make, STARTS[start], 10.0 ** (first + i)))
        for start, i in PAIRS}
    for name, (make, first) in METHODS.items()}

# %%
# The rate whose training loss ends lowest; a run that diverged counts as inf.
best = {}
for name, runs in curves.items():
  for start in STARTS:
    ends = {rate: float(np.nan_to_num(curve[0][-1], nan=np.inf))
            for (begun, rate), curve in runs.items() if begun == start}
    best[name, start] = min(ends, key=ends.get)
right = {(name, start): float(curves[name][start, rate][1][-1])
         for (name, start), rate in best.items()}
print(f'right answers on {len(y_valid)} fresh digits after {STEPS} steps '
      '(best rate)')
print(' ' * 16, *(f'{start:>18s}' for start in STARTS))
for name in METHODS:
  print(f'{name:16s}', *(
      f'{right[name, start]:9.1%} ({best[name, start]:5.0e})'
      for start in STARTS))
reach = {(name, start): sum(bool(curve[1][-1] > 0.8) for (begun, _), curve in
                            curves[name].items() if begun == start)
         for name, start in best}
print('of six rates, so many reach 80%:')
for name in METHODS:
  print(f'{name:16s}', *(f'{reach[name, start]:18d}' for start in STARTS))
courses = [curves['Path-SGD'][start, best['Path-SGD', 'balanced']][0]
           for start in ('balanced', 'unbalanced')]
gap = float(np.abs(courses[1] / courses[0] - 1).max())
print(f'Path-SGD from the balanced and the unbalanced start: training losses '
      f'differ by at most {gap:.0e} of their size')

# %%
steps = np.arange(1, POINTS + 1) * (STEPS // POINTS)
fig, axes = plt.subplots(1, 3, figsize=(11, 4.6), sharey=True,
                         layout='constrained')
for axis, start in zip(axes, STARTS, strict=True):
  for i, name in enumerate(METHODS):
    axis.semilogy(steps, curves[name][start, best[name, start]][0], label=name,
                  color=f'C{i}', linestyle='--' if i < 2 else '-')
  axis.set(title=start, xlabel='step')
axes[0].set(ylabel='training loss (nats)', ylim=(1e-4, 10))
legend = fig.legend(*axes[0].get_legend_handles_labels(), ncols=6,
                    loc='outside lower center')

# %% [markdown]
# What the table says, of one seed:
#
# * **Balanced:** everything trains. There is nothing to repair, and a method
#   that costs something should be left out.
# * **Vanishing:** momentum trains at one rate of six, and only a search finds
#   it. Behind BNG momentum's rate has another scale, but no more of the six
#   reach 80%; Adam and what stands around it, SING and weight normalization,
#   have two. Path-SGD trains at none: its scale falls faster than the gradient
#   does (0.4^12 against 0.4^6 in the first layer), so that a rate that suits
#   the start is far too small for a net that has grown.
# * **Unbalanced:** momentum diverges at all rates but the smallest, and gets
#   seven digits in ten there. Path-SGD runs the course that it runs from the
#   balanced start, at the same rate. The others train, a few points worse;
#   Adam, SING and weight normalization at a rate ten times smaller.
#
# No method wins everywhere, and none is free of a search for its rate.
# `gradnorm compare` makes that search, over several seeds, and asks whether a
# difference is one.
#
# ## The fifth chooses examples: SGR
#
# A recurrent net learns over *h* steps only if the gradient still arrives *h*
# steps back. SGR measures that gradient (`Q`, log10 of its norm against that at
# the last step), scores every example of a pool by how a step on it would move
# `Q`, and trains on those that bring `Q` back into a safe range.
#
# A tanh net of 16 units reads two channels for 30 steps and has to say the very
# first number of the first channel. What SGR asks of the loss is an argument
# `perturb` that is added to the pre-activations.

# %%
LENGTH, UNITS, POOL, SIZE, LOW = 30, 16, 60, 12, -2.5
SGR_STEPS = 100 if SMOKE else 400


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


def recurrent_start(rng):
  rotation = np.linalg.qr(rng.normal(size=(UNITS, UNITS)))[0]
  arrays = {'in': 0.3 * rng.normal(size=(2, UNITS)), 'rec': 0.75 * rotation,
            'out': 0.3 * rng.normal(size=UNITS)}
  return {name: jnp.asarray(array, jnp.float32)
          for name, array in arrays.items()}


@functools.partial(jax.jit, static_argnums=0)
def train_recurrent(sampled, params):
  """Returns Q, the mean loss over the pool and the mode at every step."""
  tx = optax.chain(optax.clip_by_global_norm(1.0),
                   optax.sgd(0.03, momentum=0.9))

  def step(carry, key):
    params, state = carry
    x = jax.random.normal(key, (POOL, LENGTH, 2))
    pool = x, x[:, 0, 0]
    scores, Q = gn.sgr.contributions(
        recall, params, pool, shape=(LENGTH, POOL, UNITS), horizon=LENGTH - 1,
        probe=SIZE, relative=True)
    low, high = (LOW, 1.0) if sampled else (-jnp.inf, jnp.inf)
    chosen = gn.sgr.select(scores, Q, key, size=SIZE, low=low, high=high)
    few = jax.tree.map(lambda a: a[chosen.indices], pool)
    still = jnp.zeros((LENGTH, POOL, UNITS))
    grads = jax.grad(
        lambda w: recall(w, few, still[:, :SIZE]).mean())(params)
    updates, state = tx.update(grads, state, params)
    error = recall(params, pool, still).mean()
    return ((optax.apply_updates(params, updates), state),
            (Q, error, chosen.mode))

  keys = jax.random.split(jax.random.key(3), SGR_STEPS)
  return lax.scan(step, (params, tx.init(params)), keys)[1]


start = recurrent_start(np.random.default_rng(4))
recurrent = {name: jax.device_get(train_recurrent(sampled, start))
             for name, sampled in (('random', False), ('SGR', True))}

# %%
fig, (left, right_axis) = plt.subplots(1, 2, figsize=(10.5, 4),
                                       layout='constrained')
window = SGR_STEPS // 20
for name, color in (('random', 'C3'), ('SGR', 'C0')):
  Q, errors, _ = recurrent[name]
  left.plot(Q, color=color, label=name, linewidth=1)
  right_axis.plot(np.arange(window // 2, SGR_STEPS, window),
                  errors.reshape(-1, window).mean(1), color=color, label=name)
left.axhline(LOW, color='black', linestyle=':', label='low: SGR acts below it')
left.set(title='The gradient 29 steps back', xlabel='step',
         ylabel='Q: decades against the last step')
right_axis.set(title='Recalling the first number', xlabel='step',
               ylabel='mean squared error (1: knows nothing)')
left.legend()
legend = right_axis.legend()
for name, (Q, errors, mode) in recurrent.items():
  print(f'{name:7s} Q from {Q[:10].mean():.1f} to {Q[-10:].mean():.1f}, error '
        f'{errors[:10].mean():.2f} to {errors[-10:].mean():.2f}, '
        f'acted in {np.mean(mode != 0):.0%} of the steps')

# %% [markdown]
# Random batches leave `Q` five decades down, and the net learns next to
# nothing. SGR's choice brings the gradient back within a few dozen steps, and
# the error falls by more than half. It is no smooth course: at a constant rate
# the net swings between a gradient that arrives and one that does not, and SGR
# acts again each time. One start shows the mechanism and proves little; in
# `docs/sgr_study.md` SGR rescued 6 of 20 starts.
#
# ## Which one?
#
# Look at the norms first (`gn.record_block_norms`, as in the first figure).
# `docs/choosing.md` goes on from what you see; `gradnorm compare` decides on
# your own data.
