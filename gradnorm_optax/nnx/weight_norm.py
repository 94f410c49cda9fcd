"""Weight Normalization around any NNX layer or module."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from flax import nnx
from flax.typing import Dtype

from gradnorm_optax import _weight_norm_math as math

__all__ = ['WeightNorm']

_NAME = 'nnx.WeightNorm'


class Weight(NamedTuple):
  """One normalized parameter: where v and g lie, and the norm's axes."""

  path: str
  owner: nnx.Module  # holds v and g as attributes
  v_name: str
  g_name: str
  axes: tuple[int, ...]

  @property
  def v(self) -> nnx.Variable:
    """The wrapped parameter."""
    return vars(self.owner)[self.v_name]

  @property
  def g(self) -> nnx.Variable:
    """Its length, or the logarithm."""
    return vars(self.owner)[self.g_name]


class WeightNorm(nnx.Module):
  r"""Trains length and direction of a layer's weights: w = g v/||v||.

  Wraps a layer, or a whole module with many of them, and calls it with
  :math:`w = g\, v / \lVert v \rVert` in place of every parameter that `where`
  matches. The wrapped parameter itself is v (`wrapped.layer.kernel`) and is
  only read; g is an `nnx.Param` beside it, `<name>_g`
  (`wrapped.layer.kernel_g`), of v's rank with size 1 along fan-in. It starts as
  ||v||, so that wrapping changes nothing at first, for new and for trained
  layers alike. Where v names mesh axes (`nnx.with_partitioning`), g has those
  of its units.

  Around a whole `nnx.RNN` the weights are formed once per training step; inside
  it, `nnx.RNN(WeightNorm(cell))`, once per time step, which costs more.

  A unit of norm 0 gives zeros and has the gradient of a plain weight. Norms are
  computed in float32.

  Departs from [1]: g starts as ||v||, not from data; see `data_dependent_init`.

  Args:
    layer: The module to wrap; it gets the attributes `<name>_g`. Call arguments
      go to its `__call__`.
    where: Glob, or several, on the layer's parameter paths `a/b/kernel`.
    blocks: "unit" (one norm for each output), "leaf" (one for each array), or a
      `gn.Blocks` with either, which names layer axes, fan-in or output axes.
    log_scale: Whether to train s = log g, named `<name>_log_g`.
    dtype: Of w; v's by default.
    param_dtype: Of g; v's by default, at least float32.

  Raises:
    ValueError: `where` matches nothing, or parameters that are
      weight-normalized already; `blocks` does not fit.
    TypeError: A matched parameter is no attribute of a module.

  Examples:
    >>> import jax, gradnorm_optax.nnx as gnn
    >>> from flax import nnx
    >>> wrapped = gnn.WeightNorm(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> wrapped(jax.numpy.ones((1, 2))).shape, wrapped.layer.kernel_g.shape
    ((1, 3), (1, 3))

  References:
    [1] Salimans and Kingma, `Weight Normalization: A Simple
    Reparameterization to Accelerate Training of Deep Neural Networks
    <https://arxiv.org/abs/1602.07868>`_, 2016
  """

  def __init__(
      self, layer: Any, *, where: str | Sequence[str] = '*kernel',
      blocks: Any = 'unit', log_scale: bool = False,
      dtype: Dtype | None = None, param_dtype: Dtype | None = None,
  ):
    self.layer = layer
    self.where = math.check_where(where, _NAME)
    self.blocks = math.check_blocks(blocks, _NAME)
    self.log_scale = log_scale
    self.dtype = dtype
    self.param_dtype = param_dtype
    for weight in weights(self):
      if math.find_g(weight.v_name, vars(weight.owner)):
        raise ValueError(
            f'{_NAME}: parameter {weight.path!r} is weight-normalized already.'
            ' Leave it out of `where`.')
      g = math.first_g(weight.v[...], weight.axes, log_scale, param_dtype)
      setattr(weight.owner, weight.g_name, nnx.Param(
          g, **_sharding(weight.v, weight.axes)))

  def __call__(self, *args, **kwargs):
    """Calls the layer with g v/||v|| for its weights."""
    with _replaced(self):
      return self.layer(*args, **kwargs)

  # What `nnx.RNN` asks of a cell.

  def initialize_carry(self, *args, **kwargs):
    """Initializes the carry of a wrapped recurrent cell."""
    return self.layer.initialize_carry(*args, **kwargs)

  @property
  def num_feature_axes(self) -> int:
    """Returns the number of feature axes of a wrapped recurrent cell."""
    return self.layer.num_feature_axes


def weights(wrapper: WeightNorm) -> list[Weight]:
  """Returns the parameters that a wrapper normalizes."""
  owners, params = {}, {}
  for path, node in nnx.iter_graph(wrapper.layer):
    if isinstance(node, nnx.Param):
      params[path] = node
    elif isinstance(node, nnx.Module):
      owners[path] = node
  lengths = {
      path[:-1] + (found[0],) for path in params
      if path[:-1] in owners
      and (found := math.find_g(str(path[-1]), vars(owners[path[:-1]])))}
  plain = {'/'.join(map(str, path)): path for path in params
           if path not in lengths}
  layout = math.select(
      wrapper.where, wrapper.blocks,
      {name: params[path][...] for name, path in plain.items()}, _NAME)
  result = []
  for spec in map(layout.spec, layout.active):
    path = plain[spec.path]
    if path[:-1] not in owners:
      raise TypeError(
          f'{_NAME}: parameter {spec.path!r} is no attribute of a module, so g'
          ' has no place beside it. Hold it in nnx.List or nnx.Dict, or leave'
          ' it out of `where`.')
    name = str(path[-1])
    result.append(Weight(
        spec.path, owners[path[:-1]], name,
        math.g_name(name, wrapper.log_scale), spec.reduced))
  return result


def formed(wrapper: WeightNorm, weight: Weight) -> Any:
  """Returns w = g v/||v||."""
  return math.weight(
      weight.v[...], weight.g[...], weight.axes, wrapper.log_scale,
      wrapper.dtype)


def _sharding(v: nnx.Variable, axes: Sequence[int]) -> dict[str, Any]:
  """Returns v's sharding metadata for g, without names of axes of size 1."""
  held = v.get_metadata()
  if held.get('out_sharding') is None:
    return {}
  names = tuple(held['out_sharding'])
  names = tuple(None if axis in axes else name
                for axis, name in enumerate(names))
  kept: dict[str, Any] = {
      key: held[key] for key in ('mesh', 'eager_sharding') if key in held}
  return {'out_sharding': names, **kept}


@contextlib.contextmanager
def _replaced(wrapper: WeightNorm) -> Iterator[None]:
  """Puts variables holding w where the layer looks for its weights.

  The variables of v are taken out and put back, never written to: nothing that
  happens in the layer's call can reach them. That goes past `setattr`, which
  would take it for a change of the module.
  """
  held = [(weight, weight.v) for weight in weights(wrapper)]
  try:
    for weight, v in held:
      vars(weight.owner)[weight.v_name] = v.replace(formed(wrapper, weight))
    yield
  finally:
    for weight, v in held:
      vars(weight.owner)[weight.v_name] = v
