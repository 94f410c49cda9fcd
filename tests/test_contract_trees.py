"""The rules of every transformation: on the trees of real training code."""

import contract
import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from contract import Row, flat, problem, rows
from flax import nnx
from jax import numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from test_contract import assert_close

import gradnorm_optax as gn


@pytest.fixture(autouse=True)
def _foreign_code():
  """optax's wrappers and Flax rely on ordinary promotion."""
  with (jax.numpy_dtype_promotion('standard'),
        jax.numpy_rank_promotion('allow')):
    yield


@jax.tree_util.register_pytree_node_class
class Named:
  """An array with names for its axes, as Haliax has it: a node of one child."""

  def __init__(self, array, names=('a',)):
    self.array, self.names = array, names

  def tree_flatten(self):
    return (self.array,), self.names

  @classmethod
  def tree_unflatten(cls, names, children):
    return cls(*children, names)


def partitioned(array):
  return nn.Partitioned(array, ('a', 'b')[:np.ndim(array)])


def logical(array):
  return nn.LogicallyPartitioned(array, ('a', 'b')[:np.ndim(array)])


def boxed(tree, box):
  return jax.tree.map(box, tree)


def bare(tree):
  return jax.tree.unflatten(
      jax.tree.structure(problem()[0]), jax.tree.leaves(tree))


@rows()
@pytest.mark.parametrize('box', [partitioned, logical, Named])
def test_boxes_change_nothing(row: Row, box):
  """Updates and parameters boxed or not, in any mix."""
  check_boxes(row, *(boxed(tree, box) for tree in problem()))


# optax.trace, inside the row's bng, wants updates like its parameters.
@rows(lambda row: row.name != 'bng')
@pytest.mark.parametrize('box', [partitioned, Named])
@pytest.mark.parametrize('boxed_side', ['updates', 'params'])
def test_boxes_on_one_side(row: Row, box, boxed_side):
  g, p = problem()
  if boxed_side == 'updates':
    check_boxes(row, boxed(g, box), p)
  else:
    check_boxes(row, g, boxed(p, box))


def check_boxes(row, given, params):
  (g, p), tx = problem(), row.tx()
  state = tx.init(params)
  updates, state = tx.update(given, state, params)
  assert jax.tree.structure(updates) == jax.tree.structure(given)
  assert_close(bare(updates), row.reference(flat(g), flat(p)), 1e-5)
  # A box is for an array of the parameter's shape.
  is_box = lambda x: hasattr(x, 'names')  # noqa: E731
  shapes = {x.shape for x in jax.tree.leaves(p)}
  for node in jax.tree.leaves(state, is_leaf=is_box):
    if is_box(node):
      assert all(x.shape in shapes for x in jax.tree.leaves(node))


@rows(lambda row: not row.whole)
def test_tuple_keys_are_paths(row: Row):
  """`flax.traverse_util.flatten_dict` makes one key of a path."""
  g, p = problem()
  keyed = lambda tree: {  # noqa: E731
      (layer, name): leaf for layer, leaves in tree.items()
      for name, leaf in leaves.items()}
  tx = row.tx()
  updates, _ = tx.update(keyed(g), tx.init(keyed(p)), keyed(p))
  assert_close({layer: {name: updates[layer, name] for name in g[layer]}
                for layer in g}, row.reference(flat(g), flat(p)), 1e-5)


@rows()
def test_starts_from_shapes(row: Row):
  """`init` on shapes gives the state of parameters, abstract or of zeros."""
  _, p = problem()
  tx = row.tx()
  want = tx.init(p)
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), p)
  for state in (tx.init(shapes), jax.eval_shape(tx.init, shapes)):
    assert jax.tree.structure(state) == jax.tree.structure(want)
    for got, leaf in zip(jax.tree.leaves(state), jax.tree.leaves(want),
                         strict=True):
      assert (got.shape, got.dtype) == (leaf.shape, leaf.dtype)


@rows()
def test_starts_from_an_abstract_model(row: Row):
  model = nnx.eval_shape(lambda: nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
  optimizer = nnx.Optimizer(model, row.tx(), wrt=nnx.Param)
  assert optimizer.step.shape == ()


def meshes():
  return pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit])


def place(tree, kind):
  """Puts the small network on eight devices, kernels cut along the fan-in."""
  mesh = jax.make_mesh((2, 4), ('x', 'y'), axis_types=(kind,) * 2)
  spec = {'Dense_0/kernel': P('y'), 'Dense_1/kernel': P(None, 'x')}
  return mesh, contract.nest({
      path: jax.device_put(jnp.asarray(leaf, jnp.float32), NamedSharding(
          mesh, spec.get(path, P()))) for path, leaf in flat(tree).items()})


@rows()
@meshes()
def test_state_is_stable_under_a_scan_on_a_mesh(row: Row, kind):
  """The state starts with the sharding that it keeps."""
  g, p = problem()
  mesh, params = place(p, kind)
  grads = place(g, kind)[1]
  tx = row.tx()
  with jax.set_mesh(mesh):
    state = tx.init(params)
    for leaf in jax.tree.leaves(state):
      same = [x for x in jax.tree.leaves(params) if x.shape == leaf.shape]
      if same and kind == AxisType.Auto and leaf.ndim > 1:
        assert leaf.sharding in [x.sharding for x in same]

    def body(state, _):
      updates, state = tx.update(grads, state, params)
      return state, updates

    _, history = jax.jit(lambda s: jax.lax.scan(body, s, None, 2))(state)
  first = jax.tree.map(lambda x: x[0], history)
  assert_close(first, row.reference(flat(g), flat(p)), 1e-5)


@rows()
def test_state_is_created_where_map_params_says(row: Row):
  """`jit(init, out_shardings=...)` from the parameters' shardings."""
  _, p = problem()
  mesh, params = place(p, AxisType.Auto)
  tx = row.tx()
  whole = NamedSharding(mesh, P())
  shardings = optax.tree.map_params(
      tx, lambda _, sharding: sharding, jax.eval_shape(tx.init, params),
      jax.tree.map(lambda x: x.sharding, params),
      transform_non_params=lambda _: whole)
  state = jax.jit(tx.init, out_shardings=shardings)(params)
  want = tx.init(p)
  assert jax.tree.structure(state) == jax.tree.structure(want)


@rows()
def test_gradients_narrower_than_parameters(row: Row):
  """Optimizers return the parameters' dtype, transformations their input's."""
  g, p = problem()
  narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), g)
  tx = row.tx()
  updates, _ = tx.update(narrow, tx.init(p), p)
  for leaf in jax.tree.leaves(updates):
    assert leaf.dtype == (
        jnp.float32 if row.optax_inside else jnp.bfloat16)
  assert_close(updates, row.reference(flat(narrow), flat(p)), 2e-2)


@rows(lambda row: row.name == 'record_block_norms')
def test_norms_are_found_after_a_split(row: Row):
  model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
  tx = optax.chain(row.tx(), optax.adam(1e-3))
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model)))
  want = gn.block_norms(optimizer.opt_state)
  got = gn.block_norms(nnx.split((model, optimizer))[1])
  assert got.keys() == want.keys() == {'norms'}
  assert float(got['norms']['(root)']) == pytest.approx(15**0.5)


def test_boxed_updates_of_a_stateful_inner():
  """`inner` sees one tree, whatever side is boxed."""
  g, p = problem()
  tx = gn.weight_normalized(optax.adam(0.1))
  want, _ = tx.update(g, tx.init(p), p)
  for given, params in ((g, boxed(p, partitioned)), (boxed(g, Named), p)):
    updates, state = tx.update(given, tx.init(params), params)
    assert_close(bare(updates), flat(want), 1e-6)
    tx.update(given, state, params)
