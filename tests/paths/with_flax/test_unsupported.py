"""What has no path norm is refused in one clear sentence."""

import flax.linen as nn
import jax
import pytest
from flax import nnx
from jax import lax, numpy as jnp
from jax.sharding import PartitionSpec as P

from gradnorm_optax import linen, paths
from gradnorm_optax.nnx import apply_fn as nnx_apply_fn

X = jnp.zeros((1, 4, 4))
HERE = 'test_unsupported.py'

MODULES = {
    'gelu': (nn.Sequential([nn.Dense(4), nn.gelu]), 'GELU', ''),
    'silu': (nn.Sequential([nn.Dense(4), nn.silu]), 'logistic', ''),
    'attention': (
        nn.MultiHeadDotProductAttention(2), 'dot_general', 'inference mode'),
    'layer_norm': (nn.LayerNorm(), 'LayerNorm', 'BatchNorm_0'[:0]),
    'tanh_rnn': (nn.RNN(nn.SimpleCell(4)), "'tanh'", 'relu or a linear'),
    'gru': (nn.RNN(nn.GRUCell(4)), 'gates', ''),
    'batch_norm_training': (
        nn.BatchNorm(use_running_average=False), 'use_running_average', ''),
}


@pytest.mark.parametrize('name', MODULES)
def test_module(name):
  module, *words = MODULES[name]
  variables = module.init(jax.random.key(0), X)
  params = variables.pop('params')
  net = linen.apply_fn(module)
  if 'batch_stats' in variables:
    net = lambda w, x: module.apply(  # noqa: E731
        {'params': w, **variables}, x, mutable=['batch_stats'])[0]
  with pytest.raises(paths.LiftError) as caught:
    paths.path_norm(net, params, X)
  message = str(caught.value)
  assert 'primitive' in message and '.py:' in message
  assert all(word in message for word in words), message
  with pytest.raises(paths.LiftError):
    paths.path_scale(net, params, X)


FUNCTIONS = {
    'data_dependent_while': (
        lambda w, x: lax.while_loop(
            lambda y: y.sum() < 3, lambda y: 2 * y, x @ w), "'while'",
        'fixed number of turns'),
    'data_dependent_cond': (
        lambda w, x: lax.cond(
            x.sum() > 0, lambda y: y, lambda y: 2 * y, x @ w), "'cond'",
        'Choose the branch in Python'),
    'product': (lambda w, x: (x @ w) * x, "'mul'", 'both depend on'),
    'quotient': (lambda w, x: x / (x @ w), "'div'", 'division'),
    'softmax': (lambda w, x: jax.nn.softmax(x @ w), "'exp'", 'logits'),
    'threshold': (
        lambda w, x: jnp.where(x > 1, x @ w, 0.0), "'select_n'", 'rescaling'),
    'data_gather': (
        lambda w, x: w[jnp.argmax(x[0], -1)], "'gather'", 'one-hot'),
    'jump': (lambda w, x: jnp.where(x > 1, x, 0.0), "'select_n'", 'rescaling'),
    'jump_at_a_parameter': (
        lambda w, x: jnp.where(x > w[0, 0], x, 0.0), "'select_n'", 'rescaling'),
    'jump_of_a_multiple': (
        lambda w, x: jnp.where(2 * x > 1, 1.0, x), "'select_n'", 'rescaling'),
    'jump_on_the_other_side': (
        lambda w, x: jnp.where(-x > 1, 1.0, x), "'select_n'", 'rescaling'),
    'hard_shrink': (
        lambda w, x: jnp.where(abs(x) > 1, x, 0.0), "'select_n'", 'rescaling'),
    'gate_above_one': (lambda w, x: x * (x > 1), "'mul'", 'homogeneous'),
    'round': (lambda w, x: jnp.round(x @ w), "'round'", 'not positively'),
    'sort': (lambda w, x: jnp.sort(x @ w), "no rule for primitive 'sort'"),
    'top_k': (lambda w, x: lax.top_k(x, 2)[0], "no rule for primitive 'top_k'"),
    'fft': (lambda w, x: jnp.fft.rfft(x).real, "no rule for primitive 'fft'"),
    'shard_map': (
        lambda w, x: jax.shard_map(
            lambda x: x, mesh=jax.make_mesh((1,), ('m',)), in_specs=P(),
            out_specs=P())(x), "no rule for primitive 'shard_map'",
        'outside of shard_map'),
    'long_loop': (
        lambda w, x: lax.while_loop(
            lambda c: c[0] < 5000, lambda c: (c[0] + 1, c[1]), (0, x @ w))[1],
        "'while'", '4096'),
}


@pytest.mark.parametrize('name', FUNCTIONS)
def test_function(name):
  net, *words = FUNCTIONS[name]
  with pytest.raises(paths.LiftError) as caught:
    paths.path_norm(net, jnp.ones((4, 4)), X)
  message = str(caught.value)
  assert HERE in message, message
  assert all(word in message for word in words), message


def test_module_is_named():
  class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.tanh(x)

  class Outer(nn.Module):
    @nn.compact
    def __call__(self, x):
      return Inner(name='culprit')(nn.Dense(3)(x))

  params = Outer().init(jax.random.key(0), X)['params']
  with pytest.raises(paths.LiftError, match='culprit'):
    paths.path_norm(linen.apply_fn(Outer()), params, X)


def test_nnx_layer_norm():
  model = nnx.LayerNorm(4, rngs=nnx.Rngs(0))
  with pytest.raises(paths.LiftError, match='LayerNorm'):
    paths.path_norm(nnx_apply_fn(model), nnx.state(model, nnx.Param), X)


def test_token_ids_are_refused_by_type():
  module = nn.Embed(5, 3)
  ids = jnp.zeros((1, 2), jnp.int32)
  params = module.init(jax.random.key(0), ids)['params']
  with pytest.raises(TypeError, match='one-hot'):
    paths.path_norm(linen.apply_fn(module), params, ids)
