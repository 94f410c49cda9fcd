"""A method's table gives the chain that one would write by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pydantic
import pytest

import gradnorm_optax as gn
from gradnorm_optax import lab
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison.model_programs import Bench
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.methods import (
  bare_optimizer,
  chain,
  checks,
  registry,
)
from gradnorm_optax.lab.methods.schedules import schedule
from gradnorm_optax.lab.schema.recipes import RECIPES


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
    'bng_muon': ({'optimizer': 'bng_muon'}, lambda: gn.bng(muon())),
    'sing_muon': ({'optimizer': 'sing_muon'},
                  lambda: optax.chain(gn.standardize(), muon())),
    'muon_in_weight_norm': (
        {'optimizer': 'muon', 'wrap': 'weight_normalized'},
        lambda: gn.weight_normalized(
            muon(lambda table: {'v': table, 'g': None}))),
    'muon_weight_normalized': (
        {'optimizer': 'muon_weight_normalized'},
        lambda: gn.weight_normalized(muon(
            lambda table: {'v': table, 'g': None}, adam_learning_rate=1e-3))),
    'hyperball': ({'optimizer': 'hyperball'}, lambda: gn.weight_normalized(
        optax.chain(
            optax.scale_by_adam(), gn.normalize_by_block_norm(
                gn.Blocks('leaf', skip=['v/*bias'])), optax.scale(-0.1)),
        blocks='leaf', lengths='fixed')),
    'schedule_free': (
        {'optimizer': 'schedule_free_adamw', 'clip': 0.5}, lambda: optax.chain(
            optax.clip_by_global_norm(0.5),
            optax.contrib.schedule_free_adamw(0.1))),
    'row_normalized_momentum': (
        {'optimizer': 'row_normalized_momentum'}, lambda: optax.chain(
            optax.trace(0.95), gn.normalize_by_block_norm('unit'),
            optax.scale(-0.1))),
    'fixed_lengths': (
        {'optimizer': 'fixed_lengths_adam'},
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
    'momentum', 'lion', 'nadamw', 'lamb', 'adafactor', 'muon',
    'schedule_free_adamw'])
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


def test_schedule_free_evaluates_the_average():
  """Of y, z and x in turn, as their paper writes them, the one is x."""
  built = chain.build(schema.Method(
      optimizer='schedule_free_adamw', clip=1e6, options={'b2': 0.9}), 0.1)
  start = {'w': jnp.array([2.0, -3.0])}

  @jax.jit
  def step(p, state):
    updates, state = built.tx.update(
        jax.tree.map(lambda a: 2 * a, p), state, p)
    return optax.apply_updates(p, updates), state

  held, state = start, built.tx.init(start)
  x = y = z = np.array([2.0, -3.0])
  second = np.zeros(2)
  for t in range(1, 6):
    held, state = step(held, state)
    second = 0.9 * second + 0.1 * (2 * y) ** 2
    z = z - 0.1 * 2 * y / (np.sqrt(second / (1 - 0.9 ** t)) + 1e-8)
    x = (1 - 1 / t) * x + z / t
    y = 0.1 * z + 0.9 * x
  np.testing.assert_allclose(built.unwrap(held)['w'], y, rtol=1e-4)
  np.testing.assert_allclose(
      built.evaluated(held, state)['w'], x, rtol=1e-4)
  assert np.abs(x - y).max() > 0.01
  with pytest.raises(chain.LabError, match='averages of the parameters'):
    chain.build(schema.Method(optimizer='schedule_free_adamw',
                              wrap='weight_normalized'), 0.1)


def test_the_average_is_what_is_kept(tmp_path):
  """A loaded model answers as its run was evaluated, in both commands."""
  config = lab.load({
      'name': 'n', 'data': {'source': 'digits'},
      'methods': {'free': {'optimizer': 'schedule_free_adamw'}},
      'models': {'m': {'kind': 'mlp', 'depth': 1, 'width': 8}},
      'train': {'steps': 20, 'eval_every': 10},
      'run': {'learning_rate': 0.03, 'look': 0, 'watch': {'every': 0}}})
  done = lab.train(config, out=tmp_path / 'run', quiet=True)
  loaded = lab.load_run(done.folder, 'last')
  jax.tree.map(np.testing.assert_array_equal,
               loaded.variables['params'], done.params)
  validation = sources.load(config.data, config.train).validation
  logs = jax.nn.log_softmax(loaded.outputs(np.asarray(validation.x)))
  loss = -np.take_along_axis(
      np.asarray(logs), np.asarray(validation.y)[:, None], 1).mean()
  assert done.rows[-1]['validation_loss'] == pytest.approx(loss, rel=1e-4)
  # Trials that share a call are averaged apart.
  alone, shared = (Bench(
      config.models['m'], sources.load(config.data, config.train),
      config.train, batch) for batch in (1, 2))
  method = config.methods['free']
  one, = alone.run(method, [0.03], [0], test=True)
  two = shared.run(method, [0.01, 0.03], [1, 0], test=True)[1]
  assert one.history['loss'][-1] == pytest.approx(loss, rel=1e-4)
  assert two.history['loss'] == pytest.approx(one.history['loss'], rel=1e-4)
  assert two.test == pytest.approx(one.test, rel=1e-4)


@pytest.mark.parametrize('key', ['wrap', 'normalize'])
def test_a_recipe_is_no_other_composition(key):
  name = {'wrap': 'hyperball', 'normalize': 'sing_muon'}[key]
  given = RECIPES[name].table[key]
  with pytest.raises(pydantic.ValidationError, match=f'{key} is .* in the rec'):
    schema.Method(**{'optimizer': name, key: given})
  spelt = schema.Method(**RECIPES[name].table, clip=1.0)
  assert schema.Method(optimizer=name, clip=1.0) == spelt


@pytest.fixture(scope='module')
def bench():
  config = lab.load({
      'name': 'n', 'data': {'source': 'digits'}, 'methods': {
          'a': {'optimizer': 'adam'}}, 'train': {'steps': 20, 'eval_every': 10},
      'models': {'m': {'kind': 'mlp', 'depth': 1, 'width': 8}}})
  return Bench(config.models['m'], sources.load(config.data, config.train),
               config.train, 1)


@pytest.mark.parametrize('table, rate', [
    ({'optimizer': 'adam', 'normalize': 'bng', 'wrap': 'weight_normalized'},
     0.03),
    ({'optimizer': 'adam', 'normalize': 'sing', 'wrap': 'weight_normalized'},
     0.03),
    ({'optimizer': 'momentum', 'normalize': 'path_scale'}, 0.01),
    ({'optimizer': 'adagrad', 'normalize': 'path_scale'}, 0.1),
    ({'optimizer': 'adam', 'normalize': 'path_scale'}, 0.03),
    ({'optimizer': 'schedule_free_adamw'}, 0.03),
    *[({'optimizer': name}, 0.03) for name in RECIPES],
], ids=lambda given: ' '.join(map(str, given.values())) if isinstance(
    given, dict) else '')
def test_what_stands_together_trains(bench, table, rate):
  outcome, = bench.run(
      schema.Method(**table), [rate], [0], test=False)
  assert not outcome.diverged
  first, last = outcome.history['loss']
  assert last < first < 2.31


def test_own_function_must_return_a_transformation():
  with pytest.raises(chain.LabError, match='returned float64'):
    checks.check(schema.Method(optimizer='numpy:float64'))


def test_methods_command(gradnorm):
  code, out, _ = gradnorm('methods')
  assert code == 0
  for name in (*registry.OPTIMIZERS, *registry.NORMALIZERS,
               *registry.WRAPPERS, *RECIPES):
    assert name in out
  # Every key of a method, but for those that say where it is run.
  for name in set(schema.Method.model_fields) - {
      'learning_rates', 'search', 'models', 'lookahead_alpha'}:
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
