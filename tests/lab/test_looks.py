"""What reaches the moments is seen, whatever stands before them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.inspection import inspection
from gradnorm_optax.lab.methods import chain, tap
from gradnorm_optax.lab.results.look import QUANTILES
from gradnorm_optax.lab.training import block_norms, make_problem

# {name: the table, and what it keeps of the first gradient and how much}.
METHODS = {
    'adam': ({'optimizer': 'adam', 'clip': 0.1}, 'mu', 0.1),
    'sing': ({'optimizer': 'sing'}, 'mu', 0.1),
    'sing_adamw': ({'optimizer': 'adamw', 'normalize': 'sing'}, 'mu', 0.1),
    'path': ({'optimizer': 'path_sgd', 'options': {'momentum': 0.9}},
             'trace', 1.0),
    'path4': ({'optimizer': 'path_sgd', 'options': {'momentum': 0.9, 'p': 4}},
              'trace', 1.0),
    'wn': ({'optimizer': 'adam', 'wrap': 'weight_normalized'}, 'mu', 0.1),
    'wn_bng': ({'optimizer': 'adam', 'normalize': 'bng',
                'wrap': 'weight_normalized'}, 'mu', 0.1),
    'slow': ({'optimizer': 'momentum', 'lookahead': 2}, 'trace', 1.0),
}
CONFIG = {
    'models': {'net': {'kind': 'mlp', 'depth': 1, 'width': 8}},
    'methods': {name: table for name, (table, *_) in METHODS.items()},
    'train': {'steps': 20, 'eval_every': 10}}


@pytest.fixture(scope='module')
def problem():
  config = lab.load(CONFIG)
  return make_problem.join(config.models['net'], sources.load(config.data))


@pytest.mark.parametrize('name', METHODS)
def test_the_tap_changes_nothing_and_sees_what_the_moments_see(problem, name):
  params, _ = problem.init(0)
  gradient = jax.tree.map(lambda p: jnp.cos(jnp.arange(p.size)).reshape(
      p.shape).astype(p.dtype), params)
  method = lab.load(CONFIG).methods[name]
  updates, states = [], []
  for tapped in (False, True):
    built = chain.build(method, 0.1, problem.context, 3, tapped=tapped)
    held = built.wrap(params)
    moved, state = built.tx.update(gradient, built.tx.init(held), held)
    updates.append(moved)
    states.append(state)
  jax.tree.map(np.testing.assert_array_equal, *updates)  # bit for bit
  plain, full = states
  jax.tree.map(np.testing.assert_array_equal, plain, jax.tree.unflatten(
      jax.tree.structure(plain), jax.tree.leaves(jax.tree.map(
          lambda node: None if isinstance(node, tap.Tapped) else node, full,
          is_leaf=lambda node: isinstance(node, tap.Tapped)))))
  _, moment, share = METHODS[name]
  jax.tree.map(
      lambda kept, seen: np.testing.assert_allclose(
          kept, share * seen, rtol=1e-5, atol=1e-7),
      optax.tree.get(full, moment), tap.read(full))
  jax.tree.map(np.testing.assert_array_equal, tap.filled(full, plain), full)


@pytest.fixture(scope='module')
def seen(tmp_path_factory):
  """{method: its look at the first two steps}."""
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    config = lab.load({**CONFIG, 'methods': {
        name: METHODS[name][0] for name in (
            'adam', 'sing', 'sing_adamw', 'path', 'wn')}})
    found = inspection.run(config, tmp_path_factory.mktemp('looks'), batches=2)
  return {look.method: look for look in found.looks}


def test_norms_at_the_moments(seen):
  np.testing.assert_allclose(
      np.linalg.norm(seen['adam'].after, axis=1), 0.1, rtol=1e-5)
  assert seen['adam'].gradient[0].min() > 0.1
  for name in ('sing', 'sing_adamw'):  # two arrays of norm one each
    np.testing.assert_allclose(seen[name].after, np.sqrt(2), rtol=1e-4)
  path = seen['path']  # the first step of momentum is that of SGD
  np.testing.assert_allclose(path.update[0], 0.01 * path.after[0], rtol=1e-3)
  assert (abs(path.after / path.gradient - 1) > 0.05).all()


def test_direction_and_length(seen, problem):
  wn, (params, extra) = seen['wn'], problem.init(0)
  rows = jax.random.permutation(jax.random.fold_in(
      jax.random.fold_in(jax.random.key(0), 1), 0), 1257)[:100]
  batch = jax.tree.map(lambda a: a[rows], problem.dataset.train)
  slopes = jax.grad(lambda p: problem.loss(p, extra, *batch)[0])(params)
  for at, name in enumerate(wn.blocks):
    w, g = (np.asarray(tree[name]['kernel'], np.float64)
            for tree in (params, slopes))
    by_length = (w * g).sum(0) / np.linalg.norm(w, axis=0)
    rest = g - w / np.linalg.norm(w, axis=0) * by_length
    bias = np.asarray(slopes[name]['bias'], np.float64)
    assert wn.parts['length'][0, at] == pytest.approx(
        np.linalg.norm(by_length), rel=1e-3)
    assert wn.parts['direction'][0, at] == pytest.approx(
        np.linalg.norm([*rest.ravel(), *bias]), rel=1e-3)
    # Together, as many numbers as the gradient has and the units.
    both = np.sort(abs(np.concatenate([rest.ravel(), bias, by_length])))
    both = both[both > 0]
    median = QUANTILES.index(0.5)
    assert wn.reached[0, at, median] == pytest.approx(
        np.median(both), rel=0.1)
    # The raw gradient's entries, in full.
    raw = np.sort(abs(np.concatenate([g.ravel(), bias])))
    zeros, rest = (raw == 0).mean(), raw[raw > 0]
    np.testing.assert_allclose(
        wn.before[0, at], [*np.quantile(
            rest, QUANTILES, method='nearest'), zeros], rtol=0.02, atol=1e-6)


def test_entries_by_hand(problem):
  params, _ = problem.init(0)
  tree = jax.tree.map(jnp.zeros_like, params)
  name = sorted(params)[0]
  count = sum(leaf.size for leaf in jax.tree.leaves(tree[name]))
  tree[name]['bias'] = jnp.array([0, -3, 0, 1, 4.0, 0, -5, 2])
  found = block_norms.sizes(problem, params, [tree])
  at = block_norms.names(problem, params).index(name)
  np.testing.assert_allclose(
      found[at], [1, 1, 2, 3, 4, 5, 5, 1 - 5 / count], rtol=1e-6)
  np.testing.assert_array_equal(found[1 - at], [0] * 7 + [1])


def test_chosen_examples_are_part_of_the_method(tmp_path):
  """Before: the gradient of the batch as it comes; after: of the chosen."""
  config = lab.load({
      'data': {'source': 'long_dependency', 'task': 'temporal_order',
               'length': 12, 'sizes': [60, 40, 40]},
      'models': {'srn': {'kind': 'recurrent', 'width': 6, 'scale': 0.7}},
      'methods': {name: {'optimizer': 'sgd', 'sampling': {
          'size': 4, 'rule': name}} for name in ('random', 'sgr')},
      'train': {'steps': 10, 'eval_every': 10, 'batch_size': 12}})
  random, sgr = inspection.run(config, tmp_path, batches=1).looks
  np.testing.assert_allclose(random.gradient, random.after, rtol=1e-6)
  np.testing.assert_allclose(sgr.gradient, random.gradient, rtol=1e-4)
  assert (abs(sgr.after / sgr.gradient - 1) > 1e-3).any()
  np.testing.assert_allclose(sgr.update, 0.01 * sgr.after, rtol=1e-3)
