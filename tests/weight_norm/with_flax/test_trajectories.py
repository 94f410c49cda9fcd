"""The optimizer-level form walks with the modules, in every train state."""

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn, nnx
from flax.training.train_state import TrainState
from jax import numpy as jnp

from gradnorm_optax.linen import WeightNorm
from gradnorm_optax.weight_norm import weight_normalized

OPTIMIZERS = {
    'sgd': lambda: optax.sgd(0.1),
    'momentum': lambda: optax.sgd(0.1, momentum=0.9),
    'adam': lambda: optax.adam(0.01),
    'adamw': lambda: optax.adamw(0.01, weight_decay=0.1),
    'clipped adam': lambda: optax.chain(
        optax.clip_by_global_norm(0.05), optax.adam(0.01)),
}


class Net(nn.Module):
  wrap: bool

  @nn.compact
  def __call__(self, x):
    wrap = WeightNorm if self.wrap else (lambda layer: layer)
    kind = {'param_dtype': 'float64'}
    x = nn.tanh(wrap(nn.Conv(3, (2, 2), **kind))(x))
    x = nn.tanh(wrap(nn.DenseGeneral((2, 3), **kind))(x.reshape(len(x), -1)))
    return wrap(nn.DenseGeneral(2, axis=(-2, -1), **kind))(x)


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_both_forms_walk_together(optimizer):
  with jax.enable_x64(True):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4, 4, 2)))
    inner = OPTIMIZERS[optimizer]()

    def walk(module, tx):
      params = module.init(jax.random.key(0), x)['params']

      def loss(params):
        return jnp.mean((module.apply({'params': params}, x) - 1) ** 2)

      def body(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), module.apply({'params': params}, x)

      return jax.jit(lambda params: jax.lax.scan(
          body, (params, tx.init(params)), length=100))(params)

    # `nn.DenseGeneral((2, 3))` on a vector: one norm over axis 0 of
    # (in, 2, 3) or over all but the last; both forms read it alike.
    (_, _), outputs = walk(Net(True), inner)
    (params, state), got = walk(Net(False), weight_normalized(inner))
    assert np.abs(got - outputs).max() < 1e-12
    assert np.abs(outputs[-1] - outputs[0]).max() > 1e-2
    for name, layer in params.items():
      assert state.scale[f'{name}/kernel'].ndim == layer['kernel'].ndim


def test_nnx_optimizer():
  model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.relu,
                         nnx.Linear(4, 2, rngs=nnx.Rngs(1)))
  x = jnp.ones((2, 3))
  tx = weight_normalized(optax.adam(0.1))
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  params = nnx.as_pure(nnx.state(model, nnx.Param))
  state = tx.init(params)

  @nnx.jit
  def train(model, optimizer):
    grads = nnx.grad(lambda m: jnp.mean(m(x) ** 2))(model)
    optimizer.update(model, grads)
    return grads

  for _ in range(3):
    grads = nnx.as_pure(train(model, optimizer))
    updates, state = jax.jit(tx.update)(grads, state, params)
    params = optax.apply_updates(params, updates)
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
      nnx.as_pure(nnx.state(model, nnx.Param)), params)


def test_train_state_and_checkpoint(tmp_path):
  import orbax.checkpoint as ocp

  x = jnp.ones((2, 3), jnp.bfloat16)
  module = nn.Dense(4, param_dtype='bfloat16')
  state = TrainState.create(
      apply_fn=module.apply, params=module.init(jax.random.key(0), x)['params'],
      tx=weight_normalized(optax.adam(0.01)))

  @jax.jit
  def train(state):
    grads = jax.grad(
        lambda p: jnp.mean(state.apply_fn({'params': p}, x) ** 2))(state.params)
    return state.apply_gradients(grads=grads)

  state = train(train(state))
  saved = {'params': state.params, 'opt_state': state.opt_state}
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'at2', saved)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(
        tmp_path / 'at2', jax.tree.map(ocp.utils.to_shape_dtype_struct, saved))
  jax.tree.map(np.testing.assert_array_equal, saved, restored)
  assert restored['opt_state'].weights['kernel'].w.dtype == 'float32'
  again = train(state.replace(**restored))
  jax.tree.map(np.testing.assert_array_equal, again.params,
               train(state).params)
