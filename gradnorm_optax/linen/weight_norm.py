"""Weight Normalization around any Linen layer or module."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from flax import linen as nn, traverse_util
from flax.core import meta
from flax.linen.module import TestScope
from flax.typing import Dtype

from gradnorm_optax import _weight_norm_math as math

__all__ = ['WeightNorm']

_NAME = 'linen.WeightNorm'
_LENT = ' without length'  # ends the name of a v whose w is in its place
Flat = dict[tuple[str, ...], Any]


def _option(default: Any) -> Any:
  return dataclasses.field(default=default, kw_only=True)


class WeightNorm(nn.Module):
  r"""Trains length and direction of a layer's weights: w = g v/||v||.

  Wraps a layer, or a whole module with many of them, and calls it with
  :math:`w = g\, v / \lVert v \rVert` in place of every parameter that `where`
  matches. The wrapped parameter itself is v, under its own name; g stands
  beside it as `<name>_g` (`kernel_g`), of v's rank with size 1 along fan-in,
  and starts as ||v||: wrapping changes nothing at first. Both are trained. The
  wrapper adds no level to the parameter tree: without the leaves `*_g` it is
  the tree of the layer alone.

  Around a whole `nn.RNN` the weights are formed once per training step; inside
  it, `nn.RNN(WeightNorm(cell))`, once per time step, which costs more.

  A unit of norm 0 gives zeros and has the gradient of a plain weight. Norms are
  computed in float32. Parameters without any g are run as plain weights (what
  `fold` returns); where the collection 'params' is mutable, g is added to them:
  `_, variables = wrapped.apply(pretrained, x, mutable=True)`.

  Departs from [1]: g starts as ||v||, not from data; see `data_dependent_init`.

  Attributes:
    layer: The module to wrap. Call arguments go to its `__call__`.
    where: Glob, or several, on the layer's parameter paths `a/b/kernel`.
    blocks: "unit" (one norm for each output), "leaf" (one for each array), or a
      `gn.Blocks` with either, which names layer axes, fan-in or output axes.
    log_scale: Whether to train s = log g, named `<name>_log_g`. That of a zero
      unit, which has none, starts at 2^-10 of the array's largest norm.
    dtype: Of w; v's by default.
    param_dtype: Of g; v's by default, at least float32.

  Raises:
    ValueError: A glob of `where` matches nothing, or parameters that are
      weight-normalized already; `blocks` does not fit; a g is missing.
    TypeError: `layer` is no module, or a matched parameter not real floating
      point.

  Examples:
    >>> import jax, flax.linen as nn, gradnorm_optax.linen as gnn
    >>> model = nn.Sequential([gnn.WeightNorm(nn.Dense(3)), nn.relu])
    >>> variables = model.init(jax.random.key(0), jax.numpy.ones((1, 2)))
    >>> jax.tree.map(lambda p: p.shape, variables['params']['layers_0'])
    {'bias': (3,), 'kernel': (2, 3), 'kernel_g': (1, 3)}

  References:
    [1] Salimans and Kingma, `Weight Normalization: A Simple
    Reparameterization to Accelerate Training of Deep Neural Networks
    <https://arxiv.org/abs/1602.07868>`_, 2016
  """

  layer: nn.Module
  where: str | Sequence[str] = _option('*kernel')
  blocks: Any = _option('unit')
  log_scale: bool = _option(False)
  dtype: Dtype | None = _option(None)
  param_dtype: Dtype | None = _option(None)

  def setup(self):
    if not isinstance(self.layer, nn.Module):
      raise TypeError(
          f'{_NAME} wraps a module such as nn.Dense(3), not {self.layer!r}.')
    if isinstance(self.layer, WeightNorm):
      raise ValueError(
          f'{_NAME}: the layer is weight-normalized already. Wrap it once.')
    scope, inner = self.scope, self.layer.scope
    if isinstance(scope, TestScope) and not isinstance(inner, TestScope):
      # Before a lifted transformation Flax tries `setup` on a clone of us that
      # holds this very layer: its scope is not the trial's to take.
      return
    if scope and inner and inner.path[:-1] == scope.path:
      # Inside a lifted transformation (an outer WeightNorm) the layer's scope
      # names a parent that is equal to ours, not the same.
      inner.parent = scope
      # The layer is about to live in our scope: the name 'layer' becomes free
      # for a submodule of its own.
      scope.reservations.pop(str(inner.name), None)
    nn.share_scope(self, self.layer)

  def __call__(self, *args, **kwargs):
    """Calls the layer with g v/||v|| for its weights."""
    held = flatten(self.variables.get('params', {}))
    started = len(_plain(held)) < len(held)
    # A layer that is called twice may make more parameters in its second call.
    adding = self.is_mutable_collection('params') and (
        not started or self.is_initializing())

    def call(layer):  # with a name, for which `tabulate` asks
      return layer(*args, **kwargs)

    if not started and not adding:
      return call(self.layer)
    return nn.map_variables(
        call, 'params',
        trans_in_fn=self._lend_weights if adding else self._weights,
        trans_out_fn=self._add_g if adding else (lambda tree: tree),
        mutable=adding)(self.layer)

  def _weights(self, variables: Any) -> Any:
    flat = flatten(variables.get('params', {}))
    for path, axes in self._chosen(_plain(flat)):
      name = math.g_name(path[-1], self.log_scale)
      g = flat.pop(path[:-1] + (name,), None)
      if g is None:
        raise ValueError(
            f'{_NAME}: parameter {"/".join(path)!r} has no {name!r} beside it,'
            ' others have theirs. Initialize anew, or mend `where` and'
            ' `log_scale`.')
      flat[path] = self._weight(flat[path], g, axes)
    return {**variables, 'params': traverse_util.unflatten_dict(flat)}

  def _weight(self, v: Any, g: Any, axes: Sequence[int]) -> Any:
    return meta.replace_boxed(v, math.weight(
        meta.unbox(v), meta.unbox(g), axes, self.log_scale, self.dtype))

  def _lend_weights(self, variables: Any) -> Any:
    """Puts w in where there is a g; v stays beside it until `_add_g`."""
    flat = flatten(variables.get('params', {}))
    plain = _plain(flat)
    for path, axes in self._chosen(plain) if len(plain) < len(flat) else ():
      g = flat.get(path[:-1] + (math.g_name(path[-1], self.log_scale),))
      if g is not None:
        flat[path[:-1] + (path[-1] + _LENT,)] = flat[path]
        flat[path] = self._weight(flat[path], g, axes)
    return {**variables, 'params': traverse_util.unflatten_dict(flat)}

  def _add_g(self, variables: Any) -> Any:
    flat = flatten(variables.get('params', {}))
    lent = {path[:-1] + (path[-1].removesuffix(_LENT),): flat.pop(path)
            for path in list(flat) if path[-1].endswith(_LENT)}
    flat.update(lent)
    for path, axes in self._chosen(_plain(flat)):
      if path in lent:
        continue
      if any(path[:-1] + (math.g_name(path[-1], log_scale),) in flat
             for log_scale in (False, True)):
        raise ValueError(
            f'{_NAME}: parameter {"/".join(path)!r} is weight-normalized'
            ' already. Leave it out of `where`.')
      g = math.first_g(
          meta.unbox(flat[path]), axes, self.log_scale, self.param_dtype)
      name = math.g_name(path[-1], self.log_scale)
      flat[path[:-1] + (name,)] = _box_like(flat[path], g, axes)
    return {**variables, 'params': traverse_util.unflatten_dict(flat)}

  def _chosen(self, flat: Flat) -> list[tuple[tuple[str, ...], Any]]:
    where = math.check_where(self.where, _NAME)
    blocks = math.check_blocks(self.blocks, _NAME)
    paths = {'/'.join(path): path for path in flat}
    tree = traverse_util.unflatten_dict(flat)
    layout = math.select(
        where, blocks, meta.unbox(tree), _NAME, others=False)
    return [(paths[spec.path], spec.reduced)
            for spec in map(layout.spec, layout.active)]

  # What `nn.RNN` asks of a cell.

  @nn.nowrap
  def initialize_carry(self, *args, **kwargs):
    """Initializes the carry of a wrapped recurrent cell."""
    return self.layer.initialize_carry(*args, **kwargs)

  @property
  def num_feature_axes(self) -> int:
    """Returns the number of feature axes of a wrapped recurrent cell."""
    return self.layer.num_feature_axes


def flatten(params: Any) -> Flat:
  """Returns {path: leaf} of nested dicts; boxed leaves stay boxed."""
  return traverse_util.flatten_dict(params)


def _plain(flat: Flat) -> Flat:
  """Returns the parameters without the g that stand beside others."""
  beside: dict[tuple[str, ...], set[str]] = {}
  for path in flat:
    beside.setdefault(path[:-1], set()).add(path[-1])
  lengths = {path[:-1] + (found[0],) for path in flat
             if (found := math.find_g(path[-1], beside[path[:-1]]))}
  return {path: leaf for path, leaf in flat.items() if path not in lengths}


def _box_like(boxed: Any, g: Any, axes: Sequence[int]) -> Any:
  """Gives g the sharding names of v, without those of axes of size 1."""
  if not isinstance(boxed, meta.Partitioned):
    return g
  names = tuple(None if axis in axes else name
                for axis, name in enumerate(boxed.names))
  return boxed.replace(value=g, names=names)
