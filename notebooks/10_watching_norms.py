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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/gradnorm_optax/blob/main/notebooks/10_watching_norms.ipynb)
#
# # Watching norms in production
#
# A job runs for days. Which layers' gradients left their usual range, and in
# which step? How far do parameters move, as a share of their size? The answers
# should cost a few numbers of state, no change of the loop, and no waiting:
#
# ```python
# tx = optax.chain(
#     gn.watch('gradient', learn=100),                         # before clipping
#     optax.clip_by_global_norm(1.0),
#     optax.adamw(1e-3),
#     gn.record_block_norms('step', every=10, ratio=True))     # at the end
# ```
#
# We train a small net while two things go wrong with its data, read what was
# noticed, send it to a tracker, and count what it costs. One minute on two CPU
# cores. All options are in `docs/telemetry.md`.

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
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib import pyplot as plt
from sklearn import datasets

import gradnorm_optax as gn

SMOKE = os.environ.get('SMOKE') == '1'  # seconds, for the tests
STEPS, LEARN = (320, 60) if SMOKE else (1200, 200)
BATCH, WIDTH, EVERY = 64, 64, 10
plt.rcParams.update({'figure.dpi': 80, 'font.size': 11, 'axes.grid': True,
                     'grid.alpha': 0.3})

# %% [markdown]
# ## A job, and what will go wrong with it
#
# Scikit-learn's digits with noise on each pixel, three hidden layers, a mean
# over the examples that a mask lets through. The pipeline has two faults that
# no exception tells of:
#
# * For three steps in the middle somebody else's preprocessing is at work:
#   pixels from 0 to 4096 instead of 0 to 1.
# * For five steps at three quarters the mask is empty: batches of padding only.

# %%
digits = datasets.load_digits()
rng = np.random.default_rng(0)
x_all = (digits.data / 16).astype(np.float32)
y_all = digits.target
LOUD = range(STEPS // 2 + 3, STEPS // 2 + 6)
EMPTY = range(3 * STEPS // 4 + 2, 3 * STEPS // 4 + 7)


def batches():
  """Yields (step, images, labels, mask): the pipeline, faults included."""
  for step in range(STEPS):
    rows = rng.integers(0, len(x_all), BATCH)
    noise = rng.normal(0, 0.5, (BATCH, 64)).astype(np.float32)
    factor = np.float32(4096 if step in LOUD else 1)
    mask = np.full(BATCH, step not in EMPTY, np.float32)
    yield step, factor * (x_all[rows] + noise), y_all[rows], mask


class MLP(nn.Module):

  @nn.compact
  def __call__(self, x):
    for i in (1, 2, 3):
      x = nn.relu(nn.Dense(WIDTH, name=f'layer{i}')(x))
    return nn.Dense(10, name='output')(x)


model = MLP()
start = model.init(jax.random.key(0), jnp.asarray(x_all[:1]))['params']


def loss(params, x, y, mask):
  logits = model.apply({'params': params}, x)
  each = optax.softmax_cross_entropy_with_integer_labels(logits, y)
  return (mask * each).sum() / jnp.maximum(mask.sum(), 1)


# %% [markdown]
# ## The chain
#
# The watcher stands first: it shall see the gradient before clipping hides how
# large it was. It learns each layer's range from its first readings. The
# recorder stands last, where the updates are what will be added to the
# parameters; `every=10` lets it read each tenth step only.

# %%
tx = optax.chain(
    gn.watch('gradient', learn=LEARN, margin=10.0),
    optax.clip_by_global_norm(1.0),
    optax.adamw(1e-3),
    gn.record_block_norms('step', every=EVERY, ratio=True))


def make_step(tx):
  def step(params, state, *batch):
    grads = jax.grad(loss)(params, *batch)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state
  return jax.jit(step)


# %% [markdown]
# A tracker is a function `(step, numbers)`. This one keeps what it is sent; in
# its place could stand `lambda step, values: wandb.log(values, step=step)`, or
# the hook of another tracker (`docs/telemetry.md` has a table).
# `gn.send_telemetry` touches the state in every tenth step only, so the loop
# does not wait for the device in the others.

# %%
history, alarms, counts = {}, [], {}


def tracker(step, values):
  history[step] = values


def alarm(step, values):
  """Says which counts of departures have grown since the last call."""
  for tag, value in values.items():
    if tag.startswith(('above/', 'below/')) and value > counts.get(tag, 0):
      alarms.append((step, tag, int(value - counts.get(tag, 0))))
      counts[tag] = value


train_step = make_step(tx)
params, state = start, tx.init(start)
readings = []  # of all steps, for the figure: a real job would not
for step, *batch in batches():
  params, state = train_step(params, state, *batch)
  gn.send_telemetry(state, step, tracker, alarm, every=EVERY)
  readings.append([row['reading'] for row in
                   gn.watch_report(state, 'gradient').values()])
readings = np.array(readings)

# %% [markdown]
# ## What was noticed
#
# One row a block, from the state that a checkpoint holds; and what the alarm
# said while the job ran:

# %%
report = gn.watch_report(state, 'gradient')
print(f'faults: loud in {LOUD[0]}..{LOUD[-1]},',
      f'empty in {EMPTY[0]}..{EMPTY[-1]}')
for block, row in report.items():
  print(f'{block:7s} safe in {row["low"]:.1e}..{row["high"]:.1e}'
        f' | above {row["above"]} ({row["first_above"]}..{row["last_above"]})'
        f' | below {row["below"]} ({row["first_below"]}..{row["last_below"]})')
print('alarms:', *(f'  step {step}: {tag} grew by {by}'
                   for step, tag, by in alarms), sep='\n')

# %%
FAULTS = {'loud': (LOUD, 'C3'), 'empty': (EMPTY, 'C4')}
TINY = 1e-4  # where a reading of 0 is drawn


def mark_faults(axis):
  for name, (steps, color) in FAULTS.items():
    axis.axvspan(steps[0], steps[-1] + 1, color=color, alpha=0.5, label=name)


fig, axes = plt.subplots(2, 2, figsize=(10.5, 6), sharex=True,
                         layout='constrained')
for axis, (block, row), values in zip(
    axes.flat, report.items(), readings.T, strict=True):
  mark_faults(axis)
  axis.semilogy(np.maximum(values, TINY), color='C0', linewidth=0.8,
                label='gradient norm')
  axis.axhspan(row['low'], row['high'], color='C2', alpha=0.15,
               label='learned safe range')
  axis.axvline(LEARN, color='black', linestyle=':', label='range is known')
  axis.set(title=block, xlabel='step', ylabel='L2 norm')
legend = fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=5,
                    loc='outside lower center')

# %% [markdown]
# The tracker was sent every tenth step, and none of those was a faulty one: a
# curve of norms alone would have shown nothing. The watcher sits inside the
# step and counts all of them, so that its counters tell of the fault at the
# next report, with its first and last step.

# %%
at = np.array(sorted(history))


def curve(tag):
  return np.array([history[step][tag] for step in at])


fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4),
                                  layout='constrained')
for i, block in enumerate(report):
  left.semilogy(at, curve(f'reading/gradient/{block}'), color=f'C{i}',
                label=block)
  for side, line in (('above', '-'), ('below', '--')):
    right.plot(at, curve(f'{side}/gradient/{block}') + 0.05 * i, line,
               color=f'C{i}', label=f'{side}: {block}')
left.set(title='What the tracker saw: norms', xlabel='step', ylabel='L2 norm',
         ylim=(1e-2, 1e2))
right.set(title='What the watcher counted', xlabel='step',
          ylabel='readings out of range so far')
left.legend()
legend = right.legend(ncols=2, fontsize=9)

# %% [markdown]
# ## How far parameters move
#
# Norm of the update over norm of the parameters, of each layer. A common rule
# of thumb is a thousandth; a block far from the others deserves a look.

# %%
fig, axis = plt.subplots(figsize=(8.5, 4), layout='constrained')
mark_faults(axis)
for i, block in enumerate(report):
  axis.semilogy(at, curve(f'ratio/step/{block}'), color=f'C{i}', label=block)
axis.set(title='Update / parameters, every tenth step', xlabel='step',
         ylabel='ratio of L2 norms')
legend = axis.legend(ncols=2)

# %% [markdown]
# Neither fault is to be seen here: clipping cut the loud gradients, thousands
# of times too large, down to a norm of 1, and AdamW's moments bridged the empty
# steps. That is why the watcher stands in front.
#
# ## What it costs
#
# Numbers that do not hang on this machine: those of state, and XLA's count of
# operations and of numbers moved for each parameter in an optimizer's step.
# Here for layers of 512 units; shapes are enough, nothing is computed.

# %%
clip, adamw = optax.clip_by_global_norm(1.0), optax.adamw(1e-3)
CHAINS = {
    'bare': optax.chain(clip, adamw),
    'watch in front': optax.chain(
        gn.watch('gradient', learn=LEARN), clip, adamw),
    'both, as above': tx,
}
wide = {f'layer{i}': {'kernel': jax.ShapeDtypeStruct((512, 512), jnp.float32),
                      'bias': jax.ShapeDtypeStruct((512,), jnp.float32)}
        for i in (1, 2, 3)}


def cost(tx):
  def step(params, state, grads):
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  def numbers(tree):
    return sum(x.size for x in jax.tree.leaves(tree))

  state = jax.eval_shape(tx.init, wide)
  counted = jax.jit(step).lower(wide, state, wide).compile().cost_analysis()
  return {'state': numbers(state),
          'operations': counted['flops'] / numbers(wide),
          'moved': counted['bytes accessed'] / 4 / numbers(wide)}


costs = {name: cost(chain) for name, chain in CHAINS.items()}
print('                numbers of state   per parameter: operations, moved')
for name, row in costs.items():
  print(f'{name:16s}{row["state"]:16,d}{row["operations"]:26.1f}'
        f'{row["moved"]:8.1f}')

# %% [markdown]
# In front the watcher reads the gradient once more: one or two numbers for each
# parameter, by the version of XLA. At the end of the chain the recorder costs
# more, because updates that somebody looks at can no longer be computed and
# added to the parameters in one pass. (XLA counts both sides of the choice that
# `every` makes, so this is the count of a step that reads. Arrays below 16,384
# entries are stacked before they are read, which moves more and takes fewer
# kernels.)
#
# **Keep in mind.** What goes wrong while a range is being learned is taken for
# normal: give `ranges={'layer*': (low, high)}` where you know them. Gradients
# shrink while a model learns; after a long fall the learned range is that of
# the start. Adding a watcher changes the state's structure: put it in before
# the first checkpoint. NaN and infinity count as above, always.
