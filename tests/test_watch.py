"""Blocks out of their safe range: counted and dated inside the chain."""

import math

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from jax import numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P

import gradnorm_optax as gn

SIDES = ('below', 'above')


def run(tx, norms, params=None):
  """Feeds blocks {label: norms by step} through a scan; returns the state."""
  tree = lambda xs: {k: {'bias': x[None]} for k, x in xs.items()}  # noqa: E731
  first = tree({k: jnp.float32(0) for k in norms})

  def step(state, xs):
    return tx.update(tree(xs), state, params)[1], None

  courses = {k: jnp.asarray(v, jnp.float32) for k, v in norms.items()}
  return jax.jit(lambda s: jax.lax.scan(step, s, courses)[0])(tx.init(first))


def expected(course, low=None, high=None, learn=None, tail=0.0, margin=1.0):
  """One block's row, by the definition, in float64."""
  row = {'low': low, 'high': high, 'readings': 0}
  row |= dict.fromkeys(SIDES, 0)
  row |= {f'{end}_{s}': None for end in ('first', 'last') for s in SIDES}
  if low is None:
    row |= {'low': 0.0, 'high': math.inf}
  taken = []
  for step, x in enumerate(map(float, course)):
    finite = math.isfinite(x)
    out = {'below': x < row['low'], 'above': x > row['high'] or not finite}
    for side in SIDES:
      if out[side]:
        row[side] += 1
        row[f'last_{side}'] = step
        if row[f'first_{side}'] is None:
          row[f'first_{side}'] = step
    row['readings'] += finite
    if low is None and learn and finite and len(taken) < learn:
      taken.append(x)
      if len(taken) == learn:
        k = math.floor(tail * learn)
        row['low'] = sorted(taken)[k] / margin
        row['high'] = sorted(taken)[::-1][k] * margin
  return {'reading': float(course[-1]), **row}


def assert_row(got, want):
  assert got.keys() == want.keys()
  for field, value in want.items():
    if value is None or isinstance(value, int):
      assert got[field] == value, field
    else:
      np.testing.assert_allclose(got[field], value, rtol=1e-6, err_msg=field)


def courses(steps=400):
  rng = np.random.default_rng(0)
  found = {name: np.exp(rng.normal(size=steps) * spread).astype(np.float32)
           for name, spread in (('a', 1.0), ('b', 0.3), ('given', 1.0))}
  found['a'][[3, 7]] = np.nan  # in the first steps, which it learns from
  found['b'][[250, 390]] = np.inf, 0.0
  return found


@pytest.mark.parametrize(('learn', 'tail'), [(1, 0.0), (100, 0.03), (200, 0.2)])
def test_against_the_definition(learn, tail):
  tx = gn.watch('w', ranges={'given': (0.5, 2.0)}, learn=learn, tail=tail,
                margin=1.25)
  report = gn.watch_report(run(tx, courses()), 'w')
  for name, course in courses().items():
    want = expected(course, 0.5, 2.0) if name == 'given' else expected(
        course, learn=learn, tail=tail, margin=1.25)
    assert_row(report[name], want)
    assert want['below'] and want['above']  # the course tells something


def test_a_layer_that_vanishes_and_explodes_is_dated():
  """Layer 3 of a scanned stack, learned from noise; the others stay."""
  rng = np.random.default_rng(1)
  scale = np.ones((1000, 5), np.float32)
  scale[500:520, 3], scale[900:, 3] = 1e-6, 1e6
  g = jnp.asarray(scale[..., None] * rng.normal(size=(1000, 5, 8)), 'float32')
  tx = optax.chain(gn.watch('layers', gn.Blocks(stacked={'*': 0})),
                   optax.sgd(0.1))
  tree = lambda x: {'mlp': {'kernel': x}}  # noqa: E731
  start = tx.init(tree(g[0]))
  end, _ = jax.jit(lambda s: jax.lax.scan(
      lambda s, x: (tx.update(tree(x), s)[1], None), s, g))(start)
  sizes = lambda s: [(x.shape, x.dtype) for x in jax.tree.leaves(s)]  # noqa: E731
  assert sizes(start) == sizes(end)
  report = gn.watch_report(end, 'layers')
  assert list(report) == [f'mlp[{n}]' for n in range(5)]
  for n in (0, 1, 2, 4):
    assert report[f'mlp[{n}]']['below'] == report[f'mlp[{n}]']['above'] == 0
  row = report['mlp[3]']
  assert (row['below'], row['first_below'], row['last_below']) == (20, 500, 519)
  assert (row['above'], row['first_above'], row['last_above']) == (
      100, 900, 999)


def test_one_range_for_each_layer_and_open_ends():
  tx = gn.watch('w', gn.Blocks(stacked={'*': 0}), learn=None, ranges={
      'mlp': (np.array([0.0, 3.0, 0.0]), None)})
  g = {'mlp': {'kernel': jnp.full((3, 4), 1.0)}}  # norms of 2
  _, state = tx.update(g, tx.init(g))
  assert [row['below'] for row in gn.watch_report(state, 'w').values()] == [
      0, 1, 0]
  assert gn.watch_report(state, 'w')['mlp[1]']['high'] == math.inf


def test_every_nth_update_and_ratios():
  """Steps are updates, whether a reading is taken in them or not."""
  params = {'a': {'bias': jnp.full(1, 4.0)}}
  course = np.array([8, 800, 1, 800, 1, 8], np.float32)
  tx = gn.watch('w', ranges={'a': (1.0, 10.0)}, of='ratio', every=2)
  row = gn.watch_report(run(tx, {'a': course}, params), 'w')['a']
  assert (row['readings'], row['below'], row['first_below'],
          row['last_below'], row['above']) == (3, 2, 2, 4, 0)
  assert row['reading'] == 0.25
  with pytest.raises(ValueError, match='of="ratio".*needs the parameters'):
    tx.update(params, tx.init(params))


def test_wrappers_and_nnx():
  ranges = {'*': (0.5, 2.0)}
  g = {'a': {'bias': jnp.ones(1)}, 'b': {'bias': jnp.full(1, 9.0)}}
  make = lambda **options: gn.watch('w', ranges=ranges, **options)  # noqa: E731
  tx = optax.MultiSteps(optax.partition(
      {'x': make(), 'y': make()}, {'a': 'x', 'b': 'y'}), 2)
  model, state = nnx.Linear(2, 1, rngs=nnx.Rngs(0)), tx.init(g)
  with (jax.numpy_dtype_promotion('standard'),
        jax.numpy_rank_promotion('allow')):
    step = jax.jit(tx.update)
    for _ in range(4):
      _, state = step(g, state, g)
    optimizer = nnx.Optimizer(
        model, optax.chain(make(every=2), optax.adam(0.1)), wrt=nnx.Param)
    optimizer.update(model, nnx.grad(lambda m: m(jnp.ones((1, 2))).sum())(
        model))
  report = gn.watch_report(state)['w']
  assert report['a']['above'] == 0 and report['a']['readings'] == 2
  assert report['b']['above'] == 2 and report['b']['last_above'] == 1
  with pytest.raises(ValueError, match="two watchers called 'w'"):
    gn.watch_report(optax.chain(make(), make()).init(g))
  with pytest.raises(KeyError, match="no watcher called 'v'"):
    gn.watch_report(state, 'v')
  report = gn.watch_report(optimizer.opt_state, 'w')
  np.testing.assert_allclose(report['(root)']['reading'], 3**0.5, rtol=1e-6)
  assert gn.watch_report(nnx.split((model, optimizer))[1], 'w') == report
  assert gn.block_norms(optimizer.opt_state) == {}


@pytest.mark.parametrize('every', [1, 2])
def test_shards_have_the_whole_norm(every):
  g = {'kernel': jnp.ones((8, 2)), 'bias': jnp.full((2,), 3.0)}
  options = dict(every=every, axis_name='x')
  tx = optax.chain(
      gn.watch('w', 'leaf', ranges={'*': (0.0, 4.1)}, **options),
      gn.record_block_norms('n', 'leaf', ratio=True, decay=0.5, **options))
  specs = {'kernel': P('x'), 'bias': P()}
  mesh = jax.make_mesh((8,), ('x',), axis_types=(AxisType.Auto,))
  _, state = jax.jit(jax.shard_map(
      tx.update, mesh=mesh, in_specs=(specs, P(), specs),
      out_specs=(specs, P())))(g, tx.init(g), g)
  assert {k: row['above'] for k, row in gn.watch_report(state, 'w').items()
          } == {'bias': 1, 'kernel': 0}
  for norms in (gn.block_norms(state, 'n'), gn.block_means(state, 'n')):
    np.testing.assert_allclose(norms['kernel'], 4.0, rtol=1e-6)
  np.testing.assert_allclose(
      gn.block_ratios(state, 'n')['kernel'], 1.0, rtol=1e-6)


@pytest.mark.parametrize(('options', 'error', 'message'), [
    ({'ranges': {'c': (0, 1)}}, ValueError, "'c' matches no block.*'a'"),
    ({'ranges': {'a': (2, 1)}}, ValueError, 'low must be at most high'),
    ({'ranges': {'a': (math.nan, 1)}}, ValueError, 'low must be at most'),
    ({'ranges': {'a': 3}}, TypeError, r'a pair \(low, high\)'),
    ({'ranges': {'a': ('x', 1)}}, TypeError, 'numbers, or None'),
    ({'ranges': {'a': (np.ones(3), None)}}, ValueError, r'shape \(3,\)'),
    ({'learn': 0}, ValueError, 'at least 1'),
    ({'learn': 10**6}, ValueError, '64 are the most.*tail below 6.4e-05'),
    ({'tail': 0.5}, ValueError, r'\[0, 0.5\)'),
    ({'margin': 0.5}, ValueError, 'at least 1'),
    ({'of': 'x'}, ValueError, '"norm" or "ratio"'),
    ({'every': 0}, ValueError, 'at least 1'),
    ({'name': 3}, TypeError, 'a string')])
def test_mistakes(options, error, message):
  with pytest.raises(error, match=message):
    gn.watch(**{'name': 'w', **options}).init({'a': {'bias': jnp.ones(1)}})


def test_a_state_of_other_options_is_refused():
  g = {'a': {'bias': jnp.ones(1)}}
  state = gn.watch('w', learn=100, tail=0.1).init(g)
  with pytest.raises(ValueError, match='keeps 11 extreme readings.*ask for 1'):
    gn.watch('w', learn=1).update(g, state)
  with pytest.raises(ValueError, match="one called 'w'"):
    gn.watch('v').update(g, state)


def test_what_shapes_the_state_is_no_array():
  tx = optax.inject_hyperparams(gn.watch)('w')
  with pytest.raises(TypeError, match="add 'learn' to static_args"):
    tx.init({'a': jnp.ones(1)})
