"""The lab's nets: shapes, two steps of training, initialization from data."""

import functools
import pathlib
import sys

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

sys.path.insert(0, str(pathlib.Path(__file__).parents[3]))

from twins import batch

from benchmarks.weight_norm import norms_in_loops
from gradnorm_optax import _tree, lab
from gradnorm_optax.lab.data import hub, raw, sources
from gradnorm_optax.lab.methods import chain, schedules
from gradnorm_optax.lab.models.recurrent import Recurrent
from gradnorm_optax.lab.models.weight_norm_nets import NORMS, PaperNet, SmallNet
from gradnorm_optax.lab.training import make_problem, steps as steps_lib
from gradnorm_optax.weight_norm import weight_normalized

CONFIGS = pathlib.Path(__file__).parents[3] / 'configs'


def train(module, tx, x, y, steps=2):
  variables = dict(jax.jit(module.init)(jax.random.key(0), x))
  params, extra = variables.pop('params'), variables

  @jax.jit
  def step(params, extra, state):
    def loss(params):
      logits, new = module.apply(
          {'params': params, **extra}, x, train=True, mutable=list(extra))
      return optax.softmax_cross_entropy_with_integer_labels(
          logits, y).mean(), new

    (value, extra), grads = jax.value_and_grad(loss, has_aux=True)(params)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), extra, state, value

  state, losses = tx.init(params), []
  for _ in range(steps):
    params, extra, state, value = step(params, extra, state)
    losses.append(float(value))
  return params, extra, losses, variables


@pytest.mark.parametrize('norm', NORMS)
def test_small_net_learns_with_every_norm(norm):
  x, y = batch((32, 64)), jnp.arange(32) % 10
  module = SmallNet(10, norm, 'weight' in norm, (8, 8, 1), depth=2, width=8)
  params, extra, losses, _ = train(module, optax.adam(0.02), x, y, 20)
  assert losses[-1] < losses[0] - 0.1
  names = set(params['layer01'])
  assert ('kernel_g' in names) == ('weight' in norm)
  assert ('bias' in names) == (norm in ('none', 'weight'))
  assert ('batch_stats' in extra) == (norm not in ('none', 'weight'))
  y1, y2 = (module.apply({'params': params, **extra}, x) for _ in range(2))
  np.testing.assert_array_equal(y1, y2)


def test_two_steps_with_the_papers_settings(monkeypatch):
  """Its configuration, on pictures of its shapes; narrow, for two cores."""
  made = lab.load(CONFIGS / 'full' / 'cifar10_weight_norm.toml')
  assert made.train.batch_size == 100 and made.data.source == 'cifar10'
  assert {model.norm for model in made.models.values()} == set(NORMS)
  rng = np.random.default_rng(0)
  monkeypatch.setattr(hub, 'read', lambda _: raw.Raw(
      'generated', rng.integers(0, 256, (240, 32, 32, 3), np.uint8),
      np.arange(240) % 10, [], lambda i, _: f'example {i}',
      image=(32, 32, 3)))
  dataset = sources.load(made.data, made.train)
  for name in ('weight_mean_only', 'batch'):
    table = made.models[name].model_copy(update={'width': 4})
    built = make_problem.join(table, dataset)
    method = chain.build(
        made.methods['adam'], schedules.schedule(made.train, 1e-3))

    start = jax.jit(lambda built=built, method=method: steps_lib.start(
        built, method, *built.init(0)))()
    step = jax.jit(functools.partial(
        steps_lib.step, built, method, made.train,
        jax.tree.map(jnp.asarray, dataset.train), 0))
    state, first = step(start)
    state, second = step(state)
    assert np.isfinite([first.loss, second.loss]).all()
    assert first.loss != second.loss and state.step == 2
    assert state.params['layer07']['kernel'].shape == (3, 3, 8, 8)
    assert (state.extra['random']['key'] != start.extra['random']['key']).any()
    if name == 'weight_mean_only':
      assert state.params['layer09']['kernel_g'].shape == (1, 1, 1, 8)


def test_the_papers_net_has_the_papers_sizes():
  shapes = jax.eval_shape(
      lambda: PaperNet(10, image=(32, 32, 3)).init(
          jax.random.key(0), jnp.zeros((1, 3072))))['params']
  sizes = [shapes[f'layer{i:02d}']['kernel'].shape for i in range(1, 10)]
  assert sizes == [
      (3, 3, 3, 96), (3, 3, 96, 96), (3, 3, 96, 96), (3, 3, 96, 192),
      (3, 3, 192, 192), (3, 3, 192, 192), (3, 3, 192, 192), (1, 1, 192, 192),
      (1, 1, 192, 192)]
  assert shapes['output']['kernel'].shape == (192, 10)


@pytest.mark.parametrize('cell', ['srn', 'lstm', 'gru'])
def test_recurrent_nets_agree_with_the_plain_ones_at_first(cell):
  x = batch((4, 6, 3))
  plain, normalized = (Recurrent(2, width=8, cell=cell, norm=norm)
                       for norm in ('none', 'weight'))
  variables = plain.init(jax.random.key(0), x)
  other = normalized.init(jax.random.key(0), x)
  assert {name for name, layer in other['params'].items()
          if 'kernel_g' in layer} == {'input', 'recurrent', 'output'}
  np.testing.assert_allclose(
      normalized.apply(other, x), plain.apply(variables, x), rtol=0, atol=1e-6)
  tx = weight_normalized(optax.sgd(0.1))
  state = tx.init(variables['params'])
  kernels = {path for path in _tree.paths(variables['params'])
             if path.endswith('kernel')}
  assert kernels and set(state.scale) == kernels


def test_the_recurrent_model_forms_its_weights_once():
  x = batch((4, 6, 3))
  model = Recurrent(2, 3, width=8, norm='weight')
  params = model.init(
      jax.random.key(0), jnp.zeros((1, 1, model.inputs)))['params']
  text = jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(model.apply(
      {'params': p}, x))))).lower(params).compile().as_text()
  assert ' while(' in text and norms_in_loops(text) == 0


def test_mistakes_are_named():
  with pytest.raises(ValueError, match="norm='layer'"):
    SmallNet(10, 'layer')
  with pytest.raises(ValueError, match='data_init sets g'):
    SmallNet(10, 'batch', True)
