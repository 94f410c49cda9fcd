"""Which entries form a block: Flax, Haiku and Equinox trees, and mistakes."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import numpy as np
import optax
import pytest
from flax import nnx
from jax import numpy as jnp

import gradnorm_optax as gn
from gradnorm_optax import _tree

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def _foreign_code():
  with (jax.numpy_dtype_promotion('standard'),
        jax.numpy_rank_promotion('allow')):
    yield


def table(tree, blocks='layer'):
  """{path: row} of the explanation."""
  return {row.path: row for row in gn.explain(tree, blocks).rows}


def linen(module, *shapes):
  inputs = [jnp.zeros(shape) for shape in shapes]
  return jax.eval_shape(module.init, KEY, *inputs)['params']


def test_dense_conv_and_norm_layers():
  class Net(nn.Module):

    @nn.compact
    def __call__(self, x):
      x = nn.Conv(6, (3, 3))(x)
      x = nn.BatchNorm(use_running_average=True)(x)
      x = nn.Conv(6, (3, 3), feature_group_count=6)(x)
      return nn.Dense(4)(nn.LayerNorm()(x.mean((1, 2))))

  rows = table(linen(Net(), (1, 8, 8, 3)))
  assert rows['Conv_0/kernel'].fan_in == '0,1,2'
  assert rows['Conv_1/kernel'].shape == (3, 3, 1, 6)  # depthwise
  assert rows['Conv_1/kernel'].fan_in == '0,1,2'
  assert rows['Dense_0/kernel'].fan_in == '0'
  assert rows['Dense_0/bias'].fan_in == '-'
  assert rows['Dense_0/bias'].block == rows['Dense_0/kernel'].block == 'Dense_0'
  assert rows['Dense_0/kernel'].block_size == str(6 * 4 + 4)
  assert rows['BatchNorm_0/scale'].block == rows['BatchNorm_0/bias'].block
  assert rows['LayerNorm_0/scale'].block == 'LayerNorm_0'


def test_transposed_convolution_needs_an_override_for_one_layout():
  plain = linen(nn.ConvTranspose(5, (3, 3)), (1, 4, 4, 2))
  assert plain['kernel'].shape == (3, 3, 2, 5)
  assert table(plain)['kernel'].fan_in == '0,1,2'
  turned = linen(nn.ConvTranspose(5, (3, 3), transpose_kernel=True),
                 (1, 4, 4, 2))
  assert turned['kernel'].shape == (3, 3, 5, 2)
  rows = table(turned, gn.Blocks(units={'kernel': -2}))
  assert rows['kernel'].fan_in == '0,1,3'
  same = table(turned, gn.Blocks(fan_in={'kernel': (0, 1, 3)}))
  assert same['kernel'].fan_in == '0,1,3'


def test_attention_embedding_and_recurrent_cells():
  attention = linen(
      nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8),
      (1, 5, 6), (1, 5, 6))
  rows = table(attention, 'unit')
  for name in ('query', 'key', 'value'):
    assert rows[f'{name}/kernel'].shape == (6, 2, 4)
    assert rows[f'{name}/kernel'].fan_in == '0'
    assert rows[f'{name}/kernel'].block_size == '8 x 6'
    assert rows[f'{name}/bias'].shape == (2, 4)  # rank 2, and yet a vector
    assert rows[f'{name}/bias'].block_size == '8'
  assert rows['out/kernel'].fan_in == '0,1'
  assert rows['out/kernel'].block_size == '6 x 8'
  embedding = jax.eval_shape(
      nn.Embed(10, 4).init, KEY, jnp.zeros((2,), jnp.int32))['params']
  assert table(embedding)['embedding'].fan_in == '1'
  for cell in (nn.LSTMCell(3), nn.OptimizedLSTMCell(3), nn.GRUCell(3)):
    params = jax.eval_shape(
        cell.init, KEY, cell.initialize_carry(KEY, (2, 5)), jnp.zeros((2, 5)))
    for path, row in table(params['params']).items():
      assert row.fan_in == ('0' if path.endswith('kernel') else '-')
      assert row.block == path.rpartition('/')[0]


@pytest.mark.parametrize('axis', [0, 1])
def test_scanned_layers(axis):
  class Layer(nn.Module):

    @nn.compact
    def __call__(self, x, _):
      return nn.Dense(4)(x), None

  stack = nn.scan(Layer, variable_axes={'params': axis},
                  split_rngs={'params': True}, length=3)()
  params = jax.eval_shape(stack.init, KEY, jnp.zeros((2, 4)), None)['params']
  shape = (3, 4, 4) if axis == 0 else (4, 3, 4)
  assert params['Dense_0']['kernel'].shape == shape
  rows = table(params, gn.Blocks(stacked={'*': axis}))
  assert rows['Dense_0/kernel'].fan_in == ('1' if axis == 0 else '0')
  assert rows['Dense_0/kernel'].block_size == '3 x 20'
  assert rows['Dense_0/bias'].stacked == str(axis)
  whole = table(params, gn.Blocks('global', stacked={'*': axis}))
  assert whole['Dense_0/kernel'].block_size == '60'
  assert whole['Dense_0/kernel'].fan_in == ('1' if axis == 0 else '0')


def test_nnx_paths_do_not_depend_on_the_wrapping():
  class Attention(nnx.Module):  # an attribute called value is no suffix

    def __init__(self, rngs):
      self.value = nnx.Linear(2, 3, rngs=rngs)
      self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(2)])

  model = Attention(nnx.Rngs(0))
  state = nnx.state(model, nnx.Param)
  want = ['layers/0/bias', 'layers/0/kernel', 'layers/1/bias',
          'layers/1/kernel', 'value/bias', 'value/kernel']
  assert sorted(_tree.paths(state)) == want
  assert sorted(_tree.paths(nnx.to_pure_dict(state))) == want
  assert sorted(_tree.paths(nnx.as_pure(state))) == want
  assert table(state)['value/kernel'].fan_in == '0'


def test_root_leaves():
  shape = jax.ShapeDtypeStruct((3, 3), 'float32')
  assert [r.block for r in gn.explain([shape] * 4).rows] == ['0', '1', '2', '3']
  vector = jax.ShapeDtypeStruct((3,), 'float32')
  rows = gn.explain({'kernel': shape, 'bias': vector}).rows
  assert rows[0].block == rows[1].block
  rows = gn.explain({'kernel': shape, 'other': shape}).rows
  assert rows[0].block != rows[1].block
  for by in ('layer', 'leaf'):
    (row,) = gn.explain(shape, by).rows
    assert (row.block, row.block_size) == ('(root)', '9')
  nested = gn.explain([[shape, shape], [shape, shape]]).rows
  assert [r.block for r in nested] == ['0', '0', '1', '1']


def test_presets_of_other_libraries():
  mlp = eqx.filter(eqx.nn.MLP(2, 3, 4, 1, key=KEY), eqx.is_array)
  rows = table(mlp, gn.Blocks.equinox('unit'))
  assert rows['layers/0/weight'].fan_in == '1'
  assert rows['layers/0/weight'].block_size == '4 x 2'
  with pytest.raises(ValueError, match=r'layers/0/weight.*equinox'):
    gn.explain(mlp, 'unit')
  net = hk.transform(lambda x: hk.nets.MLP([4, 3])(x))
  params = net.init(KEY, jnp.zeros((1, 2)))
  rows = table(params, gn.Blocks.haiku('unit'))
  assert rows['mlp/~/linear_0/w'].fan_in == '0'
  assert rows['mlp/~/linear_0/b'].fan_in == '-'


def test_label_functions_and_skip():
  tree = {'a': {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)},
          'b': {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}}
  by = lambda path, leaf: (leaf.ndim, path[-1])  # noqa: E731
  rows = table(tree, gn.Blocks(by, skip=('b/*',)))
  assert rows['a/kernel'].block == str((2, 'l'))
  assert rows['b/kernel'].block == '-'
  updates, _ = gn.normalize_by_block_norm(gn.Blocks(skip='b/*')).update(
      tree, optax.EmptyState())
  np.testing.assert_array_equal(updates['b']['kernel'], tree['b']['kernel'])
  assert np.abs(updates['a']['kernel']).max() < 1


def test_first_glob_wins_and_blocks_hash():
  tree = {'a': {'kernel': jnp.ones((2, 3, 4))}}
  special = gn.Blocks(fan_in={'a/*': 0, '*': 1})
  assert table(tree, special)['a/kernel'].fan_in == '0'
  general = gn.Blocks(fan_in={'*': 1, 'a/*': 0})
  assert table(tree, general)['a/kernel'].fan_in == '1'
  assert special != general
  assert len({special, general, gn.Blocks(fan_in={'a/*': 0, '*': 1})}) == 2


def test_globs_see_hidden_leaves():
  tree = {'a': {'kernel': jnp.ones((2, 2)), 'bias': None},
          'b': optax.MaskedNode()}
  blocks = gn.Blocks(skip=('a/bias',), fan_in={'b/*': 0})
  assert table(tree, blocks)['a/kernel'].block == 'a'
  assert gn.explain({}, blocks).rows == ()


LAYER = {'Dense_0': {'kernel': jnp.ones((3, 4)), 'bias': jnp.ones(4)}}
STACK = {'mlp': {'kernel': jnp.ones((6, 8, 4)), 'bias': jnp.ones((5, 4))}}


@pytest.mark.parametrize(('build', 'words'), [
    (lambda: gn.Blocks('layers'), "'layers'.*did you mean 'layer'"),
    (lambda: gn.Blocks(3), 'static_args'),
    (lambda: gn.Blocks(stacked=['a']), r'stacked.*\{glob: axis'),
    (lambda: gn.explain(LAYER, gn.Blocks(skip=('Dense_1/*',))),
     r"skip.*'Dense_1/\*' matches no path.*Dense_0/"),
    (lambda: gn.explain(LAYER, gn.Blocks(stacked={'*kernel': 2})),
     r"'Dense_0/kernel'.*\(3, 4\).*out of range.*2 axes"),
    (lambda: gn.explain(STACK, gn.Blocks(stacked={'*': 0})),
     r"block 'mlp'.*different layer axes.*mlp/bias.*5.*mlp/kernel.*6"),
    (lambda: gn.explain(STACK, gn.Blocks(stacked={'*kernel': 0})),
     "block 'mlp'.*different layer axes"),
    (lambda: gn.explain(STACK, gn.Blocks(stacked={'*': 0}, fan_in={'*': 0})),
     'fan_in names axis 0.*layer axis'),
    (lambda: gn.explain(LAYER, gn.Blocks(fan_in={'*': 0}, units={'*': 0})),
     'disagree'),
    (lambda: gn.centralize().init({'pos_embed': jnp.ones((2, 3))}),
     "pos_embed.*no known output axis.*units="),
    (lambda: gn.Blocks(skip=None), r"skip=None.*expected globs"),
    (lambda: gn.explain(LAYER | {'b': None}, gn.Blocks(skip=('*nope',))),
     r"'\*nope' matches no path"),
    (lambda: gn.normalize_by_block_norm(eps=-1.0), 'eps=-1.0.*at least 0'),
    (lambda: gn.sing(-0.1), 'learning_rate=-0.1.*at least 0'),
    (lambda: gn.scale_by_softplus_adam(b1=1.0), r'b1=1.0.*\[0, 1\)'),
    (lambda: gn.scale_by_softplus_adam(beta=0.0), 'beta=0.0.*above 0'),
])
def test_mistakes_name_path_and_mend(build, words):
  with pytest.raises(ValueError, match=words):
    build()


@pytest.mark.parametrize(('tree', 'words'), [
    ({'a': jnp.arange(3)}, "leaf 'a' has dtype int32.*optax.masked"),
    ({'a': jax.nn.relu}, "leaf 'a' is a .*not an array"),
])
def test_leaves_without_a_gradient_are_refused(tree, words):
  with pytest.raises(TypeError, match=words):
    gn.normalize_by_block_norm().init(tree)


@pytest.mark.parametrize('inner', [optax.adam, 0.1])
def test_inner_must_be_an_optimizer(inner):
  for wrap in (gn.bng, gn.weight_normalized):
    with pytest.raises(TypeError, match=r'optax optimizer, not.*write gn'):
      wrap(inner)


def test_unhashable_label_is_refused():
  with pytest.raises(TypeError, match=r'Dense_0/bias.*not hashable'):
    gn.explain(LAYER, lambda path, leaf: [path])


def test_explanation_is_text_and_data():
  found = gn.explain(LAYER)
  assert str(found) == repr(found)
  assert found.splitlines()[0].startswith('path')
  assert [row.path for row in found.rows] == ['Dense_0/bias', 'Dense_0/kernel']
