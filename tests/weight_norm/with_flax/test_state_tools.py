"""States under the tools that optax and Flax have for meshes and shapes."""

import functools

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax import numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from gradnorm_optax.weight_norm import weight_normalized

DTYPES = pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])


def mesh(kind=AxisType.Auto):
  return jax.make_mesh((4, 2), ('data', 'model'), axis_types=(kind,) * 2)


def make():
  return weight_normalized(optax.adamw(1e-2))


def train(tx, params, state, grads):
  updates, state = tx.update(grads, state, params)
  return optax.apply_updates(params, updates), state


def assert_close(got, want, tolerance=1e-6):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      np.asarray(a, float), np.asarray(b, float), rtol=tolerance,
      atol=tolerance), got, want)


def problem(dtype='float32'):
  rng = np.random.default_rng(0)
  params = {name: {'kernel': jnp.asarray(rng.normal(size=(16, 8)), dtype),
                   'bias': jnp.asarray(rng.normal(size=8), dtype)}
            for name in 'ab'}
  return params, jax.tree.map(jnp.cos, params)


@DTYPES
@pytest.mark.parametrize('cut', [
    P('data', 'model'), P('model'), P(None, 'data')])
def test_map_params_gives_shardings_under_which_a_state_is_made(dtype, cut):
  params, grads = problem(dtype)
  want = train(make(), params, make().init(params), grads)
  on = mesh()
  layer = {'kernel': NamedSharding(on, cut),
           'bias': NamedSharding(on, P('model'))}
  shardings = {'a': layer, 'b': layer}
  params, grads = (jax.device_put(x, shardings) for x in (params, grads))
  tx = optax.chain(optax.clip_by_global_norm(1e9), make())
  of_state = optax.tree.map_params(
      tx, lambda _, sharding: sharding, jax.eval_shape(tx.init, params),
      shardings, transform_non_params=lambda _: NamedSharding(on, P()))
  state = jax.jit(tx.init, out_shardings=of_state)(params)
  moments = optax.tree.get(state, 'mu')
  assert moments['v']['a']['kernel'].sharding.spec == cut
  got = jax.jit(functools.partial(train, tx))(params, state, grads)[0]
  assert_close(got, want[0], 1e-5 if dtype == 'float32' else 1e-2)


def test_a_state_follows_the_sharding_of_its_parameters():
  params, grads = problem()
  on = mesh(AxisType.Explicit)
  with jax.set_mesh(on):
    params, grads = (jax.tree.map(
        lambda x: jax.device_put(x, NamedSharding(on, P(
            *('data', 'model')[-x.ndim:]))), tree) for tree in (params, grads))
    tx = make()
    state = tx.init(params)
    assert state.scale['a/kernel'].sharding.spec == P(None, 'model')

    # Explicit meshes have shardings in their types, which a scan compares.
    def body(carry, _):
      return train(tx, *carry, grads), None

    (got, _), _ = jax.jit(lambda p, s: jax.lax.scan(
        body, (p, s), length=2))(params, state)
    assert got['a']['kernel'].sharding.spec == P('data', 'model')


@DTYPES
@pytest.mark.parametrize('box', [nn.with_partitioning,
                                 nn.with_logical_partitioning])
def test_a_linen_state_with_boxes(dtype, box):
  class Net(nn.Module):

    @nn.compact
    def __call__(self, x):
      init = nn.initializers.lecun_normal()
      x = nn.Dense(8, param_dtype=dtype, kernel_init=box(
          init, ('data', 'model')), bias_init=box(
              nn.initializers.zeros, ('model',)))(x)
      return nn.Dense(2, param_dtype=dtype, kernel_init=box(
          init, ('model', None)))(nn.tanh(x))

  net, x = Net(), jnp.ones((4, 16))

  def create():
    return TrainState.create(
        apply_fn=net.apply, params=net.init(jax.random.key(0), x)['params'],
        tx=make())

  def advance(state):
    grads = jax.grad(lambda p: jnp.mean(jnp.square(
        net.apply({'params': p}, x).astype('float32'))))(state.params)
    return state.apply_gradients(grads=grads)

  on = mesh()
  with jax.set_mesh(on):
    abstract = jax.eval_shape(create)
    shardings = nn.get_sharding(abstract, on)
    state = jax.jit(create, out_shardings=shardings)()
    kernel = nn.meta.unbox(state.params)['Dense_0']['kernel']
    assert kernel.sharding.spec == P('data', 'model')
    # Numbers by unit stand in no box, and float32 weights in their leaf's.
    assert state.opt_state.scale['Dense_0/kernel'].shape == (1, 8)
    if dtype == 'bfloat16':
      held = state.opt_state.weights['Dense_0/kernel'].w
      assert held.names == ('data', 'model')
    state = jax.jit(advance)(jax.jit(advance)(state))
    # A state of boxed parameters serves bare ones.
    tx = state.tx
    bare = nn.meta.unbox(state.params)
    updates, _ = tx.update(
        jax.tree.map(jnp.ones_like, bare), nn.meta.unbox(state.opt_state), bare)
  plain = jax.tree.map(jnp.asarray, jax.device_get(bare))
  unboxed = TrainState.create(
      apply_fn=net.apply, tx=make(), params=jax.device_get(
          nn.meta.unbox(net.init(jax.random.key(0), x)['params'])))
  unboxed = jax.jit(advance)(jax.jit(advance)(unboxed))
  assert_close(plain, unboxed.params, 1e-5 if dtype == 'float32' else 2e-2)
  assert updates['Dense_0']['kernel'].dtype == dtype


@DTYPES
def test_a_sharded_nnx_optimizer(dtype):
  class Net(nnx.Module):

    def __init__(self, cut):
      kernel, bias = (nnx.initializers.lecun_normal(),
                      nnx.initializers.zeros_init())
      if cut:
        kernel = nnx.with_partitioning(kernel, ('data', 'model'))
        bias = nnx.with_partitioning(bias, ('model',))
      self.dense = nnx.Linear(
          16, 8, rngs=nnx.Rngs(0), param_dtype=jnp.dtype(dtype),
          kernel_init=kernel, bias_init=bias)

    def __call__(self, x):
      return self.dense(x)

  x = jnp.ones((4, 16))

  def create(cut):
    model = Net(cut)
    return model, nnx.Optimizer(model, make(), wrt=nnx.Param)

  def advance(model, optimizer):
    optimizer.update(model, nnx.grad(
        lambda m: jnp.mean(jnp.square(m(x).astype('float32'))))(model))

  on = mesh()
  with jax.set_mesh(on):
    @nnx.jit
    def sharded():
      both = create(True)
      state = nnx.state(both)
      nnx.update(both, jax.lax.with_sharding_constraint(
          state, nnx.get_named_sharding(state, on)))
      return both

    model, optimizer = sharded()
    scale = optimizer.opt_state.scale['dense/kernel']
    assert scale.get_value().shape == (1, 8)
    nnx.jit(advance)(model, optimizer)
  plain, other = create(False)
  nnx.jit(advance)(plain, other)
  assert_close(jax.device_get(nnx.as_pure(nnx.state(model, nnx.Param))),
               jax.device_get(nnx.as_pure(nnx.state(plain, nnx.Param))),
               1e-5 if dtype == 'float32' else 2e-2)


@DTYPES
def test_abstract_parameters_give_the_shapes_of_the_state(dtype):
  params, _ = problem(dtype)
  tx = make()
  abstract = jax.eval_shape(lambda p: p, params)
  shape = lambda x: (x.shape, x.dtype)  # noqa: E731
  got = jax.tree.map(shape, tx.init(abstract))
  assert got == jax.tree.map(shape, tx.init(params))
  assert got == jax.tree.map(shape, jax.eval_shape(tx.init, params))


@DTYPES
def test_an_abstract_nnx_model(dtype):
  build = lambda: nnx.Linear(  # noqa: E731
      3, 4, param_dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))
  with jax.numpy_dtype_promotion('standard'):
    abstract = nnx.eval_shape(build)
    found = nnx.Optimizer(abstract, make(), wrt=nnx.Param)
    want = nnx.Optimizer(build(), make(), wrt=nnx.Param)
  shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), nnx.as_pure(
      nnx.state(optimizer))) for optimizer in (found, want)]
  assert shapes[0] == shapes[1]
