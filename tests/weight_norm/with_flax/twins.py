"""The same models in Linen and NNX, and one way to run either."""

from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn, nnx

import gradnorm_optax.linen as in_linen
import gradnorm_optax.nnx as in_nnx


class Linen:
  """Holds a Linen model with its variables."""

  def __init__(self, make: Any, x: Any, seed: int = 0):
    self.model = make(LinenParts)
    self.variables = self.model.init(jax.random.key(seed), x)

  @property
  def params(self) -> Any:
    return self.variables['params']

  def apply(self, params: Any, x: Any) -> Any:
    return self.model.apply({**self.variables, 'params': params}, x)

  def initialize(self, x: Any, **options: Any) -> None:
    self.variables = in_linen.data_dependent_init(
        self.model, self.variables, x, **options)

  def folded(self, x: Any) -> tuple[Any, Any]:
    model, variables = in_linen.fold(self.model, self.variables)
    return model.apply(variables, x), variables['params']


class Nnx:
  """Holds an NNX model."""

  def __init__(self, make: Any, x: Any, seed: int = 0):
    self.model = make(NnxParts(nnx.Rngs(seed)))

  @property
  def params(self) -> Any:
    return nnx.as_pure(nnx.state(self.model, nnx.Param))

  def apply(self, params: Any, x: Any) -> Any:
    graph, _, rest = nnx.split(self.model, nnx.Param, ...)
    return nnx.merge(graph, params, jax.tree.map(jax.numpy.asarray, rest))(x)

  def initialize(self, x: Any, **options: Any) -> None:
    in_nnx.data_dependent_init(self.model, x, **options)

  def folded(self, x: Any) -> tuple[Any, Any]:
    model = in_nnx.fold(self.model)
    return model(x), nnx.as_pure(nnx.state(model, nnx.Param))


class LinenParts:
  """Layers by the names that both libraries share."""

  wn = staticmethod(in_linen.WeightNorm)
  mobn = staticmethod(
      lambda n, **k: in_linen.MeanOnlyBatchNorm(False, **k))
  dense = staticmethod(lambda i, o, **k: nn.Dense(o, **k))
  conv = staticmethod(lambda i, o, **k: nn.Conv(o, (3, 3), **k))
  seq = staticmethod(lambda *layers: nn.Sequential(layers))
  rnn = staticmethod(nn.RNN)
  cell = staticmethod(lambda kind, i, o: getattr(nn, kind)(o))


class NnxParts(NamedTuple):
  """The same for NNX."""

  rngs: Any

  def wn(self, layer, **options):
    return in_nnx.WeightNorm(layer, **options)

  def mobn(self, n, **options):
    return in_nnx.MeanOnlyBatchNorm(n, **options)

  def dense(self, i, o, **options):
    return nnx.Linear(i, o, rngs=self.rngs, **options)

  def conv(self, i, o, **options):
    return nnx.Conv(i, o, (3, 3), rngs=self.rngs, **options)

  def seq(self, *layers):
    return nnx.Sequential(*layers)

  def rnn(self, cell):
    return nnx.RNN(cell)

  def cell(self, kind, i, o):
    return getattr(nnx, kind)(i, o, rngs=self.rngs)


BOTH = (Linen, Nnx)


def named(params: Any) -> dict[str, np.ndarray]:
  """Returns {path: array}; paths without wrappers' and containers' levels."""
  found = {}
  for keys, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
    names = [str(getattr(k, 'key', getattr(k, 'name', k))) for k in keys]
    names = [n.removeprefix('layers_') for n in names]
    found['/'.join(n for n in names if n not in ('layer', 'layers'))] = leaf
  return found


def transplant(source: Any, target: Any) -> Any:
  """Returns target's parameters with source's values, path by path."""
  values = named(source)
  leaves, treedef = jax.tree.flatten(target)
  return jax.tree.unflatten(
      treedef, [values[name] for name in named(target)])


def batch(shape: tuple[int, ...], seed: int = 1) -> Any:
  return jax.numpy.asarray(
      np.random.default_rng(seed).normal(1, 2, shape), 'float32')
