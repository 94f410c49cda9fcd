"""The rules of every transformation: inside optax's wrappers and Flax."""

import contract
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from contract import Row, arrays, flat, nest, numbers, problem, rows
from flax import nnx
from flax.training.train_state import TrainState
from jax import numpy as jnp
from test_contract import assert_close

import gradnorm_optax as gn


@pytest.fixture(autouse=True)
def _foreign_code():
  """optax's wrappers and Flax rely on ordinary promotion."""
  with (jax.numpy_dtype_promotion('standard'),
        jax.numpy_rank_promotion('allow')):
    yield


@rows()
def test_multi_steps_accumulates_first(row: Row):
  (first, p), (second, _) = problem(), problem(seed=5)
  tx = optax.MultiSteps(row.tx(), every_k_schedule=2)
  step, state = jax.jit(tx.update), tx.init(p)
  updates, state = step(first, state, p)
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(updates))
  updates, state = step(second, state, p)
  mean = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
  assert_close(updates, row.reference(flat(mean), flat(p)), 1e-5)


@rows(lambda row: not row.whole)
def test_masked_leaves_the_rest_alone(row: Row):
  g, p = problem()
  mask = {'Dense_0': True, 'Dense_1': {'kernel': True, 'bias': False}}
  tx = optax.masked(row.tx(), mask)
  updates, state = jax.jit(tx.update)(g, tx.init(p), p)
  chosen = [path for path in flat(g) if path != 'Dense_1/bias']
  want = row.reference({k: flat(g)[k] for k in chosen},
                       {k: flat(p)[k] for k in chosen})
  want['Dense_1/bias'] = flat(g)['Dense_1/bias']
  assert_close(updates, want, 1e-5)
  jax.jit(tx.update)(g, state, p)


@rows(lambda row: not row.whole)
def test_partition_normalizes_each_part(row: Row):
  g, p = problem()
  tx = optax.partition(
      {'first': row.tx(), 'frozen': optax.set_to_zero()},
      {'Dense_0': 'first', 'Dense_1': 'frozen'})
  updates, _ = jax.jit(tx.update)(g, tx.init(p), p)
  part = {k: v for k, v in flat(g).items() if k.startswith('Dense_0')}
  want = row.reference(part, {k: flat(p)[k] for k in part})
  want |= {k: 0 * v for k, v in flat(g).items() if k not in part}
  assert_close(updates, want, 1e-5)


@rows(lambda row: not row.whole)
def test_none_and_empty_leaves_pass(row: Row):
  g, p = problem()
  g['Dense_1']['bias'] = p['Dense_1']['bias'] = None
  g['Dense_1']['none'] = p['Dense_1']['none'] = jnp.zeros((0, 3))
  tx = row.tx()
  updates, _ = jax.jit(tx.update)(g, tx.init(p), p)
  assert updates['Dense_1']['bias'] is None
  assert updates['Dense_1'].pop('none').shape == (0, 3)
  del g['Dense_1']['none'], p['Dense_1']['none']
  assert_close(updates, row.reference(flat(g), flat(p)), 1e-5)


@rows()
def test_injected_hyperparameters(row: Row):
  """Injected equals plain, also with float16 parameters, also as schedules."""
  inner = row.make.func if hasattr(row.make, 'func') else row.make
  positional = row.make.args if hasattr(row.make, 'func') else ()
  static = tuple(row.static_args) + (
      ('inner',) if inner in (gn.bng, gn.weight_normalized) else ())
  for dtype in ('float32', 'float16'):
    g, p = problem(dtype)
    tx = optax.inject_hyperparams(
        inner, static_args=static, hyperparam_dtype=jnp.float32)(
            *positional, **row.options)
    updates, state = jax.jit(tx.update)(g, tx.init(p), p)
    assert_close(updates, row.reference(flat(g), flat(p)),
                 contract.TOLERANCE[dtype])
  injected = {k for k, v in row.options.items() if isinstance(v, float)}
  assert injected <= set(state.hyperparams)
  # The hyper-parameters' default dtype is the parameters', too small for eps.
  tx = optax.inject_hyperparams(inner, static_args=static)(
      *positional, **row.options)
  updates, _ = jax.jit(tx.update)(g, tx.init(p), p)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))


@rows()
def test_linen_train_state(row: Row):
  g, p = problem()
  state = TrainState.create(apply_fn=None, params=p, tx=row.tx())
  new = jax.jit(lambda s, g: s.apply_gradients(grads=g))(state, g)
  want = {path: flat(p)[path] + u
          for path, u in row.reference(flat(g), flat(p)).items()}
  assert_close(new.params, want, 1e-5)


class Net(nnx.Module):

  def __init__(self):
    self.Dense_0 = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    self.Dense_1 = nnx.Linear(3, 2, rngs=nnx.Rngs(0))

  def __call__(self, x):
    return self.Dense_1(nnx.relu(self.Dense_0(x)))


@rows()
def test_nnx_optimizer(row: Row):
  """`init` sees variables, `update` bare arrays: the paths are the same."""
  model = Net()
  g, p = problem()
  nnx.update(model, nnx.State({
      k: {n: nnx.Param(a) for n, a in layer.items()} for k, layer in p.items()
  }))
  optimizer = nnx.Optimizer(model, row.tx(), wrt=nnx.Param)
  grads = jax.tree.map(
      lambda _, new: new, nnx.state(model, nnx.Param),
      nnx.State({k: {n: nnx.Param(a) for n, a in layer.items()}
                 for k, layer in g.items()}))

  @nnx.jit
  def step(model, optimizer, grads):
    optimizer.update(model, grads)

  step(model, optimizer, grads)
  got = nnx.to_pure_dict(nnx.state(model, nnx.Param))
  want = {path: flat(p)[path] + u
          for path, u in row.reference(flat(g), flat(p)).items()}
  assert_close(got, want, 1e-5)


@rows()
def test_state_survives_a_checkpoint(row: Row, tmp_path):
  g, p = problem()
  tx = row.tx()
  _, state = tx.update(g, tx.init(p), p)
  saved = {'params': p, 'opt_state': state}
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'state', saved)
    checkpointer.wait_until_finished()
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, saved)
    restored = checkpointer.restore(tmp_path / 'state', shapes)
  assert jax.tree.structure(restored) == jax.tree.structure(saved)
  want, _ = tx.update(g, state, p)
  got, _ = tx.update(g, restored['opt_state'], restored['params'])
  assert_close(got, flat(want), 1e-7)


@rows(lambda row: not row.whole and row.name != 'weight_normalized')
def test_apply_if_finite_sees_a_poisoned_block(row: Row):
  g, p = problem()
  tx = optax.apply_if_finite(row.tx(), max_consecutive_errors=3)
  bad = arrays(numbers(0) | {'Dense_0/bias': np.full(3, np.nan)})
  updates, state = jax.jit(tx.update)(bad, tx.init(p), p)
  assert int(state.notfinite_count) == 1
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(updates))
  updates, _ = jax.jit(tx.update)(g, state, p)
  assert_close(updates, row.reference(flat(g), flat(p)), 1e-5)
  assert nest(flat(g)).keys() == g.keys()
