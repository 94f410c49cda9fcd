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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/gradnorm_optax/blob/main/notebooks/05_weight_norm.ipynb)
#
# # Weight normalization, with and without touching the model
#
# Weight normalization ([arXiv 1602.07868](https://arxiv.org/abs/1602.07868))
# writes each unit's weights as a length times a direction, `w = g v / ||v||`, and
# trains `g` and `v`. There are two ways to have it:
#
# ```python
# tx = gn.weight_normalized(optax.adam(1e-3))  # the model stays as it is
# layer = gnn.WeightNorm(nn.Dense(256))        # or the layer changes
# ```
#
# This notebook shows that they are one method, what it does to a learning rate
# that is too large, what the second way can do in addition (an initialization
# from data), and how to get rid of it for inference. A minute on two CPU cores.

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
from flax import linen as nn, nnx
from jax import lax
from matplotlib import pyplot as plt
from sklearn import datasets

import gradnorm_optax as gn
import gradnorm_optax.linen as gnn
import gradnorm_optax.nnx as gnx

SMOKE = os.environ.get('SMOKE') == '1'  # seconds, for the tests
STEPS = 40 if SMOKE else 400
DEPTH, WIDTH, BATCH = 8, 64, 100
plt.rcParams.update({'figure.dpi': 80, 'font.size': 11, 'axes.grid': True,
                     'grid.alpha': 0.3})

# %% [markdown]
# ## One net, two spellings

# %%
digits = datasets.load_digits()
x = jnp.asarray(digits.data / 16, jnp.float32)
y = jnp.asarray(digits.target)


class Net(nn.Module):
  wrapped: bool = False
  depth: int = 2

  @nn.compact
  def __call__(self, x):
    wrap = gnn.WeightNorm if self.wrapped else lambda layer: layer
    for i in range(self.depth):
      x = nn.relu(wrap(nn.Dense(WIDTH, name=f'hidden{i}'))(x))
    return wrap(nn.Dense(10, name='output'))(x)


def loss(net, params, x, y):
  return optax.softmax_cross_entropy_with_integer_labels(
      net.apply({'params': params}, x), y).mean()


plain, wrapped = Net(), Net(wrapped=True)
params = plain.init(jax.random.key(0), x[:1])['params']
# The wrapper adds the lengths beside the kernels; the kernels are v.
_, variables = wrapped.apply({'params': params}, x[:1], mutable=True)
print(jax.tree.map(jnp.shape, variables['params']['hidden0']))
print(gn.explain(params, 'unit'))


# %%
@functools.partial(jax.jit, static_argnums=(0, 1))
def train(net, make, params, rate):
  """Returns the losses and the norms of the kernels at every step."""
  tx = make(rate)

  def step(carry, key):
    params, state = carry
    batch = jax.random.randint(key, (BATCH,), 0, len(x))
    value, grads = jax.value_and_grad(
        lambda p: loss(net, p, x[batch], y[batch]))(params)
    updates, state = tx.update(grads, state, params)
    norm = optax.tree.norm(
        {name: layer['kernel'] for name, layer in params.items()})
    return (optax.apply_updates(params, updates), state), (value, norm)

  keys = jax.random.split(jax.random.key(1), STEPS)
  (params, _), found = lax.scan(step, (params, tx.init(params)), keys)
  return params, found


def momentum(rate):
  return optax.sgd(rate, momentum=0.9)


def inside(rate):
  return gn.weight_normalized(momentum(rate))


by_module, (module_losses, _) = train(
    wrapped, momentum, variables['params'], 0.05)
by_optimizer, (optimizer_losses, _) = train(plain, inside, params, 0.05)
_, (plain_losses, _) = train(plain, momentum, params, 0.05)
apart = float(jnp.abs(module_losses / optimizer_losses - 1).max())
print(f'the losses of the two spellings differ by at most {apart:.0e} of their '
      f'size in {STEPS} steps')

fig, axis = plt.subplots(figsize=(7.5, 4), layout='constrained')
axis.semilogy(plain_losses, label='plain', color='C7', linewidth=1)
axis.semilogy(module_losses, label='WeightNorm(layer)', color='C0', linewidth=4,
              alpha=0.4)
axis.semilogy(optimizer_losses, label='weight_normalized(optimizer)',
              color='C1', linewidth=1)
axis.set(title='Two spellings, one course', xlabel='step',
         ylabel='loss of the batch (nats)')
legend = axis.legend()

# %% [markdown]
# ## What it does to a rate that is too large
#
# A step is orthogonal to `v`, so `||v||` can only grow (momentum and rounding
# aside), and the longer `v` is, the smaller the turn that the next step makes:
# directions take any rate. The lengths `g` do not: they are trained like any
# other parameter. `lengths='fixed'` trains the directions alone.

# %%
RATES = 10.0 ** np.arange(-1.5, 1.1, 0.75 if SMOKE else 0.25)
SWEPT = {
    'plain': momentum,
    'weight norm': inside,
    'fixed lengths': lambda rate: gn.weight_normalized(
        momentum(rate), lengths='fixed'),
}
ends = {}
for name, make in SWEPT.items():
  losses = [np.asarray(train(plain, make, params, rate)[1][0])
            for rate in RATES]
  end = np.mean(losses, axis=1, where=np.arange(STEPS) >= 0.9 * STEPS)
  ends[name] = np.where(np.isfinite(end), end, np.inf)
lengths = {rate: train(wrapped, momentum, variables['params'], rate)[1][1]
           for rate in (0.1, 0.3, 0.6, 1.0)}

fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4), layout='constrained')
for (name, values), marker in zip(ends.items(), 'os^', strict=True):
  left.loglog(RATES, np.minimum(values, 100), marker=marker, label=name)
left.axhline(np.log(10), color='black', linestyle=':', label='guessing')
left.set(title='Loss at the end, by rate', xlabel='learning rate',
         ylabel='training loss (nats; 100: diverged)')
left.legend()
for i, (rate, norms) in enumerate(lengths.items()):
  right.loglog(np.arange(1, STEPS + 1), norms, label=f'{rate:g}', color=f'C{i}')
right.set(title='Weight norm: the length of v', xlabel='step',
          ylabel='norm of all v')
legend = right.legend(title='rate')
below = {name: [f'{rate:.2g}' for rate in RATES[values < 0.1 * np.log(10)]]
         for name, values in ends.items()}
for name, rates in below.items():
  print(f'{name:14s} ends below a tenth of guessing at {" ".join(rates)}')

# %% [markdown]
# Of one seed: weight norm trains at 0.56 as well as at 0.1, where plain weights
# no longer train; `v` has grown there as long as the rate asked for. Above that it
# fails more loudly than plain weights, because a length explodes. With fixed
# lengths no weight can explode, and none can grow either: the loss ends higher.
#
# ## A start from data
#
# Deep nets need a start at which the signal neither dies nor explodes. The
# wrapper can set `g` and the biases from one batch, so that every unit's input
# to its activation has mean 0 and deviation 1, whatever the kernels are. Here
# they are far too small.

# %%
deep = Net(wrapped=True, depth=DEPTH)
small = jax.tree.map(lambda a: a, deep.init(jax.random.key(2), x[:1]))
small['params'] = {
    name: {key: 0.3 * value if key == 'kernel_g' else value
           for key, value in layer.items()}
    for name, layer in small['params'].items()}
initialized = gnn.data_dependent_init(deep, small, x)


def spreads(variables):
  """The deviation of what each layer gives, over examples and units."""
  _, kept = deep.apply(variables, x, capture_intermediates=True, mutable=True)
  layers = kept['intermediates']
  return [float(jnp.std(layers[name]['__call__'][0], axis=0).mean())
          for name in variables['params']]


spread = {'as it was': spreads(small), 'from data': spreads(initialized)}
fig, axis = plt.subplots(figsize=(7.5, 4), layout='constrained')
for (name, values), marker in zip(spread.items(), 'os', strict=True):
  axis.semilogy(range(1, DEPTH + 2), values, marker=marker, label=name)
axis.set(title='Deviation of the units before their activation',
         xlabel='layer (1: next to the input)', ylabel='mean over the units')
legend = axis.legend()

# %% [markdown]
# ## Folding it away, and NNX
#
# For inference `fold` multiplies lengths and directions out: the plain model,
# and plain parameters. With `gn.weight_normalized` there is nothing to fold.

# %%
folded, bare = gnn.fold(wrapped, {'params': by_module})
answers = [wrapped.apply({'params': by_module}, x),
           plain.apply({'params': bare['params']}, x),
           plain.apply({'params': by_optimizer}, x)]
print('of the wrapped net, the folded one differs by',
      f'{jnp.abs(answers[0] - answers[1]).max():.0e}, the one trained by the '
      f'other spelling by {jnp.abs(answers[0] - answers[2]).max():.0e} '
      f'(answers up to {jnp.abs(answers[0]).max():.0f})')

layer = gnx.WeightNorm(nnx.Linear(64, 10, rngs=nnx.Rngs(0)))
before = layer(x)
gnx.data_dependent_init(layer, x)
after, lean = layer(x), gnx.fold(layer)
print(f'NNX: deviation {before.std():.2f}, from data {after.std():.2f}, folded '
      f'to {type(lean).__name__}, off by {jnp.abs(lean(x) - after).max():.0e}')

# %% [markdown]
# **Which one?** The optimizer's, unless you want the start from data: the model,
# its checkpoints and its inference stay as they are. `docs/weight_norm.md` says
# what both cost, which layers to leave out, and how weight decay is meant.
