"""A method's table gives the chain that one would write by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradnorm_optax as gn
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import (
  bare_optimizer,
  chain,
  checks,
  registry,
)
from gradnorm_optax.lab.methods.schedules import schedule


def muon(placed=lambda table: table, **options):
  return optax.contrib.muon(
      0.1, muon_weight_dimension_numbers=placed(
          gn.muon_dimension_numbers(params())), **options)


HAND = {
    'sgd': ({'optimizer': 'sgd'}, lambda: optax.sgd(0.1)),
    'momentum': ({'optimizer': 'momentum'},
                 lambda: optax.sgd(0.1, momentum=0.9)),
    'nesterov': ({'optimizer': 'momentum', 'options': {'nesterov': True}},
                 lambda: optax.sgd(0.1, momentum=0.9, nesterov=True)),
    'adam': ({'optimizer': 'adam'}, lambda: optax.adam(0.1)),
    'adamw': ({'optimizer': 'adamw', 'options': {'weight_decay': 0.1}},
              lambda: optax.adamw(0.1, weight_decay=0.1)),
    'adagrad': ({'optimizer': 'adagrad'}, lambda: optax.adagrad(0.1)),
    'rmsprop': ({'optimizer': 'rmsprop'}, lambda: optax.rmsprop(0.1)),
    'lion': ({'optimizer': 'lion'}, lambda: optax.lion(0.1)),
    'nadamw': ({'optimizer': 'nadamw'}, lambda: optax.nadamw(0.1)),
    'lamb': ({'optimizer': 'lamb'}, lambda: optax.lamb(0.1)),
    'adafactor': ({'optimizer': 'adafactor'}, lambda: optax.adafactor(0.1)),
    'muon': (
        {'optimizer': 'muon', 'options': {'weight_decay': 0.1}},
        lambda: muon(weight_decay=0.1)),
    'bng_muon': ({'optimizer': 'muon', 'normalize': 'bng'},
                 lambda: gn.bng(muon())),
    'muon_in_weight_norm': (
        {'optimizer': 'muon', 'wrap': 'weight_normalized'},
        lambda: gn.weight_normalized(
            muon(lambda table: {'v': table, 'g': None}))),
    'row_normalized_momentum': (
        {'optimizer': 'row_normalized_momentum'}, lambda: optax.chain(
            optax.trace(0.95), gn.normalize_by_block_norm('unit'),
            optax.scale(-0.1))),
    'fixed_lengths': (
        {'optimizer': 'adam', 'wrap': 'fixed_lengths'},
        lambda: gn.weight_normalized(optax.adam(0.1), lengths='fixed')),
    'clip': ({'optimizer': 'adam', 'clip': 0.5}, lambda: optax.chain(
        optax.clip_by_global_norm(0.5), optax.adam(0.1))),
    'own': ({'optimizer': 'optax:sgd', 'options': {'momentum': 0.5}},
            lambda: optax.sgd(0.1, momentum=0.5)),
    'bng': ({'optimizer': 'adam', 'normalize': 'bng'},
            lambda: gn.bng(optax.adam(0.1))),
    'bng_leaf_ratio': (
        {'optimizer': 'momentum', 'normalize': 'bng', 'blocks': 'leaf',
         'ratio': 0.05},
        lambda: gn.bng(optax.sgd(0.1, momentum=0.9), 'leaf', ratio=0.05)),
    'bng_blocks': (
        {'optimizer': 'sgd', 'normalize': ['bng'],
         'blocks': {'by': 'leaf', 'skip': ['*bias']}},
        lambda: gn.bng(optax.sgd(0.1), gn.Blocks(by='leaf', skip=('*bias',)))),
    'sing_adamw': ({'optimizer': 'adamw', 'normalize': 'sing'},
                   lambda: optax.chain(gn.standardize(), optax.adamw(0.1))),
    'sing_momentum': (
        {'optimizer': 'momentum', 'normalize': 'sing'}, lambda: optax.chain(
            gn.standardize(), optax.sgd(0.1, momentum=0.9))),
    'sing_lion': ({'optimizer': 'lion', 'normalize': 'sing'},
                  lambda: optax.chain(gn.standardize(), optax.lion(0.1))),
    'sing_without_centralization': (
        {'optimizer': 'adamw', 'normalize': 'bng', 'blocks': 'leaf'},
        lambda: gn.bng(optax.adamw(0.1), 'leaf')),
    'centralized': ({'optimizer': 'adam', 'normalize': 'centralize'},
                    lambda: optax.chain(gn.centralize(), optax.adam(0.1))),
    'sing': ({'optimizer': 'sing', 'options': {'softplus_beta': 50.0}},
             lambda: gn.sing(0.1, softplus_beta=50.0)),
    'softplus': (
        {'optimizer': 'softplus_adamw', 'options': {'weight_decay': 0.0}},
        lambda: optax.chain(gn.scale_by_softplus_adam(), optax.scale(-0.1))),
    'weight_normalized': (
        {'optimizer': 'adam', 'wrap': 'weight_normalized'},
        lambda: gn.weight_normalized(optax.adam(0.1))),
}


def params():
  rng = np.random.default_rng(0)
  return {'layer': {'kernel': jnp.asarray(rng.normal(size=(3, 4)), 'float32'),
                    'bias': jnp.asarray(rng.normal(size=4), 'float32')}}


def walk(tx, start, unwrap=lambda p: p, steps=6):
  """Parameters after some steps on a bowl."""
  @jax.jit
  def step(p, state):
    grads = jax.grad(lambda q: sum(
        (a ** 2).sum() for a in jax.tree.leaves(q)))(unwrap(p))
    updates, state = tx.update(grads, state, p)
    return optax.apply_updates(p, updates), state
  state = tx.init(start)
  for _ in range(steps):
    start, state = step(start, state)
  return unwrap(start)


@pytest.mark.parametrize('name', HAND)
def test_equals_the_hand_written_chain(name):
  table, by_hand = HAND[name]
  built = chain.build(schema.Method(**table), 0.1)
  found = walk(built.tx, built.wrap(params()), built.unwrap)
  jax.tree.map(np.testing.assert_array_equal, found, walk(by_hand(), params()))


@pytest.mark.parametrize('name', [
    'momentum', 'lion', 'nadamw', 'lamb', 'adafactor', 'muon'])
def test_optimizers_of_optax_are_baselines(name):
  assert bare_optimizer.is_baseline(schema.Method(optimizer=name))
  before = schema.Method(optimizer=name, normalize=['bng'])
  assert not bare_optimizer.is_baseline(before)
  assert bare_optimizer.bare(before) == schema.Method(optimizer=name)


def test_muon_knows_the_layer_axis_of_stacked_weights():
  rng = np.random.default_rng(1)
  stack = {'layers': {'kernel': jnp.asarray(
      rng.normal(size=(2, 3, 4)), 'float32')}}
  table = {'optimizer': 'muon'}
  for wrap in ({}, {'wrap': 'weight_normalized'}):
    whole = chain.build(schema.Method(**table, **wrap), 0.1,
                        registry.Context(stacked={'layers/*': 0})).tx
    alone = chain.build(schema.Method(**table, **wrap), 0.1).tx
    found = walk(whole, stack, steps=3)['layers']['kernel']
    for layer in range(2):
      part = {'layers': {'kernel': stack['layers']['kernel'][layer]}}
      np.testing.assert_allclose(
          found[layer], walk(alone, part, steps=3)['layers']['kernel'],
          rtol=1e-4, atol=1e-5)


def test_muon_in_weight_normalization_gives_lengths_to_adam():
  """Also those of attention, whose shapes do not tell what they are."""
  attention = {'query': {'kernel': jnp.ones((4, 2, 3)),
                         'bias': jnp.ones((2, 3))}}
  built = chain.build(schema.Method(
      optimizer='muon', wrap='weight_normalized'), 0.1)
  inner = jax.eval_shape(built.tx.init, attention).inner.inner_states

  def shapes(label, moment):
    return [leaf.shape for leaf in jax.tree.leaves(
        optax.tree.get(inner[label], moment))]

  assert shapes('muon', 'mu') == [(4, 2, 3)]
  assert sorted(shapes('adam', 'nu')) == [(1,), (1, 2, 3), (2, 3)]


def test_lookahead_trains_and_evaluates_the_fast_weights():
  built = chain.build(schema.Method(
      optimizer='sgd', lookahead=5, lookahead_alpha=0.5), 0.1)
  found = walk(built.tx, built.wrap(params()), built.unwrap, steps=6)
  # Five steps of factor 0.8, half-way back to the start, one more step.
  factor = (1 + 0.8 ** 5) / 2 * 0.8
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, factor * b, 1e-6),
               found, params())


def test_own_function_must_return_a_transformation():
  with pytest.raises(chain.LabError, match='returned float64'):
    checks.check(schema.Method(optimizer='numpy:float64'))


def test_methods_command(gradnorm):
  code, out, _ = gradnorm('methods')
  assert code == 0
  for name in (*registry.OPTIMIZERS, *registry.NORMALIZERS, *registry.WRAPPERS):
    assert name in out
  # Every key of a method, but for those that say where it is run.
  for name in set(schema.Method.model_fields) - {
      'learning_rates', 'models', 'lookahead_alpha'}:
    assert name in out


@pytest.mark.parametrize('table, steps, rates', [
    ({'schedule': 'step'}, (0, 49, 50, 75), (2, 2, .2, .02)),
    ({'warmup': 0.1}, (0, 4, 9, 50), (.2, 1, 2, 2)),
    ({'schedule': 'linear', 'decay_at': (0.8, 0.4)}, (40, 70, 100), (2, 1, 0)),
    ({'schedule': 'step', 'decay_at': (0.501, 0.502)}, (49, 50), (2, .02)),
    ({'schedule': 'cosine', 'warmup': 0.2}, (0, 20, 60, 100), (.1, 2, 1, 0)),
])
def test_schedules(table, steps, rates):
  rate = schedule(schema.Train(steps=100, eval_every=10, **table), 2.0)
  np.testing.assert_allclose([rate(s) for s in steps], rates, atol=1e-6)
