"""A model with its data: initialization, loss and evaluation."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import errors, linen as nn
from jax.typing import ArrayLike

from gradnorm_optax import paths
from gradnorm_optax.lab import models, parts, schema, targets
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
    needs_lengths: Whether it has no default for them.
  """

  module: Any
  dataset: Dataset
  context: parts.Context
  start: str = 'balanced'
  told: bool = False
  named: str = 'the model'
  needs_lengths: bool = False

  def held(self) -> tuple[str, ...]:
    """Traces what the model holds beside parameters: names of collections."""
    _, extra = jax.eval_shape(self.init, 0)
    return tuple(name for name in extra if jax.tree.leaves(extra[name]))

  def init(self, seed: jax.Array | int) -> tuple[Any, Any]:
    """Draws the parameters and the other variables of one seed."""
    # A stream of its own: data order and initialization share the seed only.
    key = jax.random.fold_in(jax.random.key(seed), 0)
    x, _, lengths = jax.tree.map(
        lambda a: jnp.asarray(a[:FIRST_BATCH]), self.dataset.train)
    with self._calling(x):
      variables = dict(self.module.init(
          key, x, train=False, **self._lengths(x, lengths)))
    params = variables.pop('params', {})
    if not jax.tree.leaves(params):
      raise LabError(f'{self.named} has no parameters: there is nothing to '
                     'train')
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
      if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        name = jax.tree_util.keystr(path, simple=True, separator='/')
        raise LabError(f'{self.named}: the parameter {name!r} is {leaf.dtype}, '
                       'which has no gradient; keep it as another variable')
    if self.start == 'unbalanced':
      names = sorted(params)  # layer01, layer02, ..., output
      layers = paths.unbalance(
          [params[name] for name in names], jax.random.fold_in(key, 1))
      params = dict(zip(names, layers, strict=True))
    return params, variables

  def outputs(self, params: Any, extra: Any, x: ArrayLike,
              lengths: ArrayLike | None = None, **options: Any) -> Any:
    """What the model returns, and its new variables where they may change."""
    options |= self._lengths(x, lengths)
    with self._calling(x):
      return self.module.apply({'params': params, **extra}, x, **options)

  def _lengths(self, x: Any, lengths: Any) -> dict[str, Any]:
    """The lengths for a model that takes them, whole ones if it must."""
    if self.told and lengths is None and self.needs_lengths:
      lengths = jnp.full(x.shape[:1], x.shape[1], jnp.int32)
    return {'lengths': lengths} if self.told and lengths is not None else {}

  @contextlib.contextmanager
  def _calling(self, x: Any) -> Iterator[None]:
    """Says in one line what the user's own model raised, and where."""
    try:
      yield
    except LabError:
      raise
    except Exception as error:
      if not self._own:
        raise
      told = (str(error).strip().splitlines() or [''])[0]
      raise LabError(
          f'{self.named}, called with examples {x.shape}, {x.dtype}, raised '
          f'{type(error).__name__}: {told}{targets.place(error)}') from error

  @property
  def _own(self) -> bool:
    return isinstance(self.module, own.FromLinen | own.FromNnx)

  def _float(self, outputs: Any) -> jax.Array:
    """One array of outputs, float32."""
    if not hasattr(outputs, 'astype') or not jnp.issubdtype(
        outputs.dtype, jnp.floating):
      shape = ('B', 'T')[:1 + self.dataset.objective.positions]
      found = (f'an array of {outputs.dtype}' if hasattr(outputs, 'dtype')
               else type(outputs).__name__)
      raise LabError(
          f'{self.named} returned {found} from its call, not one array of '
          f'floating-point outputs, ({", ".join(shape)}, '
          f'{self.dataset.outputs})')
    return outputs.astype(jnp.float32)

  @contextlib.contextmanager
  def _naming(self) -> Iterator[None]:
    """Names the model where its outputs have a wrong shape."""
    try:
      yield
    except Misfit as error:
      told = f'; its function is given outputs = {self.dataset.outputs}' if (
          self._own) else ''
      raise LabError(f'{self.named} {error.told}{told}') from error

  def loss(self, params: Any, extra: Any, x: jax.Array, y: jax.Array,
           lengths: jax.Array | None = None) -> tuple[jax.Array, Any]:
    """Mean loss of a training batch and the new variables.

    The mean is over all labels that are no padding.
    """
    outputs, new = self.outputs(
        params, extra, x, lengths, train=True, mutable=list(extra))
    for name in extra:
      if jax.tree.map(_kind, new[name]) != jax.tree.map(_kind, extra[name]):
        raise LabError(
            f'{self.named}: its variables {name!r} have other shapes after a '
            'step than before, and cannot be carried on; with sow, give '
            'init_fn and reduce_fn, or use the collection "intermediates"')
    objective = self.dataset.objective
    with self._naming():
      losses = objective.losses(self._float(outputs), y, lengths)
    return losses.sum() / objective.count(y, lengths), new

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


def _kind(leaf: Any) -> tuple[Any, ...]:
  return leaf.shape, leaf.dtype


def takes_lengths(module: Any) -> tuple[bool, bool]:
  """Whether a model's `__call__` takes `lengths`, and has no default for it."""
  wrapped = getattr(module, 'module', None)  # of the user's own, as it is
  called = module if wrapped is None or isinstance(module, nn.Module) else (
      wrapped)
  found = inspect.signature(type(called).__call__).parameters.get('lengths')
  return found is not None, found is not None and found.default is found.empty


def build(model: schema.Model, dataset: Dataset,
          dtype: str = 'float32') -> Problem:
  """Joins a model's table with the data; `dtype` is the computation's."""
  x = dataset.train.x
  every = dataset.objective.positions
  _check_kind(model, dataset)
  module, stacked = models.build(
      model, dataset.outputs, dataset.image, jnp.dtype(dtype),
      inputs=dataset.symbols, readout=x.shape[1] if every else dataset.readout)
  told, needs = takes_lengths(module)
  if dataset.train.lengths is not None and not (
      told or dataset.objective.positions):
    raise LabError(
        'the sequences are of unequal length and this model is not told how '
        'long they are: padding would change its answers. Take `lengths` in '
        "the model's __call__, or cut the sequences to one length")

  named = (f'[models] {model.target!r}' if isinstance(model, schema.Own)
           else f'[models] kind = "{model.kind}"')

  def apply_fn(params: Any, x: jax.Array) -> jax.Array:
    try:
      out: Any = module.apply({'params': params}, x, train=False)
    except errors.ScopeCollectionNotFound as error:
      raise LabError(
          f'{named} has other variables than parameters (batch statistics?), '
          'without which this method calls it; take another model') from error
    return out

  example = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
  return Problem(module, dataset, parts.Context(stacked, apply_fn, example),
                 getattr(model, 'start', 'balanced'), told, named, needs)


def _check_kind(model: schema.Model, dataset: Dataset) -> None:
  """Refuses examples that are nothing to a kind of model."""
  x, here = dataset.train.x, f'[models] kind = "{model.kind}"'
  if isinstance(model, schema.RecurrentNet) and (
      x.ndim < 3 and dataset.symbols is None and dataset.image is None):
    raise LabError(
        f'{here}: a recurrent net reads sequences, and an example here has '
        f'shape {x.shape[1:]}: give (T, channels) or integer symbols (T,) '
        '(data.symbols), or take another kind of model')
  if isinstance(model, schema.CNN | schema.ResNet | schema.WeightNormNet):
    shape = dataset.image or x.shape[1:]
    if len(shape) != 3:
      raise LabError(
          f'{here} needs pictures, and an example here has shape {shape}: give '
          'arrays of shape (height, width, channels), or take kind = "mlp"')
    if shape[0] in (1, 3) and shape[1] == shape[2] > 4:
      raise LabError(f'{here}: pictures of shape {shape} have their channels '
                     'first; move them last with numpy.moveaxis(x, 1, -1)')
    if min(shape[:2]) < (least := _least(model)):
      raise LabError(f'{here}: pictures of shape {shape} are too small; it '
                     f'needs {least} rows and columns')
  if isinstance(model, schema.Transformer) and not (
      dataset.symbols and dataset.objective.positions
      and dataset.train.y.dtype.kind == 'i'):
    raise LabError(
        f'{here} predicts the next symbol: give integer symbols (T,) '
        '(data.symbols) with a class for each position, or take another kind '
        'of model')


def _least(model: Any) -> int:
  """How many rows and columns a convolutional net needs to keep one."""
  if model.kind == 'cnn':
    pools = {model.depth // 3, 2 * model.depth // 3} - {0, model.depth}
    return 2 ** len(pools)
  return {'weight_norm_paper': 12, 'weight_norm_small': 2}.get(model.kind, 1)
