"""Orders that undo themselves are found, and nothing else is."""

import jax
import optax
import pytest
from flax import linen as nn
from jax import numpy as jnp

import gradnorm_optax as gn


@pytest.fixture(autouse=True)
def _foreign_code():
  with jax.numpy_dtype_promotion('standard'):
    yield


def shape(*axes):
  return jax.ShapeDtypeStruct(axes, 'float32')


PARAMS = {
    'Dense_0': {'kernel': shape(5, 4), 'bias': shape(4)},
    'Dense_1': {'kernel': shape(4, 3), 'bias': shape(3)},
    'Dense_2': {'kernel': shape(3, 2), 'bias': shape(2)}}
KERNELS = {name: {'kernel': True, 'bias': False} for name in PARAMS}
GROUPS = jax.tree.map(lambda k: 'kernels' if k else 'rest', KERNELS)
LAYERS = {'Dense_0': 'first', 'Dense_1': 'rest', 'Dense_2': 'rest'}
WARM_UP = optax.linear_schedule(0.0, 0.1, 5)

clip = optax.clip_by_global_norm
bng = gn.normalize_by_block_norm


def of_g(tree):
  return {'v': jax.tree.map(lambda _: False, tree['v']),
          'g': jax.tree.map(lambda _: True, tree['g'])}


def network(params, x):
  for layer in params.values():
    x = jax.nn.relu(x @ layer['kernel'] + layer['bias'])
  return x


# What is found, the bad chain, the mended one.
ORDERS = {
    'clipped before': (
        'in front of the normalization',
        optax.chain(clip(1.0), bng(), optax.adam(1e-3)),
        gn.bng(optax.adam(1e-3))),
    'clipped before SING': (
        'in front of the normalization', optax.chain(clip(1.0), gn.sing(1e-2)),
        optax.chain(optax.clip(1.0), gn.sing(1e-2))),
    'clipped arrays before': (
        'in front of the normalization',
        optax.chain(optax.clip_by_block_rms(1.0), bng('leaf'), optax.sgd(0.1)),
        optax.chain(bng('leaf'), optax.sgd(0.1))),
    'clipped before, inside of others': (
        'in front of the normalization',
        optax.MultiSteps(optax.apply_if_finite(optax.chain(
            clip(1.0), optax.inject_hyperparams(gn.sing)(WARM_UP)), 3), 2),
        optax.MultiSteps(optax.apply_if_finite(
            optax.inject_hyperparams(gn.sing)(WARM_UP), 3), 2)),
    'clipped behind': (
        'behind the normalization',
        optax.chain(bng(), clip(1.0), optax.sgd(0.1, momentum=0.9)),
        optax.chain(bng(), optax.sgd(0.1 / 3**0.5, momentum=0.9))),
    'clipped behind, then Adam': (
        'behind the normalization',
        optax.chain(gn.standardize(), clip(1.0), optax.adam(1e-3)),
        optax.chain(gn.standardize(), optax.adam(1e-3))),
    'micro-batches': (
        'each of 3 micro-batches is normalized',
        optax.chain(bng(), optax.MultiSteps(
            optax.adam(1e-3), 3).gradient_transformation()),
        optax.MultiSteps(gn.bng(optax.adam(1e-3)), 3)),
    'micro-batches, apply_every': (
        'each of 4 micro-batches is normalized',
        optax.chain(bng(), optax.sgd(0.1), optax.apply_every(4)),
        optax.MultiSteps(gn.bng(optax.sgd(0.1)), 4)),
    'weight norm, scaled behind': (
        'behind weight_normalized',
        optax.chain(gn.weight_normalized(optax.scale(-1.0)), optax.scale(0.1)),
        gn.weight_normalized(optax.sgd(0.1))),
    'weight norm, clipped behind': (
        'behind weight_normalized',
        optax.chain(gn.weight_normalized(optax.sgd(0.1)), clip(1e-2)),
        gn.weight_normalized(optax.chain(clip(1.0), optax.sgd(0.1)))),
    'decay of v': (
        'decay acts on v',
        gn.weight_normalized(optax.adamw(1e-3, weight_decay=1e-2)),
        gn.weight_normalized(
            optax.adamw(1e-3, weight_decay=1e-2, mask=of_g))),
    'decay of w behind': (
        'decay acts on v',
        optax.chain(gn.weight_normalized(optax.sgd(0.1)),
                    optax.add_decayed_weights(-1e-4)),
        gn.weight_normalized(optax.sgd(0.1))),
    'masked': (
        'parts of blocks',
        optax.chain(optax.masked(bng(), KERNELS), optax.sgd(0.1)),
        optax.chain(optax.masked(bng('leaf'), KERNELS), optax.sgd(0.1))),
    'partition': (
        'parts of blocks',
        optax.partition({'kernels': gn.bng(optax.sgd(0.1)),
                         'rest': optax.adam(1e-3)}, GROUPS),
        optax.chain(bng(), optax.partition(
            {'kernels': optax.sgd(0.1), 'rest': optax.adam(1e-3)}, GROUPS))),
    'flattened': (
        'one long vector', optax.flatten(gn.bng(optax.adam(1e-3))),
        optax.chain(bng(), optax.flatten(optax.adam(1e-3)))),
    'not moving': (
        'no parameter moved', gn.bng(optax.sgd(0.0)), gn.bng(optax.sgd(0.1))),
}


@pytest.mark.parametrize('name', ORDERS)
def test_the_order_is_found_and_its_mend_is_not(name):
  what, bad, good = ORDERS[name]
  found = gn.check_chain(bad, PARAMS)
  assert what in ' '.join(finding.what for finding in found), found
  assert all(finding.mend and finding.where for finding in found)
  assert gn.check_chain(good, PARAMS) == []


GOOD = {
    'adam': lambda: optax.adam(1e-3),
    'clip + adamw': lambda: optax.chain(clip(1.0), optax.adamw(1e-3)),
    'clip + MultiSteps': lambda: optax.chain(
        clip(1.0), optax.MultiSteps(
            optax.sgd(0.1), 2).gradient_transformation()),
    'clip + sgd, warm-up': lambda: optax.chain(clip(1.0), optax.sgd(WARM_UP)),
    'fixed lengths': lambda: gn.weight_normalized(
        optax.adam(1e-3), lengths='fixed'),
    'lamb': lambda: optax.lamb(1e-3),
    'ng': lambda: gn.bng(optax.adam(1e-3), ratio=0.02),
    'global': lambda: gn.bng(optax.sgd(0.1), 'global'),
    'unit': lambda: gn.bng(optax.sgd(0.1), 'unit'),
    'two layers in a block': lambda: gn.bng(
        optax.sgd(0.1), lambda path, leaf: path.startswith('Dense_0')),
    'skip': lambda: gn.bng(optax.sgd(0.1), gn.Blocks(skip='*bias')),
    'unit clip': lambda: optax.chain(
        optax.adaptive_grad_clip(0.1), gn.bng(optax.sgd(0.1))),
    'recorders': lambda: optax.chain(
        gn.record_block_norms('before'), gn.standardize(),
        gn.record_block_norms('after'), optax.adamw(1e-3), gn.watch(
            'step', of='ratio')),
    'sing, warm-up': lambda: gn.sing(optax.warmup_cosine_decay_schedule(
        0.0, 1e-2, 5, 100), weight_decay=1e-3),
    'softplus': lambda: gn.sing(1e-2, weight_decay=1e-3, softplus_beta=50.0),
    'frozen': lambda: optax.partition(
        {'rest': gn.sing(1e-2), 'first': optax.set_to_zero()}, LAYERS),
    'half a block frozen': lambda: optax.partition(
        {'kernels': gn.bng(optax.sgd(0.1)), 'rest': optax.set_to_zero()},
        GROUPS),
    'large updates skipped': lambda: optax.MultiSteps(
        gn.bng(optax.sgd(0.1)), 2, should_skip_update_fn=lambda u, *_: (
            optax.skip_large_updates(u, *_, max_squared_norm=1e12))),
    'lion': lambda: optax.chain(gn.standardize(), optax.lion(1e-3)),
    'muon': lambda: optax.contrib.muon(1e-3),
    'prodigy': lambda: gn.bng(optax.contrib.prodigy(0.1)),
    'path_sgd': lambda: gn.path_sgd(0.01, network, shape(5), momentum=0.9),
    'clip + weight norm': lambda: optax.chain(
        clip(1.0), gn.weight_normalized(optax.sgd(0.1))),
    'weight norm of bng': lambda: gn.weight_normalized(
        gn.bng(optax.adam(1e-3))),
    'weight norm, accumulated': lambda: optax.MultiSteps(
        gn.weight_normalized(optax.adam(WARM_UP)), 2),
}


@pytest.mark.parametrize('name', GOOD)
def test_no_false_alarm(name):
  assert gn.check_chain(GOOD[name](), PARAMS) == []


def test_findings_print_themselves_and_arguments_are_checked():
  found = gn.check_chain(ORDERS['masked'][1], PARAMS)
  assert str(found) == (
      'normalize_by_block_norm normalizes parts of blocks, because a mask or'
      ' partition hides the rest\n'
      "  where: normalize_by_block_norm: block 'Dense_0' without Dense_0/bias,"
      " block 'Dense_1' without Dense_1/bias, block 'Dense_2' without"
      ' Dense_2/bias\n'
      f'  mend: {found[0].mend}')
  with pytest.raises(TypeError, match='an optax transformation'):
    gn.check_chain(3, PARAMS)


def test_boxes_holes_and_integers():
  boxed = nn.Partitioned(shape(3, 2), ('x', None))
  tree = {'a': {'kernel': boxed}, 'b': {'kernel': shape(2, 2), 'bias': None}}
  (found,) = gn.check_chain(
      optax.chain(clip(1.0), gn.bng(optax.sgd(0.1))), tree)
  assert found.where.endswith('a/kernel, b/kernel')
  tree['a']['steps'] = jax.ShapeDtypeStruct((2,), 'int32')
  mask = {'a': {'kernel': True, 'steps': False}, 'b': True}
  for tx in (gn.bng(optax.sgd(0.1), gn.Blocks(skip='*/steps')),
             optax.masked(gn.bng(optax.sgd(0.1)), mask)):
    assert gn.check_chain(tx, tree) == []
  assert gn.check_chain(optax.adam(1e-3), {}) == []


def test_extra_arguments_reach_the_chain():
  def update(updates, state, params=None, *, loss, **extra_args):
    return jax.tree.map(lambda u: -loss * u, updates), state

  tx = optax.chain(gn.standardize(), optax.GradientTransformationExtraArgs(
      lambda params: optax.EmptyState(), update))
  assert gn.check_chain(tx, PARAMS, loss=jnp.float32(2.0)) == []
