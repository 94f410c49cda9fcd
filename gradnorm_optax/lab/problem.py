"""A model with its data: initialization, loss and evaluation."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from gradnorm_optax import paths
from gradnorm_optax.lab import models, parts, schema
from gradnorm_optax.lab.data import Dataset, Split
from gradnorm_optax.lab.errors import LabError
from gradnorm_optax.lab.models import own
from gradnorm_optax.lab.objective import Misfit

EVALUATION_BATCH = 1024
FIRST_BATCH = 128  # what a model that starts from data is shown


class Problem(NamedTuple):
  """What is trained, apart from how.

  Attributes:
    module: The Linen module.
    dataset: The examples, as NumPy arrays.
    context: What methods may know about the model.
    start: How the parameters of a perceptron are balanced.
    told: Whether the model is told the lengths of sequences.
    named: What messages call the model.
  """

  module: Any
  dataset: Dataset
  context: parts.Context
  start: str = 'balanced'
  told: bool = False
  named: str = 'the model'

  def init(self, seed: jax.Array | int) -> tuple[Any, Any]:
    """Draws the parameters and the other variables of one seed."""
    # A stream of its own: data order and initialization share the seed only.
    key = jax.random.fold_in(jax.random.key(seed), 0)
    first = self.dataset.train
    options: dict[str, Any] = {'train': False}
    if self.told and first.lengths is not None:
      options['lengths'] = jnp.asarray(first.lengths[:FIRST_BATCH])
    variables = dict(self.module.init(
        key, jnp.asarray(first.x[:FIRST_BATCH]), **options))
    params = variables.pop('params', {})
    if not jax.tree.leaves(params):
      raise LabError(f'{self.named} has no parameters: there is nothing to '
                     'train')
    if self.start == 'unbalanced':
      names = sorted(params)  # layer01, layer02, ..., output
      layers = paths.unbalance(
          [params[name] for name in names], jax.random.fold_in(key, 1))
      params = dict(zip(names, layers, strict=True))
    return params, variables

  def outputs(self, params: Any, extra: Any, x: ArrayLike,
              lengths: ArrayLike | None = None, **options: Any) -> Any:
    """What the model returns, and its new variables where they may change."""
    if self.told and lengths is not None:
      options['lengths'] = lengths
    return self.module.apply({'params': params, **extra}, x, **options)

  def _float(self, outputs: Any) -> jax.Array:
    """One array of outputs, float32."""
    if not hasattr(outputs, 'astype'):
      shape = ('B', 'T')[:1 + self.dataset.objective.positions]
      raise LabError(
          f'{self.named} returned {type(outputs).__name__} from its call, not '
          f'one array of outputs, ({", ".join(shape)}, {self.dataset.outputs})')
    return outputs.astype(jnp.float32)

  @contextlib.contextmanager
  def _naming(self) -> Iterator[None]:
    """Names the model where its outputs have a wrong shape."""
    try:
      yield
    except Misfit as error:
      told = f'; its function is given outputs = {self.dataset.outputs}' if (
          isinstance(self.module, own.FromLinen | own.FromNnx)) else ''
      raise LabError(f'{self.named} {error.told}{told}') from error

  def loss(self, params: Any, extra: Any, x: jax.Array, y: jax.Array,
           lengths: jax.Array | None = None) -> tuple[jax.Array, Any]:
    """Mean loss of a training batch and the new variables.

    The mean is over all labels that are no padding.
    """
    outputs, extra = self.outputs(
        params, extra, x, lengths, train=True, mutable=list(extra))
    objective = self.dataset.objective
    with self._naming():
      losses = objective.losses(self._float(outputs), y, lengths)
    return losses.sum() / objective.count(y, lengths), extra

  def evaluate(self, params: Any, extra: Any,
               split: Split) -> dict[str, jax.Array]:
    """Mean loss and score over a part of the data."""
    objective = self.dataset.objective
    spread = objective.spread(split.y, objective.mask(split.y, split.lengths))

    def batch(part: Split) -> list[jax.Array]:
      outputs = self.outputs(
          params, extra, part.x, part.lengths, train=False)
      given = self._float(outputs), part.y, part.lengths
      with self._naming():
        return [objective.losses(*given).sum(),
                objective.scores(*given, spread).sum()]

    size, rows = EVALUATION_BATCH, len(split.y)
    parts = []
    if rows % size:
      parts.append(batch(jax.tree.map(lambda a: a[:rows % size], split)))
    if rows >= size:
      whole = jax.tree.map(
          lambda a: a[rows % size:].reshape(-1, size, *a.shape[1:]), split)
      parts.append([sums.sum() for sums in jax.lax.map(batch, whole)])
    count = objective.count(split.y, split.lengths)
    loss, score = (sum(part[i] for part in parts) / count for i in (0, 1))
    return {'loss': loss, 'score': score}


def told_lengths(module: Any) -> bool:
  """Whether a model's `__call__` takes `lengths`."""
  wrapped = getattr(module, 'module', None)  # of the user's own, as it is
  called = module if wrapped is None or isinstance(module, nn.Module) else (
      wrapped)
  return 'lengths' in inspect.signature(type(called).__call__).parameters


def build(model: schema.Model, dataset: Dataset,
          dtype: str = 'float32') -> Problem:
  """Joins a model's table with the data; `dtype` is the computation's."""
  x = dataset.train.x
  every = dataset.objective.positions
  _check_kind(model, dataset)
  module, stacked = models.build(
      model, dataset.outputs, dataset.image, jnp.dtype(dtype),
      inputs=dataset.symbols, readout=x.shape[1] if every else dataset.readout)
  told = told_lengths(module)
  if dataset.train.lengths is not None and not (
      told or dataset.objective.positions):
    raise LabError(
        'the sequences are of unequal length and this model is not told how '
        'long they are: padding would change its answers. Take `lengths` in '
        "the model's __call__, or cut the sequences to one length")

  def apply_fn(params: Any, x: jax.Array) -> jax.Array:
    out: Any = module.apply({'params': params}, x, train=False)
    return out

  example = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
  return Problem(module, dataset, parts.Context(stacked, apply_fn, example),
                 getattr(model, 'start', 'balanced'), told,
                 f'[models] {model.target!r}' if isinstance(
                     model, schema.Own) else f'[models] kind = "{model.kind}"')


def _check_kind(model: schema.Model, dataset: Dataset) -> None:
  """Refuses examples that are nothing to a kind of model."""
  x, here = dataset.train.x, f'[models] kind = "{model.kind}"'
  if isinstance(model, schema.RecurrentNet) and (
      x.ndim < 3 and dataset.symbols is None and dataset.image is None):
    raise LabError(
        f'{here}: a recurrent net reads sequences, and an example here has '
        f'shape {x.shape[1:]}: give (T, channels) or integer symbols (T,) '
        '(data.symbols), or take another kind of model')
  if isinstance(model, schema.CNN | schema.ResNet | schema.WeightNormNet) and (
      x.ndim != 4 and dataset.image is None):
    raise LabError(
        f'{here} needs pictures, and an example here has shape {x.shape[1:]}: '
        'give arrays of shape (height, width, channels), or take kind = "mlp"')
  if isinstance(model, schema.Transformer) and not (
      dataset.symbols and dataset.objective.positions
      and dataset.train.y.dtype.kind == 'i'):
    raise LabError(
        f'{here} predicts the next symbol: give integer symbols (T,) '
        '(data.symbols) with a class for each position, or take another kind '
        'of model')
