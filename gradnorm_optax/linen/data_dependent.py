"""Data-dependent initialization of weight-normalized Linen models."""

import fnmatch
from typing import Any

import jax
from flax import linen as nn, traverse_util
from flax.core import DenyList, FrozenDict, freeze, meta, unfreeze
from jax import numpy as jnp

from gradnorm_optax import _weight_norm_init as start, _weight_norm_math as math
from gradnorm_optax._mean_only import batch_mean, feature_axes, shifted
from gradnorm_optax.linen.fold import pairs, params_of
from gradnorm_optax.linen.mean_only_batch_norm import MeanOnlyBatchNorm
from gradnorm_optax.linen.weight_norm import WeightNorm, flatten

__all__ = ['data_dependent_init']

_COLLECTION = 'weight_norm_init'
# `nn.jit` keeps traces by module, by the collections it sees and by which of
# them are mutable. A name of our own among those keeps our traces from all
# others, and a mark in each layer to measure keeps one layer's from another's.
_NO_COLLECTION = 'weight_norm_init traces'
Path = tuple[str, ...]


def data_dependent_init(
    module: nn.Module, variables: Any, *args: Any,
    where: str | tuple[str, ...] = '*', rngs: Any = None, **kwargs: Any,
) -> Any:
  r"""Sets g and b so that pre-activations have mean 0 and deviation 1.

  On a first batch, :math:`t = v \cdot x / \lVert v \rVert` has for each unit a
  mean and a population deviation over batch and space (Eq. 5 of [1]):

  .. math:: g \leftarrow 1/\sigma[t], \qquad b \leftarrow -\mu[t]/\sigma[t]

  layer by layer in one compiled pass, each layer receiving the normalized
  output of those before. A layer without bias gets g alone, which is right
  before `MeanOnlyBatchNorm`; that subtracts the batch's mean during the pass,
  whatever the call says, and knows no mesh axis: call this with the whole
  batch, outside `shard_map`. v is left as it is: the paper draws it from
  N(0, 0.05^2), `kernel_init=nn.initializers.normal(0.05)`. Other collections
  (batch statistics) are not changed.

  Not for recurrent kernels, where one g serves all time steps, nor for layers
  inside `nn.scan` or `nn.vmap`, where no single batch of t exists. A layer's
  output has to be t: no activation inside.

  Args:
    module: A model with `WeightNorm` inside, or a `WeightNorm`.
    variables: From `module.init`.
    *args: The first batch and whatever else the model's call takes.
    where: Glob, or several, on paths `a/b/kernel` in 'params' of the weights to
      initialize; others keep their g and b.
    rngs: As for `module.apply`.
    **kwargs: The call's, such as `train=False`.

  Returns:
    The variables with new g and b.

  Raises:
    ValueError: There is no weight-normalized layer, one is not called or runs
      inside a scan or vmap, or its output does not end in its units.

  Examples:
    >>> import jax, flax.linen as nn, gradnorm_optax.linen as gnn
    >>> model, x = gnn.WeightNorm(nn.Dense(1)), jax.numpy.array([[1.], [3.]])
    >>> variables = gnn.data_dependent_init(
    ...     model, model.init(jax.random.key(0), x), x)
    >>> print(abs(model.apply(variables, x)).ravel().round(3))
    [1. 1.]

  References:
    [1] Salimans and Kingma, `Weight Normalization
    <https://arxiv.org/abs/1602.07868>`_, 2016, section 3
  """
  flat = params_of(variables, 'data_dependent_init')
  frozen = isinstance(variables, FrozenDict)
  variables = unfreeze(variables) if frozen else dict(variables)
  layers = _layers(flat, math.check_where(where, 'data_dependent_init'))
  arrays, join = start.split_arrays((args, kwargs, rngs))

  def run(variables, arrays):
    args, kwargs, rngs = join(arrays)
    flat = flatten(variables['params'])
    with nn.intercept_methods(_interceptor(layers)):
      _, state = module.apply(
          {**variables, 'params': _neutral(flat, layers),
           _COLLECTION: _marks(layers)}, *args, rngs=rngs,
          mutable=DenyList(('params', _NO_COLLECTION)), **kwargs)
    found = flatten(state.get(_COLLECTION, {}))
    return traverse_util.unflatten_dict(_started(flat, layers, found))

  variables['params'] = jax.jit(run)(variables, arrays)
  return freeze(variables) if frozen else variables


class _Layer:
  """A layer with one g: where its arrays lie in the parameters."""

  def __init__(self, flat, path, g_path, log_scale):
    self.path, self.g, self.log_scale = path[:-1], g_path, log_scale
    bias = path[:-1] + ('bias',)
    self.bias = bias if bias in flat else None
    self.g_shape = meta.unbox(flat[g_path]).shape
    self.bias_shape = meta.unbox(flat[bias]).shape if self.bias else None


def _layers(flat: Any, where: tuple[str, ...]) -> dict[Path, _Layer]:
  layers: dict[Path, _Layer] = {}
  for path, g_path, log_scale in pairs(flat):
    name = '/'.join(path)
    if path[-1] == 'bias' or not any(
        fnmatch.fnmatchcase(name, glob) for glob in where):
      continue
    if path[:-1] in layers:
      raise ValueError(
          f'data_dependent_init: layer {"/".join(path[:-1])!r} has two'
          ' weight-normalized parameters. Leave it out by `where=`.')
    layers[path[:-1]] = _Layer(flat, path, g_path, log_scale)
  if not layers:
    raise ValueError(
        f'data_dependent_init: where={where} finds no weight-normalized layer'
        " (no leaf 'kernel_g' beside a 'kernel'). Wrap layers in WeightNorm.")
  return layers


def _neutral(flat: Any, layers: dict[Path, _Layer]) -> Any:
  """Returns the parameters with g = 1 and b = 0."""
  flat = dict(flat)
  for layer in layers.values():
    one = jnp.zeros_like if layer.log_scale else jnp.ones_like
    flat[layer.g] = jax.tree.map(one, flat[layer.g])
    if layer.bias:
      flat[layer.bias] = jax.tree.map(jnp.zeros_like, flat[layer.bias])
  return traverse_util.unflatten_dict(flat)


def _marks(layers: dict[Path, _Layer]) -> Any:
  """Returns a collection that shows each of these layers that it is one."""
  return traverse_util.unflatten_dict(
      {(*path, 'chosen'): jnp.zeros(()) for path in layers})


def _interceptor(layers: dict[Path, _Layer]) -> Any:
  done: set[tuple[Path, int]] = set()  # calls that were normalized inside

  def intercept(next_call, args, kwargs, context):
    module = context.module
    if context.method_name != '__call__':
      return next_call(*args, **kwargs)
    if isinstance(module, MeanOnlyBatchNorm):
      x = args[0] if args else kwargs['x']
      return _batch_centered(module, x, kwargs.get('mask'))
    before = set(done)
    t = next_call(*args, **kwargs)
    # Modules that share a scope (WeightNorm and its layer) have one path; the
    # innermost is the layer.
    path = module.path
    if path not in layers or isinstance(module, WeightNorm) or any(
        where == path for where, _ in done - before):
      return t
    done.add((path, len(done)))
    return _record(module, layers[path], t)

  return intercept


def _batch_centered(module: MeanOnlyBatchNorm, x: Any, mask: Any) -> Any:
  axes = feature_axes(x, module.axis)
  bias = module.get_variable('params', 'bias') if module.use_bias else None
  mean = batch_mean(x, axes, mask, None)  # of the whole batch, on no mesh axis
  return shifted(x, mean, meta.unbox(bias), axes, module.dtype)


def _record(module: nn.Module, layer: _Layer, t: Any) -> jax.Array:
  name = '/'.join(layer.path)
  if not module.has_variable(_COLLECTION, 'chosen'):
    raise ValueError(
        f'data_dependent_init: layer {name!r} runs inside nn.scan, nn.vmap or'
        ' nn.RNN, where one t stands for several, or one g serves all steps.'
        ' Leave it out by `where=`.')
  if not module.has_variable(_COLLECTION, 'mean'):
    mean, deviation = start.moments(
        t, layer.g_shape, layer.bias_shape, name)
    module.put_variable(_COLLECTION, 'mean', mean)
    module.put_variable(_COLLECTION, 'deviation', deviation)
  return start.passed_on(
      t, module.get_variable(_COLLECTION, 'mean'),
      module.get_variable(_COLLECTION, 'deviation'), layer.bias is not None)


def _started(flat: Any, layers: dict[Path, _Layer], found: Any) -> Any:
  flat = dict(flat)
  for path, layer in layers.items():
    if path + ('mean',) not in found:
      raise ValueError(
          f'data_dependent_init: the model did not call layer'
          f' {"/".join(path)!r} on this batch. Leave it out by `where=`.')
    g, bias = start.start(
        found[path + ('mean',)], found[path + ('deviation',)])
    g = jnp.log(g) if layer.log_scale else g
    flat[layer.g] = _like(g, flat[layer.g])
    if layer.bias:
      flat[layer.bias] = _like(bias, flat[layer.bias])
  return flat


def _like(new: jax.Array, old: Any) -> Any:
  return meta.replace_boxed(old, new.astype(meta.unbox(old).dtype))
