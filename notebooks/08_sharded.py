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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/gradnorm_optax/blob/main/notebooks/08_sharded.ipynb)
#
# # Eight devices: data parallel, FSDP, and what a norm costs there
#
# A norm over a whole layer is the kind of thing that sharding makes awkward: no
# device has the layer. Under `jit` there is nothing to say, and this notebook
# looks at what XLA then does: which arrays stay cut, how many bytes travel, and
# whether eight devices train what one does. It needs no accelerator: XLA gives
# itself eight devices on any CPU. A minute on two cores.

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
import collections
import functools
import os
import re

SMOKE = os.environ.get('SMOKE') == '1'  # seconds, for the tests
# Before JAX starts. On a machine with eight accelerators leave it out.
os.environ['XLA_FLAGS'] = (os.environ.get('XLA_FLAGS', '')
                           + ' --xla_force_host_platform_device_count=8')

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from matplotlib import pyplot as plt
from sklearn import datasets

import gradnorm_optax as gn

STEPS = 20 if SMOKE else 200
LAYERS, WIDTH, BATCH = 4, 64, 64
plt.rcParams.update({'figure.dpi': 80, 'font.size': 11, 'axes.grid': True,
                     'grid.alpha': 0.3})
print(jax.device_count(), 'devices')

# %% [markdown]
# ## A scanned net
#
# The middle layers are one array with a layer axis in front, as `nn.scan`,
# MaxText or T5X keep them. A norm is meant for each layer, so the blocks are
# told which axis counts them.

# %%
digits = datasets.load_digits()
x = jnp.asarray(digits.data / 16, jnp.float32)
y = jnp.asarray(digits.target)
BLOCKS = gn.Blocks('layer', stacked={'layers/*': 0})
LEAVES = gn.Blocks('leaf', stacked={'layers/*': 0})


def net(params, x):
  x = jnp.tanh(x @ params['input']['kernel'] + params['input']['bias'])

  def layer(x, w):
    return x + jnp.tanh(x @ w['kernel'] + w['bias']), None

  x, _ = lax.scan(layer, x, params['layers'])
  return x @ params['output']['kernel'] + params['output']['bias']


def loss(params, x, y):
  return optax.softmax_cross_entropy_with_integer_labels(
      net(params, x), y).mean()


def start(rng):
  def dense(*shape):
    kernel = rng.normal(0, 1 / np.sqrt(shape[-2]), shape)
    return {'kernel': jnp.asarray(kernel, jnp.float32),
            'bias': jnp.zeros((*shape[:-2], shape[-1]))}
  return {'input': dense(64, WIDTH), 'layers': dense(LAYERS, WIDTH, WIDTH),
          'output': dense(WIDTH, 10)}


params = start(np.random.default_rng(0))
print(gn.explain(params, BLOCKS))

METHODS = {
    'AdamW': optax.adamw(1e-3),
    'BNG': gn.bng(optax.adamw(1e-3), BLOCKS),
    'SING': optax.chain(gn.standardize(LEAVES), optax.adamw(1e-3)),
    'weight norm': gn.weight_normalized(
        optax.adamw(1e-3), blocks=gn.Blocks('unit', stacked={'layers/*': 0})),
}

# %% [markdown]
# ## Cut over two axes
#
# `data` cuts the batch; `fsdp` cuts batch and parameters. Kernels are cut along
# their inputs, so that no device has a unit's whole fan-in: the hard case.

# %%
mesh = jax.make_mesh((2, 4), ('data', 'fsdp'),
                     axis_types=(AxisType.Auto,) * 2)


def spec(path, leaf):
  """Cuts the inputs of each kernel; biases are small and stay whole."""
  return P(*[None] * (leaf.ndim - 2), 'fsdp') if (
      path[-1].key == 'kernel') else P()


shardings = jax.tree.map_with_path(
    lambda path, leaf: NamedSharding(mesh, spec(path, leaf)), params)
batches = NamedSharding(mesh, P(('data', 'fsdp')))


def step_of(tx, params, state, x, y):
  value, grads = jax.value_and_grad(loss)(params, x, y)
  updates, state = tx.update(grads, state, params)
  return optax.apply_updates(params, updates), state, value


def state_shardings(tx):
  """Moments are cut as their parameters, numbers are whole."""
  whole = NamedSharding(mesh, P())
  return jax.tree.map(
      lambda spec, leaf: spec if getattr(leaf, 'ndim', 0) else whole,
      optax.tree.map_params(
          tx, lambda _, sharding: sharding, jax.eval_shape(tx.init, params),
          shardings, transform_non_params=lambda _: whole),
      jax.eval_shape(tx.init, params))


# %%
KINDS = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all')


def traffic(text):
  """Returns {kind: (how many, bytes)} of the collectives of a program."""
  found = collections.defaultdict(lambda: [0, 0])
  size = {'f32': 4, 's32': 4, 'u32': 4, 'pred': 1}
  for shapes, kind in re.findall(
      rf'= (.*?) ({"|".join(KINDS)})(?:-start)?\(', text):
    found[kind][0] += 1
    for dtype, dims in re.findall(r'(f32|s32|u32|pred)\[([0-9,]*)\]', shapes):
      found[kind][1] += size[dtype] * int(
          np.prod([int(d) for d in dims.split(',') if d]))
  return {kind: tuple(found[kind]) for kind in KINDS}


steps, moved, kept = {}, {}, {}
with jax.set_mesh(mesh):
  for name, tx in METHODS.items():
    cut = jax.device_put(params, shardings)
    state = jax.jit(tx.init, out_shardings=state_shardings(tx))(cut)
    few = jax.device_put((x[:BATCH], y[:BATCH]), batches)
    # Nothing is said of the results: XLA chooses how they are cut.
    compiled = jax.jit(functools.partial(step_of, tx)).lower(
        cut, state, *few).compile()
    steps[name] = compiled, state
    moved[name] = traffic(compiled.as_text())
    wanted = jax.tree.leaves(shardings)
    got = jax.tree.leaves(compiled.output_shardings[0])
    kept[name] = sum(a.is_equivalent_to(b, leaf.ndim) for a, b, leaf in zip(
        got, wanted, jax.tree.leaves(params), strict=True))
for name, kinds in moved.items():
  counts = ', '.join(f'{count} {kind}' for kind, (count, _) in kinds.items()
                     if count)
  more = sum(b for _, b in kinds.values()) - sum(
      b for _, b in moved['AdamW'].values())
  print(f'{name:12s} {kept[name]} of {len(wanted)} arrays stay cut as they were;'
        f' {counts}; {more:+d} bytes to AdamW')

sent = [kind for kind in KINDS if moved['AdamW'][kind][0]]
fig, axis = plt.subplots(figsize=(7.5, 4), layout='constrained')
for (name, kinds), marker in zip(moved.items(), 'os^v', strict=True):
  axis.plot(sent, [kinds[kind][1] / 1e3 for kind in sent], marker=marker,
            linestyle=':', label=name)
axis.set(title='What one step sends, by kind of collective', xlabel='collective',
         ylabel='kilobytes in the program')
legend = axis.legend()

# %% [markdown]
# A normalization adds collectives of a few numbers: sums of squares, for all
# layers at once. (Some stand in a branch that is only taken when a sum leaves
# the float range.) The parameters' own gathers and the gradient's reductions,
# which every method has, are what costs.
#
# ## The same training
#
# One device against eight, the same batches.

# %%
def run(name, many):
  tx = METHODS[name]
  rng = np.random.default_rng(1)
  values = []
  if many:
    step, state = steps[name]
    now = jax.device_put(params, shardings)
  else:
    step = jax.jit(functools.partial(step_of, tx))
    now, state = params, tx.init(params)
  for _ in range(STEPS):
    batch = rng.integers(0, len(x), BATCH)
    inputs = x[batch], y[batch]
    if many:
      inputs = jax.device_put(inputs, batches)
    now, state, value = step(now, state, *inputs)
    values.append(value)
  return np.asarray([float(value) for value in values])


courses = {name: (run(name, False), run(name, True)) for name in METHODS}
apart = {name: float(np.abs(eight / one - 1).max())
         for name, (one, eight) in courses.items()}
fig, axes = plt.subplots(1, len(METHODS), figsize=(11, 3.6), sharey=True,
                         layout='constrained')
for i, (axis, (name, (one, eight))) in enumerate(
    zip(axes, courses.items(), strict=True)):
  axis.semilogy(one, color=f'C{i}', linewidth=4, alpha=0.4, label='one device')
  axis.semilogy(eight, color='black', linewidth=0.8, label='eight')
  axis.set(title=name, xlabel='step')
axes[0].set(ylabel='loss of the batch (nats)')
legend = axes[0].legend()
print('largest relative difference of the losses:',
      {name: f'{value:.0e}' for name, value in apart.items()})

# %% [markdown]
# ## What stays on each device
#
# FSDP cuts what the optimizer keeps as well. Neither BNG nor SING keeps
# anything; weight normalization keeps one number a unit.

# %%
def bytes_per_device(tree):
  return sum(leaf.addressable_shards[0].data.nbytes
             for leaf in jax.tree.leaves(tree))


def held_by_each(tx, mesh):
  """Kilobytes of parameters and state on one device."""
  cut = jax.device_put(params, jax.tree.map_with_path(
      lambda path, leaf: NamedSharding(mesh, spec(path, leaf)), params))
  like = {leaf.shape: leaf.sharding for leaf in jax.tree.leaves(cut)}
  state = jax.tree.map(
      lambda leaf: jax.device_put(leaf, like.get(leaf.shape, leaf.sharding)),
      jax.jit(tx.init)(cut))
  return (bytes_per_device(cut) + bytes_per_device(state)) / 1e3


COUNTS = [1, 2, 4, 8]
meshes = [jax.make_mesh((count,), ('fsdp',), axis_types=(AxisType.Auto,),
                        devices=jax.devices()[:count]) for count in COUNTS]
held = {name: [held_by_each(tx, mesh) for mesh in meshes]
        for name, tx in METHODS.items()}

fig, axis = plt.subplots(figsize=(7.5, 4), layout='constrained')
for (name, values), marker in zip(held.items(), 'os^v', strict=True):
  axis.loglog(COUNTS, values, marker=marker, label=name)
axis.set(title='Parameters and state on each device', xlabel='devices',
         ylabel='kilobytes', xticks=COUNTS, xticklabels=COUNTS,
         yticks=[50, 100, 200], yticklabels=[50, 100, 200])
axis.minorticks_off()
legend = axis.legend()

# %% [markdown]
# ## When you write the collectives yourself
#
# Inside `shard_map` code sees its own piece of each array, so the transformation
# is told over which axis the pieces lie, and which arrays are whole.

# %%
flat = jax.make_mesh((8,), ('x',), axis_types=(AxisType.Auto,))
tx = gn.standardize(gn.Blocks('leaf', sharded={'*kernel': 1}), axis_name='x')
grads = {'dense': {'kernel': jax.random.normal(jax.random.key(0), (16, 8))}}
normalize = jax.jit(jax.shard_map(
    lambda g: tx.update(g, tx.init(g))[0], mesh=flat, in_specs=P(None, 'x'),
    out_specs=P(None, 'x')))
whole = gn.standardize('leaf')
want, _ = whole.update(grads, whole.init(grads))
gap = float(jnp.abs(normalize(grads)['dense']['kernel']
                    - want['dense']['kernel']).max())
print(f'shard_map against one device: {gap:.0e}')

# %% [markdown]
# `docs/blocks.md` counts the collectives on other meshes. For a whole run on
# many devices or hosts, with checkpoints, see `docs/lab.md`.
