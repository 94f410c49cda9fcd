"""SING's moments, dtypes, options and derivatives, with optax as the oracle."""

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax, numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradnorm_optax as gn

OPTIMIZERS = {'sing': lambda **k: gn.sing(0.1, weight_decay=0.01, **k),
              'scale_by_softplus_adam': gn.scale_by_softplus_adam}


@pytest.fixture(autouse=True)
def _standard_promotion():
  with jax.numpy_dtype_promotion('standard'):  # optax relies on it
    yield


def problem(dtype='float32', grads=None):
  rng = np.random.default_rng(0)
  draw = lambda kind: {  # noqa: E731
      'kernel': jnp.asarray(rng.normal(size=(8, 16)), kind),
      'bias': jnp.asarray(rng.normal(size=16), kind)}
  return draw(dtype), draw(grads or dtype)


def moments(state):
  state = state[1] if not hasattr(state, 'mu') else state
  return state.mu, state.nu


@pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize('make', OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_moments_lie_where_the_parameters_lie(make, kind):
  """And so a scan and MultiSteps over them keep their types."""
  mesh = jax.make_mesh((8,), ('x',), axis_types=(kind,))
  params, grads = problem()
  where = {'kernel': NamedSharding(mesh, P(None, 'x')),
           'bias': NamedSharding(mesh, P('x'))}
  want, _ = make().update(grads, make().init(params), params)
  with jax.set_mesh(mesh):
    params, grads = jax.device_put((params, grads), (where, where))
    state = make().init(params)
    for tree in moments(state):
      assert jax.tree.map(lambda m: m.sharding, tree) == where
    tx = optax.MultiSteps(make(), 2)

    def body(state, _):
      updates, state = tx.update(grads, state, params)
      return state, updates

    _, history = jax.jit(
        lambda s: lax.scan(body, s, length=2))(tx.init(params))
  for path, value in want.items():
    np.testing.assert_allclose(history[path][1], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('make', OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_state_of_abstract_and_of_boxed_parameters(make):
  params, _ = problem('bfloat16')
  abstract = jax.eval_shape(lambda: params)
  like = jax.tree.map(lambda x: (x.shape, x.dtype), make().init(params))
  for state in (make().init(abstract), jax.eval_shape(make().init, abstract)):
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == like
  boxes = params | {'bias': nn.Partitioned(params['bias'], ('model',))}
  for tree in moments(make().init(boxes)):
    assert jax.tree.structure(tree) == jax.tree.structure(boxes)
  model = nnx.eval_shape(lambda: nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
  state = nnx.state(nnx.Optimizer(model, make(), wrt=nnx.Param))
  assert sum(leaf.shape == (3, 2) for leaf in jax.tree.leaves(state)) == 2


@pytest.mark.parametrize('mu_dtype', [None, 'bfloat16'])
@pytest.mark.parametrize('options', [
    {}, {'nesterov': True}, {'eps_root': 1e-3, 'eps': 1e-2}], ids=str)
def test_options_are_those_of_optax(options, mu_dtype):
  params, grads = problem()
  adam = {'mu_dtype': mu_dtype, **options}
  decay = {'kernel': True, 'bias': False}
  for tx, oracle in [
      (gn.scale_by_softplus_adam(beta=None, **adam),
       optax.scale_by_adam(**adam)),
      (gn.sing(0.1, weight_decay=0.01, **adam), optax.chain(
          gn.standardize(), optax.adamw(
              0.1, weight_decay=0.01, mask=decay, **adam)))]:
    state, want_state = tx.init(params), oracle.init(params)
    for n in range(3):
      g = jax.tree.map(lambda x, n=n: x + 0.3 * n, grads)
      got, state = tx.update(g, state, params)
      want, want_state = oracle.update(g, want_state, params)
      # optax multiplies a bfloat16 moment by its decay in bfloat16.
      near = {'rtol': 1e-3, 'atol': 1e-2} if mu_dtype else {'rtol': 2e-5}
      for path, value in want.items():
        np.testing.assert_allclose(got[path], value, **near, err_msg=path)
    mu, nu = moments(state)
    assert {m.dtype for m in mu.values()} == {jnp.dtype(mu_dtype or 'float32')}
    assert {v.dtype for v in nu.values()} == {jnp.dtype('float32')}


@pytest.mark.parametrize(('dtype', 'grads', 'want'), [
    ('float32', 'bfloat16', 'float32'), ('bfloat16', 'float32', 'float32'),
    ('bfloat16', 'bfloat16', 'bfloat16')])
def test_updates_have_the_wider_dtype(dtype, grads, want):
  params, g = problem(dtype, grads)
  tx = gn.sing(0.1, weight_decay=0.01)
  updates, _ = tx.update(g, tx.init(params), params)
  assert {u.dtype for u in updates.values()} == {jnp.dtype(want)}
  oracle = optax.chain(gn.standardize(), optax.adamw(
      0.1, weight_decay=0.01, mask={'kernel': True, 'bias': False}))
  if dtype == 'float32':
    expected, _ = oracle.update(g, oracle.init(params), params)
    for path, value in expected.items():  # optax squares in bfloat16
      np.testing.assert_allclose(updates[path], value, rtol=1e-2)
  adam = gn.scale_by_softplus_adam()
  updates, _ = adam.update(g, adam.init(params))
  assert {u.dtype for u in updates.values()} == {jnp.dtype(grads)}


@pytest.mark.parametrize('beta', [None, 50.0])
def test_derivatives_through_two_steps_are_finite_and_right(beta):
  """Of a later loss by the rate, where entries of the gradient are 0."""
  with jax.enable_x64(True):
    start = {'kernel': jnp.asarray([[1.0, -2.0], [0.5, 0.3], [0.2, 0.0]])}

    def loss(params):  # its first column has a gradient of exactly 0
      return (params['kernel'][:, 1] ** 2 * jnp.arange(1.0, 4.0)).sum()

    def trained(rate):
      tx = gn.sing(rate, weight_decay=0.1, softplus_beta=beta)
      params, state = start, tx.init(start)
      for _ in range(2):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
      return loss(params)

    h, rate = 1e-6, 0.05
    want = (trained(rate + h) - trained(rate - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(trained)(rate), want, rtol=1e-6)
    _, slope = jax.jvp(trained, (rate,), (1.0,))
    np.testing.assert_allclose(slope, want, rtol=1e-6)


def test_skipped_integers_are_not_touched():
  params = {'table': jnp.arange(6), 'frozen': jnp.ones(3, bool),
            'scale': jnp.asarray([1.0, 2.0]), 'kernel': jnp.ones((3, 2))}

  def loss(params):
    return (params['kernel'] ** 2).sum() + (params['scale'] ** 3).sum()

  grads = jax.grad(loss, allow_int=True)(params)
  assert grads['table'].dtype == jax.dtypes.float0
  tx = gn.sing(0.1, blocks=gn.Blocks('leaf', skip=('table', 'frozen', 'scale')))
  state = tx.init(params)
  for g in (grads, grads | {'table': jnp.arange(6)}):
    updates, after = tx.update(g, state, params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    new = optax.apply_updates(params, updates)
    for name in ('table', 'frozen'):
      np.testing.assert_array_equal(new[name], params[name])
      assert new[name].dtype == params[name].dtype
    # A skipped floating-point leaf is trained by AdamW, as it is.
    np.testing.assert_allclose(updates['scale'], [-0.1, -0.1], rtol=1e-5)
  assert len(jax.tree.leaves(moments(state))) == 4
  updates, _ = tx.update(grads | {'table': None, 'bias': None}, state,
                         params | {'bias': jnp.ones(2)})
  assert updates['table'] is updates['bias'] is None


@pytest.mark.parametrize('option', [
    'learning_rate', 'b1', 'b2', 'eps', 'eps_root', 'weight_decay',
    'softplus_beta'])
def test_every_number_of_sing_is_checked(option):
  with pytest.raises(ValueError, match=rf'sing\({option}=-1'):
    gn.sing(**{'learning_rate': 0.1, option: -1.0})


def test_decay_may_be_a_schedule():
  params, _ = problem()
  zero = jax.tree.map(jnp.zeros_like, params)
  tx = gn.sing(0.5, weight_decay=lambda count: 0.1 * (count + 1))
  state = tx.init(params)
  for n in range(2):
    updates, state = tx.update(zero, state, params)
    np.testing.assert_allclose(
        updates['kernel'], -0.05 * (n + 1) * params['kernel'], rtol=1e-6)
