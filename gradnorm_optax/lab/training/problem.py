"""A model with its data: initialization, loss and evaluation."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gradnorm_optax import paths
from gradnorm_optax.lab.data.dataset import Dataset, Split
from gradnorm_optax.lab.methods import registry
from gradnorm_optax.lab.models import user_linen, user_model
from gradnorm_optax.lab.objective.objective import Misfit
from gradnorm_optax.lab.support import batch_cut, user_code
from gradnorm_optax.lab.support.errors import LabError

EVALUATION_BATCH = 1024
FIRST_BATCH = 128  # what a model that starts from data is shown


class Problem(NamedTuple):
  """What is trained, apart from how.

  Attributes:
    module: The Linen module.
    dataset: The examples, as NumPy arrays.
    context: What methods may know about the model.
    start: How the parameters of a perceptron are balanced.
    takes_lengths: Whether the model is told the lengths of sequences.
    named: What messages call the model.
    needs_lengths: Whether it has no default for them.
  """

  module: Any
  dataset: Dataset
  context: registry.Context
  start: str = 'balanced'
  takes_lengths: bool = False
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
        lambda a: _signed(jnp.asarray(a[:FIRST_BATCH])), self.dataset.train)
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
    x = _signed(x)
    with self._calling(x):
      found = self.module.apply({'params': params, **extra}, x, **options)
    if not self.dataset.objective.positions or jnp.ndim(x) != 4:
      return found
    if not options.get('mutable'):
      return _flat(found, x)
    outputs, new = found
    return _flat(outputs, x), new

  def _lengths(self, x: Any, lengths: Any) -> dict[str, Any]:
    """The lengths for a model that takes them, whole ones if it must."""
    if self.takes_lengths and lengths is None and self.needs_lengths:
      lengths = jnp.full(x.shape[:1], x.shape[1], jnp.int32)
    given = self.takes_lengths and lengths is not None
    return {'lengths': lengths} if given else {}

  @contextlib.contextmanager
  def _calling(self, x: Any) -> Iterator[None]:
    """Says in one line what the user's own model raised, and where."""
    with user_code.telling(
        f'{self.named}, called with examples {x.shape}, {x.dtype},'
        ) if self._own else contextlib.nullcontext():
      yield

  @property
  def _own(self) -> bool:
    return isinstance(self.module, user_linen.FromLinen | user_model.FromNnx)

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
      raise LabError(f'{self.named} {error.complaint}{told}') from error

  def loss(self, params: Any, extra: Any, x: jax.Array, y: jax.Array,
           lengths: jax.Array | None = None) -> tuple[jax.Array, Any]:
    """Mean loss of a training batch and the new variables.

    The mean is over all labels that there are, weighted by class if asked for.
    """
    outputs, new = self.outputs(
        params, extra, x, lengths, train=True, mutable=list(extra))
    for name in extra:
      if jax.tree.map(_kind, new[name]) != jax.tree.map(_kind, extra[name]):
        raise LabError(
            f'{self.named}: its variables {name!r} have other shapes after a '
            'step than before, and cannot be carried on; with sow, give '
            'init_fn and reduce_fn, or use the collection "intermediates"')
    objective, outputs = self.dataset.objective, batch_cut.rows(outputs)
    y = _signed(y)
    with self._naming():
      losses = objective.losses(self._float(outputs), y, lengths)
    return losses.sum() / objective.weight(y, lengths), new

  def evaluate(self, params: Any, extra: Any,
               split: Split) -> dict[str, jax.Array]:
    """Mean loss, and the score, of a part of the data."""
    objective = self.dataset.objective
    whole = objective.rule.name != 'mean'
    spread = objective.spread(split.y, objective.mask(split.y, split.lengths))

    def batch(part: Split) -> tuple[jax.Array, jax.Array]:
      part = batch_cut.rows(jax.tree.map(_signed, part))
      outputs = self._float(self.outputs(
          params, extra, part.x, part.lengths, train=False))
      given = outputs, part.y, part.lengths
      with self._naming():
        losses = objective.losses(*given)
        # A score that is no mean over the labels needs all outputs together.
        return losses.sum(), outputs if whole else (
            objective.scores(*given, spread).sum())

    parts = [(losses.sum(), found.reshape(-1, *found.shape[2:])
              if whole else found.sum())
             for losses, found in in_batches(batch, split)]
    loss = sum(part[0] for part in parts) / objective.weight(
        split.y, split.lengths)
    if whole:
      return {'loss': loss, 'score': objective.whole_score(
          jnp.concatenate([part[1] for part in parts]), _signed(split.y),
          split.lengths)}
    return {'loss': loss, 'score': sum(
        part[1] for part in parts) / objective.count(split.y, split.lengths)}


def in_batches(function: Callable[[Split], Any], split: Split) -> list[Any]:
  """Calls a function on a part of the data, few examples at once.

  Returns:
    What it returned, stacked along a new first axis: of the rows that fill no
    batch, which are the first, then of the whole batches.
  """
  size, rows = EVALUATION_BATCH, len(split.y)
  parts = []
  if rows % size:
    first = function(jax.tree.map(lambda a: a[:rows % size], split))
    parts.append(jax.tree.map(lambda a: a[None], first))
  if rows >= size:
    parts.append(jax.lax.map(function, jax.tree.map(
        lambda a: a[rows % size:].reshape(-1, size, *a.shape[1:]), split)))
  return parts


def _signed(array: Any) -> Any:
  """Symbols of a text, which lie there as small numbers, as int32."""
  return array.astype(jnp.int32) if jnp.issubdtype(
      array.dtype, jnp.unsignedinteger) else array


def _flat(outputs: Any, x: Any) -> Any:
  """The answers for the pixels of pictures in a row, as their labels lie."""
  if jnp.ndim(outputs) < 3 or outputs.shape[1:3] != x.shape[1:3]:
    return outputs  # of a wrong shape, which the objective will tell
  return outputs.reshape(len(outputs), -1, *outputs.shape[3:])


def _kind(leaf: Any) -> tuple[Any, ...]:
  return leaf.shape, leaf.dtype
