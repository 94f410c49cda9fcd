"""Weight Normalization around any NNX layer or module."""

import contextlib
import fnmatch
import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx
from flax.typing import Dtype

from gradnorm_optax import _weight_norm_math as math

__all__ = ['WeightNorm']

_NAME = 'nnx.WeightNorm'


class Weight(NamedTuple):
  """One normalized parameter: where v and g lie."""

  path: str
  owner: nnx.Module  # holds v and g as attributes
  v_name: str
  g_name: str
  # Every module that holds v, with the name: tied weights have several.
  holders: tuple[tuple[nnx.Module, str], ...]

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
    log_scale: Whether to train s = log g, named `<name>_log_g`. That of a zero
      unit, which has none, starts at 2^-10 of the array's largest norm.
    dtype: Of w; v's by default.
    param_dtype: Of g; v's by default, at least float32.

  Raises:
    ValueError: A glob of `where` matches nothing, or parameters that are
      weight-normalized already; `blocks` does not fit.
    TypeError: `layer` is no module, or a matched parameter is not real floating
      point or no attribute of a module.

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
    if not isinstance(layer, nnx.Module):
      raise TypeError(
          f'{_NAME} wraps a module such as nnx.Linear(2, 3, rngs=rngs), not'
          f' {layer!r}.')
    self.layer: Any = layer
    self.where = math.check_where(where, _NAME)
    self.blocks = math.check_blocks(blocks, _NAME)
    self.log_scale = log_scale
    self.dtype = dtype
    self.param_dtype = param_dtype
    found = weights(self)
    layout = math.select(self.where, self.blocks, {
        name: param.get_value() for name, param in _plain(layer)[0].items()},
        _NAME, others=False)
    reduced = {spec.path: spec.reduced
               for spec in map(layout.spec, layout.active)}
    for weight in found:
      if math.find_g(weight.v_name, vars(weight.owner)):
        raise ValueError(
            f'{_NAME}: parameter {weight.path!r} is weight-normalized already.'
            ' Leave it out of `where`.')
      axes = reduced[weight.path]
      g = math.first_g(weight.v[...], axes, log_scale, param_dtype)
      setattr(weight.owner, weight.g_name, nnx.Param(
          g, **_sharding(weight.v, axes)))

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
  found, owners = _plain(wrapper.layer)
  matched = math.matches(
      wrapper.where,
      {path: param.get_value() for path, param in found.items()}, _NAME)
  chosen = {
      path: found[path] for path in matched if 0 not in found[path].shape
      and not any(fnmatch.fnmatchcase(path, glob)
                  for glob in wrapper.blocks.skip)}
  places = _holders(wrapper.layer, chosen)
  result = []
  for path in chosen:
    owner, name = owners[path]
    result.append(Weight(
        path, owner, name, math.g_name(name, wrapper.log_scale),
        places[path]))
  return result


def _plain(layer: Any) -> tuple[dict[str, nnx.Param], dict[str, Any]]:
  """Returns by path all parameters but g, and who holds each by what name."""
  modules, params = {}, {}
  for path, node in nnx.iter_graph(layer):
    if isinstance(node, nnx.Param):
      params[path] = node
    elif isinstance(node, nnx.Module):
      modules[path] = node
  lengths = {
      path[:-1] + (found[0],) for path in params if path[:-1] in modules
      and (found := math.find_g(str(path[-1]), vars(modules[path[:-1]])))}
  plain = {'/'.join(map(str, path)): path for path in params
           if path not in lengths}
  return ({name: params[path] for name, path in plain.items()},
          {name: (modules.get(path[:-1]), str(path[-1]))
           for name, path in plain.items()})


def _holders(layer: Any, chosen: dict[str, nnx.Param]) -> dict[str, Any]:
  """Returns by path every (module, name) that holds a chosen parameter."""
  places: dict[int, list[Any]] = {id(param): [] for param in chosen.values()}
  names = {id(param): path for path, param in chosen.items()}
  for _, node in nnx.iter_graph(layer):
    # What an `nnx.List` holds is named by numbers: no place for g there either.
    if isinstance(node, nnx.Module) and not isinstance(node, nnx.List):
      for name, value in vars(node).items():
        if id(value) in places:
          places[id(value)].append((node, name))
    elif not isinstance(node, nnx.Variable):
      for value in jax.tree.leaves(
          node, is_leaf=functools.partial(operator.is_not, node)):
        if id(value) in places:
          raise TypeError(
              f'{_NAME}: parameter {names[id(value)]!r} is no attribute of a'
              ' module, so g has no place beside it. Make it one, or leave it'
              ' out of `where`.')
  return {names[key]: tuple(held) for key, held in places.items()}


def formed(wrapper: WeightNorm, weight: Weight) -> Any:
  """Returns w = g v/||v||; g's shape tells the axes of the norm.

  The blocks do not: seen from outside, what `nnx.vmap` and `nnx.scan` stack has
  an axis more than the layer that was wrapped.
  """
  v, g = weight.v[...], weight.g[...]
  axes = math.reduced_axes(v, g)
  if axes is None:
    raise ValueError(
        f'{_NAME}: parameter {weight.path!r} has shape {v.shape}, and'
        f' {weight.g_name!r} has {g.shape}: of its rank, with size 1 along the'
        ' fan-in, is what belongs there.')
  return math.weight(v, g, axes, wrapper.log_scale, wrapper.dtype)


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
      w = v.replace(formed(wrapper, weight))
      for module, name in weight.holders:
        vars(module)[name] = w
    yield
  finally:
    for weight, v in held:
      for module, name in weight.holders:
        vars(module)[name] = v
