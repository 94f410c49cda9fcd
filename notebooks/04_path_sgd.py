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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/gradnorm_optax/blob/main/notebooks/04_path_sgd.ipynb)
#
# # Path-SGD, and what a rescaled net has to do with it
#
# Multiply what a ReLU unit receives by 10 and divide what it sends by 10: the
# net computes the same. Its gradient does not stay the same, and so SGD, Adam
# and AdaGrad take another course. **Path-SGD**
# ([arXiv 1506.02617](https://arxiv.org/abs/1506.02617)) does not:
#
# ```python
# tx = gn.path_sgd(0.1, net, example)      # in place of optax.sgd(0.1)
# ```
#
# We count paths by hand, compare with the library, rescale a net, follow both
# courses, and see where the method ends. One minute on two CPU cores. The
# mathematics is in `docs/path_sgd.md`.

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
import itertools
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
from gradnorm_optax import paths
from gradnorm_optax.linen import apply_fn

SMOKE = os.environ.get('SMOKE') == '1'  # seconds, for the tests
STEPS, POINTS = (60, 6) if SMOKE else (400, 20)
WIDTH, BATCH, SPREAD = 64, 50, 2.0
plt.rcParams.update({'figure.dpi': 80, 'font.size': 11, 'axes.grid': True,
                     'grid.alpha': 0.3})

# %% [markdown]
# ## Paths, by hand
#
# A path runs from an input unit, or from the constant unit of the biases, along
# one edge a layer to an output. Its strength is the product of its weights.
# With p = 2,
#
# $$\phi(w) = \Big(\sum_{\rm paths}\prod_{e} w_e^2\Big)^{1/2}, \qquad
# \gamma(w, e) = \sum_{{\rm paths\ through\ } e}\ \prod_{e' \neq e} w_{e'}^2 .$$
#
# A net of 3 inputs, 4 ReLU units and 2 outputs has few enough paths to visit
# them all:

# %%
rng = np.random.default_rng(0)
tiny = {'w': rng.normal(size=(3, 4)), 'b': rng.normal(size=4),
        'v': rng.normal(size=(4, 2))}
tiny = {name: jnp.asarray(array, jnp.float32) for name, array in tiny.items()}


def tiny_net(params, x):
  return jax.nn.relu(x @ params['w'] + params['b']) @ params['v']


total, through = 0.0, {name: np.zeros(array.shape)
                       for name, array in tiny.items()}
for unit, output in itertools.product(range(4), range(2)):
  out = ('v', (unit, output))
  for first in [*(('w', (i, unit)) for i in range(3)), ('b', (unit,))]:
    path = first, out
    squares = [float(tiny[name][index]) ** 2 for name, index in path]
    total += np.prod(squares)
    for (name, index), other in zip(path, squares[::-1], strict=True):
      through[name][index] += other

example = jax.ShapeDtypeStruct((1, 3), jnp.float32)
by_hand = np.sqrt(total)
norm = gn.path_norm(tiny_net, tiny, example)
gamma = gn.path_scale(tiny_net, tiny, example)
print(f'path norm by hand {by_hand:.5f}, gn.path_norm {norm:.5f}')
for name in tiny:
  error = np.abs(through[name] / gamma[name] - 1).max()
  print(f'gamma of {name}: largest relative difference {error:.0e}')

# %% [markdown]
# The library never visits a path. It interprets the program of the net with
# |w|^p in place of the weights, the identity in place of ReLU, and ones as
# input: the sum of the outputs is phi^p, its derivative by w^2 is gamma. One
# forward and one backward pass on *one* example, for any net that is made of
# the parts in `docs/path_sgd.md`.
#
# ## A net, and the same net rescaled
#
# Scikit-learn's digits, two hidden layers, in Flax. Every hidden unit gets a
# factor of its own, from about 1/200 to 160:

# %%
digits = datasets.load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
x, y = (digits.data[order] / 16).astype(np.float32), digits.target[order]
x_train, x_valid = jnp.asarray(x[:1437]), jnp.asarray(x[1437:])
y_train, y_valid = jnp.asarray(y[:1437]), jnp.asarray(y[1437:])


class MLP(nn.Module):

  @nn.compact
  def __call__(self, x):
    for i in (1, 2):
      x = nn.relu(nn.Dense(WIDTH, name=f'layer{i}')(x))
    return nn.Dense(10, name='layer3')(x)


model = MLP()
balanced = model.init(jax.random.key(0), x_train[:1])['params']
net = apply_fn(model)  # net(params, x), as Path-SGD wants it


def loss(params, x, y):
  return optax.softmax_cross_entropy_with_integer_labels(
      net(params, x), y).mean()


def rescale(params, factors):
  """Multiplies what enters the hidden units, divides what leaves them."""
  params = jax.tree.map(lambda a: a, params)
  for i, factor in factors.items():
    entering, leaving = params[f'layer{i}'], params[f'layer{i + 1}']
    entering['kernel'] = entering['kernel'] * factor
    entering['bias'] = entering['bias'] * factor
    leaving['kernel'] = leaving['kernel'] / factor[:, None]
  return params


rng = np.random.default_rng(1)
factors = {i: jnp.asarray(np.exp(rng.normal(0, SPREAD, WIDTH)), jnp.float32)
           for i in (1, 2)}
unbalanced = rescale(balanced, factors)
both = {'balanced': balanced, 'unbalanced': unbalanced}

outputs = {name: net(params, x_valid) for name, params in both.items()}
change = float(jnp.abs(outputs['unbalanced'] - outputs['balanced']).max()
               / jnp.abs(outputs['balanced']).max())
example = jax.ShapeDtypeStruct((1, 64), jnp.float32)
path_norms = {name: float(gn.path_norm(net, params, example))
              for name, params in both.items()}
lengths = {name: float(optax.tree.norm(params))
           for name, params in both.items()}
print(f'outputs differ by {change:.0e} of the largest')
for name in both:
  print(f'{name:10s}  L2 norm {lengths[name]:8.1f}   '
        f'path norm {path_norms[name]:.4f}')

# %% [markdown]
# The L2 norm, which weight decay shrinks, sees another net; the path norm the
# same one. Now the gradient that enters the second hidden layer, unit by unit,
# and the step that Path-SGD makes of it, in the units of the balanced net: what
# the rescaled net does divided by its factor.

# %%
steepest = gn.normalize_by_path_scale(net, example)
columns = {}
for name, params in both.items():
  gradient = jax.grad(loss)(params, x_train, y_train)
  update, _ = steepest.update(gradient, steepest.init(params), params)
  back = factors[1][:, None] / factors[2] if name == 'unbalanced' else 1.0
  columns[name] = {
      'gradient': jnp.linalg.norm(gradient['layer2']['kernel'] * back, axis=0),
      'Path-SGD': jnp.linalg.norm(update['layer2']['kernel'] * back, axis=0)}

fig, axes = plt.subplots(1, 2, figsize=(10.5, 4), layout='constrained')
for axis, kind in zip(axes, ('gradient', 'Path-SGD'), strict=True):
  ranked = np.argsort(columns['balanced'][kind])
  for name, color, marker in (('balanced', 'C2', 'o'),
                              ('unbalanced', 'C1', 'x')):
    axis.semilogy(np.asarray(columns[name][kind])[ranked], color=color,
                  marker=marker, linestyle='none', label=name)
  axis.set(title=f'{kind}: step of layer 2', ylabel='length, balanced units',
           xlabel='hidden unit, in the balanced net\'s order')
  axis.legend()

# %% [markdown]
# ## Two courses, or one
#
# Both starts, the same batches, each method's rate a good one for the balanced
# start.

# %%
METHODS = {
    'SGD': lambda: optax.sgd(0.3),
    'AdaGrad': lambda: optax.adagrad(0.1),
    'Adam': lambda: optax.adam(1e-3),
    'Path-SGD': lambda: gn.path_sgd(0.1, net, example),
    'Path-SGD, momentum': lambda: gn.path_sgd(
        0.01, net, example, momentum=0.9),
}


@functools.partial(jax.jit, static_argnums=0)
def train(make, params):
  """Returns curves of the training loss and of the right answers."""
  tx = make()

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


curves = {name: {start: jax.device_get(train(make, params))
                 for start, params in both.items()}
          for name, make in METHODS.items()}

# %%
apart = {name: float(np.abs(np.nan_to_num(
    runs['unbalanced'][0], nan=np.inf) - runs['balanced'][0]).max())
         for name, runs in curves.items()}
print(f'right after {STEPS} steps     balanced  unbalanced  '
      'training losses differ by at most')
for name, runs in curves.items():
  print(f'{name:24s}', *(f'{runs[start][1][-1]:10.1%}' for start in both),
        f'{apart[name]:12.1g}')

# %%
steps = np.arange(1, POINTS + 1) * (STEPS // POINTS)
fig, axes = plt.subplots(1, len(METHODS), figsize=(12, 3.8), sharey=True,
                         layout='constrained')
for axis, (name, runs) in zip(axes, curves.items(), strict=True):
  for start, color, style in (('balanced', 'C2', '-'),
                              ('unbalanced', 'C1', '--')):
    axis.semilogy(steps, runs[start][0], style, color=color, linewidth=2,
                  label=start)
  axis.set(title=name, xlabel='step')
axes[0].set(ylabel='training loss (nats)', ylim=(1e-3, 1e2))
legend = axes[0].legend()

# %% [markdown]
# SGD diverges from the unbalanced start at the rate that suits the balanced
# one. AdaGrad and Adam rescale every entry and so train from both, along other
# courses; here Adam's is even the faster one. Path-SGD's two curves are one,
# also with momentum, up to float32's rounding.
#
# That is no promise of a better optimum. From the balanced start SGD, well
# tuned, does as well; `docs/path_sgd.md` has the comparison over rates and
# seeds.
#
# ## Parallel paths: convolutions and a residual sum
#
# Nothing changes in the call: `net` may be any function of parameters and input
# that is made of the parts the library knows. All terms of a residual sum must
# keep one scale, so here the channels inside the block are rescaled, by one
# factor from 3 to 300. After a single step of each optimizer, how far from
# those of the original net are the outputs?

# %%
class Residual(nn.Module):

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(8, (3, 3), name='stem')(x.reshape(-1, 8, 8, 1)))
    inside = nn.relu(nn.Conv(8, (3, 3), name='layer1')(x))
    x = x + nn.Conv(8, (3, 3), name='layer2')(inside)
    return nn.Dense(10, name='output')(nn.relu(x).mean((1, 2)))


residual = Residual()
images = residual.init(jax.random.key(3), x_train[:1])['params']
residual_net = apply_fn(residual)


def residual_loss(params):
  return optax.softmax_cross_entropy_with_integer_labels(
      residual_net(params, x_train[:200]), y_train[:200]).mean()


@functools.partial(jax.jit, static_argnums=0)
def after_one_step(make, factor):
  """Returns the logits after one step from the net rescaled by `factor`."""
  params = jax.tree.map(lambda a: a, images)
  into, out = params['layer1'], params['layer2']
  into.update(kernel=into['kernel'] * factor, bias=into['bias'] * factor)
  out.update(kernel=out['kernel'] / factor)
  tx = make()
  updates, _ = tx.update(
      jax.grad(residual_loss)(params), tx.init(params), params)
  return residual_net(optax.apply_updates(params, updates), x_valid)


STEPPERS = {
    'SGD': lambda: optax.sgd(0.05),
    'Adam': lambda: optax.adam(1e-3),
    'Path-SGD': lambda: gn.path_sgd(1.0, residual_net, example),
}
powers = np.array([1, 3, 10, 30, 100, 300], np.float32)
moved = {}
for name, make in STEPPERS.items():
  still = after_one_step(make, 1.0)
  scale = jnp.abs(still - residual_net(images, x_valid)).max()
  moved[name] = [float(jnp.abs(after_one_step(make, factor) - still).max()
                       / scale) for factor in powers[1:]]

fig, axis = plt.subplots(figsize=(7.5, 4), layout='constrained')
for (name, values), marker in zip(moved.items(), 'osd', strict=True):
  axis.loglog(powers[1:], values, marker=marker, label=name)
axis.set(title='A residual block, its inner channels rescaled: one step',
         xlabel='factor',
         ylabel='difference of the outputs\n(1: as large as the step)')
legend = axis.legend()

# %% [markdown]
# ## Where it ends
#
# Invariance is a property of nets that are positively homogeneous in each unit.
# A tanh is not, and the library says so instead of counting something else:

# %%
def tanh_net(params, x):
  return jnp.tanh(x @ params['w'] + params['b']) @ params['v']


try:
  gn.path_norm(tanh_net, tiny, jax.ShapeDtypeStruct((1, 3), jnp.float32))
  refused = ''
except paths.LiftError as error:
  refused = str(error)
print(refused)

# %% [markdown]
# Softmax attention, LayerNorm, GELU and LSTM cells are refused likewise; the
# message names the line and the way out. For such nets look at SING or BNG.
#
# **Keep in mind.** The learning rate has units of its own: search it anew.
# Weight decay, clipping by the norm and Adam behind the scale break the
# invariance. Batch norm in training mode has removed most of what Path-SGD
# repairs.
