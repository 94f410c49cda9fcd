"""The rules of every transformation: what it computes, and in which types."""

import dataclasses

import contract
import jax
import numpy as np
import optax
import pytest
from contract import Row, arrays, flat, numbers, problem, rows
from jax import numpy as jnp


def assert_close(got, want, tolerance):
  got = flat(got)
  assert got.keys() == want.keys()
  for path, value in want.items():
    scale = np.abs(value).max()
    np.testing.assert_allclose(
        got[path], value, rtol=tolerance, atol=tolerance * scale, err_msg=path)


@rows()
@pytest.mark.parametrize('dtype', contract.DTYPES)
@pytest.mark.parametrize('jit', [False, True], ids=['eager', 'jit'])
@pytest.mark.gpu
def test_matches_reference_and_keeps_dtype(row: Row, dtype, jit):
  with jax.enable_x64(dtype == 'float64'), row.promotion():
    g, p = problem(dtype)
    tx = row.tx()
    step = jax.jit(tx.update) if jit else tx.update
    updates, _ = step(g, tx.init(p), p)
    for leaf in jax.tree.leaves(updates):
      assert leaf.dtype == dtype
    assert_close(updates, row.reference(flat(g), flat(p)),
                 contract.TOLERANCE[dtype])


@rows()
def test_ignores_unknown_extra_arguments(row: Row):
  g, p = problem()
  with row.promotion():
    tx = row.tx()
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    updates, _ = tx.update(g, tx.init(p), p, loss=1.0, unknown='yes')
  assert_close(updates, row.reference(flat(g), flat(p)), 1e-5)


@rows()
def test_vmap_equals_one_by_one(row: Row):
  pairs = [problem(seed=seed) for seed in (0, 10, 20)]
  stack = lambda *leaves: jnp.stack(leaves)  # noqa: E731
  g = jax.tree.map(stack, *[g for g, _ in pairs])
  p = jax.tree.map(stack, *[p for _, p in pairs])
  with row.promotion():
    tx = row.tx()
    updates, _ = jax.vmap(lambda g, p: tx.update(g, tx.init(p), p))(g, p)
  for n, (one_g, one_p) in enumerate(pairs):
    one = jax.tree.map(lambda leaf, n=n: leaf[n], updates)
    assert_close(one, row.reference(flat(one_g), flat(one_p)), 1e-5)


@rows()
def test_traces_once_and_scans(row: Row):
  g, p = problem()
  traces = []

  def step(g, state, p):
    traces.append(1)
    return tx.update(g, state, p)

  with row.promotion():
    tx = row.tx()
    jitted, state, history = jax.jit(step), tx.init(p), []
    for n in range(3):
      updates, state = jitted(jax.tree.map(lambda x, n=n: x * (n + 1), g),
                              state, p)
      history.append(updates)
    assert len(traces) == 1

    def body(state, n):
      updates, state = tx.update(
          jax.tree.map(lambda x: x * n.astype(x.dtype), g), state, p)
      return state, updates

    _, scanned = jax.lax.scan(body, tx.init(p), jnp.arange(1, 4))
  for n, one in enumerate(history):
    assert_close(jax.tree.map(lambda x, n=n: x[n], scanned), flat(one), 1e-5)


@rows()
def test_does_not_alias_what_it_was_given(row: Row):
  """Params and state may be donated together."""
  g, p = problem()
  with row.promotion():
    tx = row.tx()
    step = jax.jit(tx.update, donate_argnums=(1, 2))
    want = flat(tx.update(g, tx.init(p), p)[0])
    # A state that shares a buffer with the parameters cannot be donated.
    updates, _ = step(g, tx.init(p), p)
  assert_close(updates, want, 1e-5)


@rows()
def test_state_is_arrays_that_map_params_understands(row: Row):
  _, p = problem()
  with row.promotion():
    tx = row.tx()
    state = tx.init(p)
    assert bool(jax.tree.leaves(state)) == row.has_state
    for leaf in jax.tree.leaves(state):
      assert isinstance(leaf, jax.Array)
    for keys, leaf in jax.tree_util.tree_leaves_with_path(state):
      if 'count' in str(keys[-1]):
        assert leaf.dtype == jnp.int32
    if not row.telemetry:
      same = optax.tree.map_params(tx, lambda leaf: leaf, state)
      assert jax.tree.structure(same) == jax.tree.structure(state)


@rows()
def test_integer_leaves_are_refused_by_path(row: Row):
  g, p = problem()
  with row.promotion():
    tx = row.tx()
    state = tx.init(p)
    for tree in (g, p):
      tree['Dense_1']['bias'] = jnp.arange(2)
    with pytest.raises(TypeError, match='Dense_1/bias'):
      tx.init(p)
    with pytest.raises(TypeError, match='Dense_1/bias'):
      tx.update(g, state, p)


@rows(lambda row: not row.needs_params)
def test_works_without_params(row: Row):
  g, p = problem()
  tx = row.tx()
  updates, _ = tx.update(g, tx.init(p))
  assert_close(updates, row.reference(flat(g), flat(p)), 1e-5)


@rows(lambda row: row.needs_params)
def test_missing_params_are_named(row: Row):
  g, p = problem()
  with row.promotion():
    tx = row.tx()
    name = {'bng': 'scale_by_block_param_norm',
            'path_sgd': 'normalize_by_path_scale'}.get(row.name, row.name)
    with pytest.raises(ValueError, match=name):
      tx.update(g, tx.init(p))


@rows()
def test_changed_tree_is_found(row: Row):
  g, p = problem()
  with row.promotion():
    tx = row.tx()
    state = tx.init(p)
    del g['Dense_1']
    with pytest.raises(ValueError, match='Dense_1'):
      tx.update(g, state, p)


@rows()
@pytest.mark.gpu
def test_zero_gradient_gives_finite_updates(row: Row):
  _, p = problem()
  zero = jax.tree.map(jnp.zeros_like, p)
  with row.promotion():
    tx = row.tx()
    updates, _ = jax.jit(tx.update)(zero, tx.init(p), p)
  # Weight decay moves parameters without a gradient; nothing else does.
  want = {path: (-0.1 * 0.01 * w if 'kernel' in path else 0 * w)
          if row.name == 'sing' else 0 * w for path, w in flat(p).items()}
  for path, value in flat(updates).items():
    np.testing.assert_allclose(value, want[path], atol=1e-7, err_msg=path)


@rows()
@pytest.mark.parametrize('poison', [np.nan, np.inf])
@pytest.mark.gpu
def test_nonfinite_block_stays_alone(row: Row, poison):
  g, p = problem()
  g['Dense_0']['kernel'] = g['Dense_0']['kernel'].at[1, 2].set(poison)
  with row.promotion():
    tx = row.tx()
    updates, _ = jax.jit(tx.update)(g, tx.init(p), p)
  # Telemetry and moments hand infinity on or turn it into NaN; both count.
  assert not np.isfinite(updates['Dense_0']['kernel']).all()
  for leaf in jax.tree.leaves(updates['Dense_1']):
    assert np.isfinite(leaf).all()


@dataclasses.dataclass
class Module:
  """A registered dataclass, as Equinox's modules and chex's are."""

  layers: list


jax.tree_util.register_dataclass(Module, data_fields=['layers'], meta_fields=[])


@rows()
def test_any_tree(row: Row):
  """A dict, a tuple and a dataclass of the same layers: the same numbers."""
  g, p = problem()
  with row.promotion():
    tx = row.tx()
    want = jax.tree.leaves(tx.update(g, tx.init(p), p)[0])
    for build in (lambda t: (t['Dense_0'], t['Dense_1']),
                  lambda t: Module([t['Dense_0'], t['Dense_1']])):
      updates, _ = tx.update(build(g), tx.init(build(p)), build(p))
      assert jax.tree.structure(updates) == jax.tree.structure(build(g))
      for got, leaf in zip(jax.tree.leaves(updates), want, strict=True):
        np.testing.assert_allclose(got, leaf, rtol=1e-5, atol=1e-7)


# There is no network, and no kernel, in an empty tree.
@rows(lambda row: not row.whole and row.name != 'weight_normalized')
def test_tree_without_leaves(row: Row):
  with row.promotion():
    tx = row.tx()
    updates, _ = tx.update({}, tx.init({}), {})
  assert updates == {}


# The others contain an epsilon or a second moment of their own.
@rows(lambda row: row.unit_norm or row.name == 'centralize')
@pytest.mark.parametrize(('dtype', 'value', 'tolerance'), [
    ('float16', 300.0, 1e-3), ('float32', 1e-37, 1e-5),
    ('float32', 1e-23, 1e-5), ('float32', 1e30, 1e-5),
    ('bfloat16', 1e-37, 1e-2), ('bfloat16', 1e30, 1e-2)])
@pytest.mark.gpu
def test_whole_range_of_the_dtype(row: Row, dtype, value, tolerance):
  """Results follow the reference where squares leave the dtype's range."""
  values = {path: v * 0 + np.sign(v) * (1 + np.arange(v.size).reshape(v.shape)
                                        / 8) * value
            for path, v in numbers(0).items()}
  g = arrays(values, dtype)
  updates, _ = jax.jit(row.tx().update)(g, row.tx().init(g), g)
  assert_close(updates, row.reference(flat(g), flat(g)), tolerance)
