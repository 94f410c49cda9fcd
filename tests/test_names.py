"""Names of leaves: exact paths, globs, the root, and what names hide."""

import fnmatch

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradnorm_optax as gn
from gradnorm_optax import _tree

shape = lambda *axes: jax.ShapeDtypeStruct(axes, 'float32')  # noqa: E731


def test_what_a_message_advises_works():
  """Also for names that hold glob signs."""
  tree = {'layers[0]': {'w': shape(3, 2)}, 'layers0': {'w': shape(3, 2)}}
  with pytest.raises(ValueError) as error:
    gn.standardize().init(tree)
  mend = "units={'layers0/w': -1}"
  assert mend in str(error.value)
  blocks = gn.Blocks('leaf', units={'layers[0]/w': -1, '*': 0})
  rows = {row.path: row for row in gn.explain(tree, blocks).rows}
  # As a glob, `layers[0]/w` would match `layers0/w`.
  assert rows['layers[0]/w'].fan_in == '0'
  assert rows['layers0/w'].fan_in == '1'
  only = {'layers[0]': {'w': jnp.ones((3, 2))}}
  with pytest.raises(ValueError) as error:
    gn.standardize().init(only)
  assert "units={'layers[0]/w': -1}" in str(error.value)
  gn.standardize(gn.Blocks(units={'layers[0]/w': -1})).init(only)


def test_exact_paths_count_before_globs():
  tree = {'a': {'kernel': shape(2, 3, 4)}}
  blocks = gn.Blocks(fan_in={'*': 1, 'a/kernel': 0})
  assert gn.explain(tree, blocks).rows[0].fan_in == '0'


def test_exact_paths_are_looked_up(monkeypatch):
  """2000 of them are no scan of all for each leaf: none becomes a pattern."""
  made, translate = [], fnmatch.translate
  monkeypatch.setattr(
      fnmatch, 'translate', lambda glob: made.append(glob) or translate(glob))
  tree = {f'layers[{n}]': {'w': shape(3, 2)} for n in range(2000)}
  units = {f'layers[{n}]/w': -1 for n in range(2000)}
  gn.standardize(gn.Blocks('leaf', units=units)).init(tree)
  assert not made
  gn.standardize(gn.Blocks('leaf', units={'*': -1})).init(tree)
  assert made == ['*']


def test_one_name_for_the_root():
  array = jnp.ones((3, 3))
  assert _tree.paths(array) == [_tree.ROOT] == ['(root)']
  assert gn.explain(array).rows[0].path == '(root)'
  assert gn.explain(None).rows[0].path == '(root)'
  for run in (
      lambda: gn.normalize_by_block_norm().init(jnp.arange(3)),
      lambda: gn.standardize().init(array),
      lambda: gn.weight_normalized(optax.sgd(0.1), where='*', blocks='leaf'
                                   ).init(jnp.arange(3)),
  ):
    with pytest.raises((TypeError, ValueError), match=r"leaf '\(root\)'"):
      run()
  blocks = gn.Blocks('leaf', units={'(root)': -1})
  assert gn.explain(array, blocks).rows[0].fan_in == '0'


def test_one_vector_at_the_root_is_named():
  """`optax.flatten` hides the layers from what is inside."""
  g = {'a': {'kernel': jnp.ones((2, 2))}, 'b': {'kernel': jnp.ones((2, 2))}}
  with pytest.warns(UserWarning, match=r'optax\.flatten'):
    optax.flatten(gn.bng(optax.sgd(1.0))).init(g)
  tx = optax.chain(
      gn.normalize_by_block_norm(), optax.flatten(optax.sgd(1.0)))
  updates, _ = tx.update(g, tx.init(g), g)
  np.testing.assert_allclose(updates['a']['kernel'], -0.5, rtol=1e-6)
  gn.bng(optax.sgd(1.0), 'global').init(jnp.ones(8))  # said, so no warning


@pytest.mark.parametrize('names', [
    ('a.kernel', 'a.bias'), ("['a']['kernel']", "['a']['bias']")])
def test_paths_in_one_key_are_named(names):
  with pytest.warns(UserWarning, match=r'look like paths.*unflatten_dict'):
    gn.explain({names[0]: shape(3, 2), names[1]: shape(2)})
  # Names with dots that share nothing are names.
  gn.explain({'a.1': shape(3), 'b.1': shape(3)})


def test_tuple_keys_are_segments():
  tree = {('a', 'kernel'): shape(3, 2), ('a', 'bias'): shape(2)}
  assert [row.block for row in gn.explain(tree).rows] == ['a', 'a']
  assert {row.path for row in gn.explain(tree).rows} == {'a/kernel', 'a/bias'}


def test_entries_are_units_where_every_axis_is_one():
  g = {'kernel': jnp.array([[3., -4.]]), 'bias': jnp.array([5., -6.])}
  blocks = gn.Blocks('unit', units={'kernel': (0, 1), 'bias': 0})
  assert [row.block_size for row in gn.explain(g, blocks).rows] == [
      '2 x 1', '2 x 1']
  tx = gn.normalize_by_block_norm(blocks)
  updates, _ = tx.update(g, tx.init(g))
  np.testing.assert_array_equal(updates['kernel'], [[1, -1]])
  np.testing.assert_array_equal(updates['bias'], [1, -1])


STACK = {'mlp': {'kernel': shape(6, 8, 4), 'bias': shape(6, 4)},
         'norm': {'scale': shape(6, 8)}}


@pytest.mark.parametrize(('tree', 'words'), [
    ({'query': {'kernel': shape(64, 6, 4, 16)}}, 'query/kernel.*rank 4'),
    ({'wi': {'kernel': shape(8, 2, 6)}}, 'wi/kernel.*rank 3'),
    (STACK, "mlp/kernel.*looks stacked.*norm/scale.*looks stacked.*stacked="),
    ({'up': {'kernel': shape(3, 3, 5, 2), 'bias': shape(5)}},
     'its bias of shape .5,. is not of its last axes'),
    ({'heads': {'kernel': shape(6, 6, 4), 'bias': shape(6, 4)}},
     'it has heads, or layers'),
])
def test_axes_in_doubt_are_refused_or_named(tree, words):
  for make in (gn.standardize, gn.centralize, lambda: gn.sing(0.1)):
    with pytest.raises(ValueError, match=words):
      make().init(tree)
  if 'up' not in tree and 'wi' not in tree:  # outputs, not layers, in doubt
    with pytest.warns(UserWarning, match=r'stacked='):
      gn.normalize_by_block_norm().init(tree)


@pytest.mark.parametrize('tree', [
    # scanned projections, with the layers in front
    {'layers': {n: {'kernel': shape(6, 8, 8)} for n in ('query', 'key')}},
    {'layers': {'out': {'kernel': shape(6, 64, 32)}}},
    # 12 layers of a convolution in one dimension; experts x layers
    {'Conv_0': {'kernel': shape(12, 3, 16, 32)}},
    {'mlp': {'kernel': shape(8, 8, 64, 256)}},
    # what is stacked near it tells
    {'Conv_0': {'kernel': shape(3, 3, 3, 4, 4)},
     'BatchNorm_0': {'scale': shape(3, 4)}},
])
def test_stacks_without_a_bias_are_not_taken_for_something_else(tree):
  with pytest.raises(ValueError, match=r'Name it'):
    gn.standardize().init(tree)
  with pytest.raises(ValueError, match=r'Name it'):
    gn.weight_normalized(optax.sgd(0.1)).init(
        jax.tree.map(lambda s: jnp.ones(s.shape), tree))


def test_a_told_stack_makes_its_neighbours_doubtful():
  tree = {'Conv_0': {'kernel': shape(3, 3, 8, 8)}, 'Dense_0': {
      'kernel': shape(3, 8, 4), 'bias': shape(3, 4)}}
  blocks = gn.Blocks('leaf', stacked={'Dense_0/*': 0})
  with pytest.raises(ValueError, match=r'Conv_0/kernel.*stacked to the length'):
    gn.standardize(blocks).init(tree)


@pytest.mark.parametrize('tree', [
    {'Conv_0': {'kernel': shape(7, 7, 3, 64)}},
    {'layers': [{'kernel': shape(3, 3, 4, 8)}]},
    {'attention': {'query': {'kernel': shape(8, 2, 4)},
                   'key': {'kernel': shape(8, 1, 4)},
                   'value': {'kernel': shape(8, 1, 4)},
                   'out': {'kernel': shape(2, 4, 8)}}},
    {'l': {'lora_a': shape(8, 2), 'lora_b': shape(2, 6)}},
])
def test_ordinary_layers_without_a_bias_are_read(tree):
  gn.sing(0.1).init(tree)


@pytest.mark.parametrize('tree', [
    {'ConvTranspose_0': {'kernel': shape(4, 4, 8, 8)}},
    {'layers': [{'kernel': shape(3, 4, 8)}]},
    {'aspect': {'kernel': shape(3, 1, 6, 6)}},
    {'q_proj': {'kernel': shape(8, 2, 4)}},
])
def test_block_norms_say_nothing_of_outputs(tree):
  """They need no fan-in, and nothing looks stacked."""
  gn.bng(optax.sgd(0.1)).init(tree)


def test_what_is_said_ends_the_doubt():
  told = gn.Blocks(stacked={'q/*': ()})
  gn.bng(optax.sgd(0.1), told).init({'query': {'q': {}}, 'q': {
      'kernel': shape(8, 2, 4), 'bias': shape(8, 4)}})
  norm = {'ln': {'weight': shape(4, 5), 'bias': shape(4, 5)}}
  blocks = gn.Blocks.equinox('leaf', stacked={'ln/*': ()})
  gn.sing(0.1, blocks=blocks).init(norm)
  gn.sing(0.1, blocks=gn.Blocks('leaf', stacked={'*': 0})).init(STACK)
  plain = {'norm': {'scale': shape(6, 8)}}
  blocks = gn.Blocks('leaf', stacked={'norm/scale': ()})
  assert gn.explain(plain, blocks).rows[0].block_size == '48'


def test_muon_takes_and_gives_the_same_axes():
  numbers = optax.contrib.MuonDimensionNumbers
  params = {
      'query': {'kernel': jnp.ones((8, 2, 4)), 'bias': jnp.ones((2, 4))},
      'layers': {'kernel': jnp.ones((3, 8, 4)), 'bias': jnp.ones((3, 4))},
      'embed': {'embedding': jnp.ones((9, 8))}}
  blocks = gn.Blocks('leaf', stacked={'layers/*': 0}, skip='embed/*')
  table = gn.muon_dimension_numbers(params, blocks)
  assert table == {
      'query': {'kernel': numbers((0,), (1, 2)), 'bias': None},
      'layers': {'kernel': numbers((1,), (2,)), 'bias': None},
      'embed': {'embedding': None}}
  tx = optax.contrib.muon(1e-3, muon_weight_dimension_numbers=table)
  tx.init(params)
  back = gn.explain(params, gn.Blocks.from_muon(
      table, stacked={'layers/bias': 0}))
  there = gn.explain(params, gn.Blocks('leaf', stacked={'layers/*': 0}))
  assert back == there
  with pytest.raises(TypeError, match='pass what it returns'):
    gn.Blocks.from_muon(lambda params: table)
  with pytest.raises(TypeError, match="leaf 'a'.*MuonDimensionNumbers"):
    gn.Blocks.from_muon({'a': 3})


@pytest.mark.parametrize(('make', 'words'), [
    (lambda: gn.standardize(eps=optax.constant_schedule(0.1)),
     r'eps.*inject_hyperparams'),
    (lambda: gn.sing(0.1, weight_decay='0.1'), "weight_decay='0.1'"),
    (lambda: gn.sing(None), 'learning_rate=None.*a number'),
    (lambda: gn.sing('0.1'), "learning_rate='0.1'.*a number"),
    (lambda: gn.bng(optax.sgd(0.1), ratio='big'), "ratio='big'"),
    (lambda: gn.standardize(eps=jnp.ones(2)), r'eps.*one number.*\(2,\)'),
    (lambda: gn.normalize_by_block_norm(eps=None), 'eps=None'),
    (lambda: gn.standardize(eps=1j), 'eps=1j.*a number'),
    (lambda: gn.Blocks(sharded={'a': 'x'}), "'x' at 'a'.*PartitionSpec"),
    (lambda: gn.bng(optax.sgd(0.1), min_norm=0.1), 'Give `ratio` too'),
])
def test_a_number_has_to_be_one(make, words):
  with pytest.raises((TypeError, ValueError), match=words):
    make()


def test_a_layer_that_starts_at_zero_moves_with_min_norm():
  p = {'last': {'kernel': jnp.zeros((2, 2)), 'bias': jnp.zeros(2)}}
  g = jax.tree.map(jnp.ones_like, p)
  for min_norm, want in ((0.0, 0.0), (0.5, -0.1 * 0.5 / np.sqrt(6))):
    tx = gn.bng(optax.sgd(1.0), ratio=0.1, min_norm=min_norm)
    updates, _ = tx.update(g, tx.init(p), p)
    np.testing.assert_allclose(updates['last']['bias'], want, rtol=1e-6)
