"""Data-dependent initialization of weight-normalized NNX models."""

import fnmatch
import functools
from typing import Any, NamedTuple

import jax
from flax import errors, nnx
from jax import numpy as jnp

from gradnorm_optax import _weight_norm_init as start, _weight_norm_math as math
from gradnorm_optax.nnx.mean_only_batch_norm import MeanOnlyBatchNorm
from gradnorm_optax.nnx.weight_norm import Weight, WeightNorm, weights

__all__ = ['data_dependent_init']

_NAME = 'data_dependent_init'
_NONE = -1  # a deviation that was not measured


class _Moment(nnx.Variable):
  """Mean or deviation of a layer's output on the first batch."""


def data_dependent_init(
    model: nnx.Module, *args: Any, where: str | tuple[str, ...] = '*',
    **kwargs: Any,
) -> None:
  r"""Sets g and b so that pre-activations have mean 0 and deviation 1.

  On a first batch, :math:`t = v \cdot x / \lVert v \rVert` has for each unit a
  mean and a population deviation over batch and space (Eq. 5 of [1]):

  .. math:: g \leftarrow 1/\sigma[t], \qquad b \leftarrow -\mu[t]/\sigma[t]

  layer by layer in one compiled pass, each layer receiving the normalized
  output of those before. A layer without bias gets g alone, which is right
  before `MeanOnlyBatchNorm`; that subtracts the batch's mean during the pass,
  whatever its mode, and knows no mesh axis: call this with the whole batch,
  outside `shard_map`. v is left as it is: the paper draws it from N(0, 0.05^2),
  `kernel_init=nnx.initializers.normal(0.05)`. Nothing but g and b changes, no
  batch statistics and no random state. Dropout is to be off: `model.eval()`.

  Layers stacked by `nnx.vmap` or `nnx.scan` are initialized each by its own
  input. Not for recurrent kernels: one g serves all time steps there, and no
  single batch of t exists. A layer's output has to be t: no activation inside.

  Args:
    model: A model with `WeightNorm` inside, or a `WeightNorm`; set in place.
    *args: The first batch and whatever else the model's call takes.
    where: Glob, or several, on paths in `nnx.state(model)`, `a/layer/kernel`,
      of the weights to initialize; others keep their g and b.
    **kwargs: The call's.

  Raises:
    ValueError: There is no weight-normalized layer, one is recurrent or is not
      called, or is tied, or runs inside a scan or vmap that is not its own, or
      its output does not end in its units.

  Examples:
    >>> import jax, gradnorm_optax.nnx as gnn
    >>> from flax import errors, nnx
    >>> model = gnn.WeightNorm(nnx.Linear(1, 1, rngs=nnx.Rngs(0)))
    >>> x = jax.numpy.array([[1.], [3.]])
    >>> gnn.data_dependent_init(model, x)
    >>> print(abs(model(x)).ravel().round(3))
    [1. 1.]

  References:
    [1] Salimans and Kingma, `Weight Normalization
    <https://arxiv.org/abs/1602.07868>`_, 2016, section 3
  """
  globs = math.check_where(where, _NAME)
  graph, params, rest = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
  arrays, join = start.split_arrays((args, kwargs))

  def run(params, rest, arrays):
    # A copy, so that hooks and all other changes vanish with it.
    copy = nnx.merge(graph, params, rest)
    args, kwargs = join(arrays)
    layers = _layers(copy, globs)
    before = [_neutralize(layer) for layer in layers]
    for node in [node for _, node in nnx.iter_graph(copy)]:
      if isinstance(node, MeanOnlyBatchNorm):
        node.axis_name = None  # the batch is whole here, on no mesh axis
        _become(node, _centering(type(node)))
    copy(*args, **kwargs)
    lost = {layer.path: _start(layer, *old)
            for layer, old in zip(layers, before, strict=True)}
    return nnx.state(copy, nnx.Param), lost

  state, lost = jax.jit(run)(params, rest, arrays)
  for path, one in lost.items():
    if not isinstance(one, jax.core.Tracer) and one:
      raise ValueError(_inside(path))
  nnx.update(model, state)


def _inside(path: str) -> str:
  return (
      f'{_NAME}: the layer of {path!r} runs inside a scan or vmap that it is no'
      ' part of, where one t stands for several, or one g serves all steps.'
      ' Leave it out by `where=`.')


class _Layer(NamedTuple):
  """A layer with one g, by its path in the model."""

  path: str
  weight: Weight
  log_scale: bool

  @property
  def bias(self) -> Any:
    """The layer's bias, None if it has none."""
    bias = getattr(self.weight.owner, 'bias', None)
    return bias if isinstance(bias, nnx.Param) else None


def _layers(model: nnx.Module, where: tuple[str, ...]) -> list[_Layer]:
  found: dict[int, _Layer] = {}
  recurrent = []
  for path, node in nnx.iter_graph(model):
    if isinstance(node, nnx.RNNCellBase):
      recurrent.append(path)
    if not isinstance(node, WeightNorm):
      continue
    for weight in weights(node):
      name = '/'.join(map(str, (*path, 'layer', weight.path)))
      if weight.v_name == 'bias' or not any(
          fnmatch.fnmatchcase(name, glob) for glob in where):
        continue
      if len(weight.holders) > 1:
        raise ValueError(
            f'{_NAME}: {name!r} is tied: {len(weight.holders)} layers hold it,'
            ' and one g serves them all. Leave it out by `where=`.')
      if id(weight.owner) in found:
        raise ValueError(
            f'{_NAME}: the layer of {name!r} has two weight-normalized'
            ' parameters. Leave it out by `where=`.')
      found[id(weight.owner)] = _Layer(name, weight, node.log_scale)
  if not found:
    raise ValueError(
        f'{_NAME}: where={where} finds no weight-normalized parameter. Wrap'
        ' layers in gradnorm_optax.nnx.WeightNorm.')
  for layer in found.values():
    if any(layer.path.startswith('/'.join(map(str, (*path, ''))))
           for path in recurrent):
      raise ValueError(
          f'{_NAME}: {layer.path!r} belongs to a recurrent cell, where one g'
          ' serves all steps. Leave it out by `where=`.')
  return list(found.values())


def _neutralize(layer: _Layer) -> tuple[Any, Any]:
  """Sets g = 1 and b = 0, has the layer's output measured; returns g and b."""
  owner: Any = layer.weight.owner
  g, bias = layer.weight.g, layer.bias
  old = g[...], None if bias is None else bias[...]
  g.set_value(jnp.zeros_like(old[0]) if layer.log_scale
              else jnp.ones_like(old[0]))
  mean = start.features(old[0].shape, None)
  if bias is not None:
    mean = bias.shape
    bias.set_value(jnp.zeros_like(bias[...]))
  full = math.accumulator(old[0].dtype)
  owner.first_mean = _Moment(jnp.zeros(mean, full))
  owner.first_deviation = _Moment(jnp.full(old[0].shape, _NONE, full))
  owner.was_called = False
  kind: Any = type(owner)
  _become(owner, _measuring(kind, layer.path, bias is not None))
  return old


def _start(layer: _Layer, old_g: Any, old_bias: Any) -> jax.Array:
  """Sets g and b; returns whether what was measured is lost.

  `nnx.scan` forgets what its body writes into a layer that all steps share.
  """
  owner: Any = layer.weight.owner
  if not owner.was_called:
    raise ValueError(
        f'{_NAME}: the model did not call the layer of {layer.path!r} on this'
        ' batch. Leave it out by `where=`.')
  deviation = owner.first_deviation[...]
  lost = deviation == _NONE
  g, bias = start.start(
      owner.first_mean[...], jnp.where(lost, jnp.nan, deviation))
  g = jnp.log(g) if layer.log_scale else g
  layer.weight.g.set_value(g.astype(old_g.dtype))
  if layer.bias is not None:
    layer.bias.set_value(bias.astype(old_bias.dtype))
  return jnp.any(lost)


def _become(node: nnx.Module, kind: type) -> None:
  # Python finds `__call__` on the class; so a hook on one instance is a class.
  object.__setattr__(node, '__class__', kind)


@functools.cache
def _measuring(kind: type, path: str, has_bias: bool) -> type:
  class Measuring(kind):  # type: ignore[valid-type, misc]
    was_called: bool

    def __call__(self, *args, **kwargs):
      t = super().__call__(*args, **kwargs)
      if not self.was_called:
        bias = self.first_mean.shape if has_bias else None
        mean, deviation = start.moments(
            t, self.first_deviation.shape, bias, path)
        try:
          self.first_mean.set_value(mean.astype(self.first_mean.dtype))
        except errors.TraceContextError:
          raise ValueError(_inside(path)) from None
        self.first_deviation.set_value(
            deviation.astype(self.first_deviation.dtype))
        self.was_called = True
      return start.passed_on(
          t, self.first_mean[...], self.first_deviation[...], has_bias)

  return Measuring


@functools.cache
def _centering(kind: type) -> type:
  class Centering(kind):  # type: ignore[valid-type, misc]
    def __call__(self, x, use_running_average=None, *, mask=None):
      return super().__call__(x, False, mask=mask)

  return Centering
