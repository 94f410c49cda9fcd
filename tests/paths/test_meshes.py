"""The path scale of parameters on meshes: Auto, Explicit, manual."""

import functools
import warnings

import chex
import jax
import numpy as np
import optax
import pytest
from jax import lax, numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradnorm_optax as gn
from gradnorm_optax import paths

SPECS = {'a': P(None, 'm'), 'b': P('m', None), 'c': P(None, 'm'),
         'd': P('m', None)}
X = jax.ShapeDtypeStruct((1, 4), jnp.float32)


def params():
  rng = np.random.default_rng(0)
  shapes = {'a': (4, 8), 'b': (8, 4), 'c': (4, 8), 'd': (8, 4)}
  return {k: jnp.asarray(rng.normal(size=s), jnp.float32)
          for k, s in shapes.items()}


def net(w, x, shift=None):
  """Relus and a skip; `shift` is batch statistics, say."""
  if shift is not None:
    x = x + shift
  h = jax.nn.relu(x @ w['a']) @ w['b']
  return jax.nn.relu(h @ w['c']) @ w['d'] + h


def explicit_net(w, x, shift=None):
  """The same, written for an Explicit mesh: a batch cut into two."""
  dense = functools.partial(jnp.einsum, 'bi,io->bo')
  x = jax.sharding.reshard(x, P('d', None))
  if shift is not None:
    x = x + shift
  h = jax.nn.relu(dense(x, w['a'], out_sharding=P('d', 'm')))
  h = dense(h, w['b'], out_sharding=P('d', None))
  h = h + jnp.zeros(h.shape, out_sharding=P('d', None))
  g = jax.nn.relu(dense(h, w['c'], out_sharding=P('d', 'm')))
  return dense(g, w['d'], out_sharding=P('d', None)) + h


def mesh(kind):
  return jax.make_mesh((2, 4), ('d', 'm'), axis_types=(kind, kind))


def place(w, on):
  return {k: jax.device_put(v, NamedSharding(on, SPECS[k]))
          for k, v in w.items()}


def assert_like(got, want, on=None):
  for k in want:
    np.testing.assert_allclose(got[k], want[k], rtol=1e-5, err_msg=k)
    if on is not None:
      assert got[k].sharding.is_equivalent_to(NamedSharding(on, SPECS[k]), 2)


@pytest.mark.parametrize('jit', [False, True], ids=['eager', 'jit'])
def test_explicit_mesh_with_sharded_activations(jit):
  w, shift = params(), jnp.full((1, 4), 0.5)
  tx = gn.normalize_by_path_scale(net, X)
  plain = tx.update(w, tx.init(w), w)[0]
  shifted = tx.update(w, tx.init(w), w, apply_args=(shift,))[0]
  phi = paths.path_norm(net, w, X)
  on = mesh(AxisType.Explicit)
  tx = gn.normalize_by_path_scale(explicit_net, X)
  wrap = jax.jit if jit else lambda f: f
  with jax.set_mesh(on):
    w = place(w, on)
    update = wrap(lambda w, *args: tx.update(
        w, tx.init(w), w, apply_args=args)[0])
    assert_like(update(w), plain, on)
    assert_like(update(w, shift), shifted, on)
    norm = wrap(lambda w: paths.path_norm(explicit_net, w, X))
    np.testing.assert_allclose(norm(w), phi, rtol=1e-5)


def test_array_of_an_explicit_mesh_inside_apply_fn_is_refused():
  on = mesh(AxisType.Explicit)
  with jax.set_mesh(on):
    w, shift = place(params(), on), jnp.ones((1, 4))
    closed = lambda w, x: explicit_net(w, x, shift)  # noqa: E731
    with pytest.raises(ValueError, match='apply_args.*PartitionSpec'):
      paths.path_scale(closed, w, X)
    # Where nothing is cut along the batch there is no need of a smaller mesh.
    held = lambda w, x: jnp.einsum(  # noqa: E731
        'bi,io->bo', x + shift, w['a'], out_sharding=P(None, 'm'))
    gamma = paths.path_scale(held, {'a': w['a']}, X)['a']
    np.testing.assert_allclose(gamma, 2.0)


@pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit])
def test_state_keeps_the_layout(kind):
  w = params()
  network = net if kind == AxisType.Auto else explicit_net
  tx = gn.normalize_by_path_scale(network, X, refresh_every=2)
  plain = gn.normalize_by_path_scale(net, X)
  want = plain.update(w, plain.init(w), w)[0]
  on = mesh(kind)
  with jax.set_mesh(on):
    w = place(w, on)
    state = tx.init(w)
    assert_like(state.gamma, jax.tree.map(jnp.zeros_like, want), on)
    step = lambda s, _: tx.update(w, s, w)[::-1]  # noqa: E731
    state, out = jax.jit(lambda s: lax.scan(step, s, length=2))(state)
    assert_like(jax.tree.map(lambda u: u[1], out), want)
    every = optax.MultiSteps(tx, 2)
    with jax.numpy_dtype_promotion('standard'):  # optax averages by an int32
      _, state = lax.scan(
          lambda s, _: every.update(w, s, w)[::-1], every.init(w), length=2)
    assert_like(jax.tree.map(lambda u: u[1], state), want)


def test_state_of_abstract_parameters():
  tx = gn.normalize_by_path_scale(net, X, refresh_every=2)
  shapes = {k: jax.ShapeDtypeStruct(v.shape, jnp.bfloat16)
            for k, v in params().items()}
  wide = {k: jax.ShapeDtypeStruct(v.shape, jnp.float32)
          for k, v in shapes.items()}
  for state in (tx.init(shapes), jax.eval_shape(tx.init, shapes)):
    chex.assert_trees_all_equal_shapes_and_dtypes(state.gamma, wide)


def manual(function, on, specs, **options):
  return jax.jit(jax.shard_map(
      function, mesh=on, in_specs=(specs,), out_specs=specs, **options))


def test_parts_of_a_network_are_refused():
  """Each device would take the paths through its own part only."""
  on, w = mesh(AxisType.Auto), params()
  tx = gn.normalize_by_path_scale(net, X)
  calls = [
      lambda w: tx.update(w, tx.init(w), w)[0],
      lambda w: paths.path_scale(net, w, X),
      lambda w: jax.tree.map(lambda v: v / paths.path_norm(net, w, X), w),
  ]
  for call in calls:
    with pytest.raises(ValueError, match=r"'a' varies over .*'m'.*outside"):
      manual(call, on, SPECS)(w)


def test_data_parallel_replicas():
  """Parameters whole on every device, in each of the forms."""
  on, w = mesh(AxisType.Auto), params()
  tx = gn.normalize_by_path_scale(net, X)
  want = tx.update(w, tx.init(w), w)[0]
  update = lambda w: tx.update(w, tx.init(w), w)[0]  # noqa: E731
  assert_like(manual(update, on, P())(w), want)

  def by_device(w):
    """Per-device copies, as for per-device gradients."""
    own = lax.pcast(w, 'd', to='varying')
    out, _ = tx.update(own, tx.init(w), own, full_params=w)
    return lax.pmean(out, 'd')

  assert_like(manual(by_device, on, P())(w), want)
  # Where variance is not tracked nobody can tell: a warning, not a guess.
  said = lambda w: tx.update(w, tx.init(w), w, full_params=w)[0]  # noqa: E731
  with pytest.warns(UserWarning, match=r"'d', 'm'.*full_params=params"):
    out = manual(update, on, P(), check_vma=False)(w)
  assert_like(out, want)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    assert_like(manual(said, on, P(), check_vma=False)(w), want)
  many = jax.tree.map(lambda v: jnp.stack([v, v]), w)
  with pytest.warns(UserWarning, match='full_params=params'):
    out = jax.pmap(update, axis_name='i')(many)
  assert_like(jax.tree.map(lambda v: v[1], out), want)
