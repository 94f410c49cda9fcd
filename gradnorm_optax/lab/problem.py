"""A model with its data: initialization, loss and evaluation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gradnorm_optax import paths
from gradnorm_optax.lab import methods, models, schema
from gradnorm_optax.lab.data import Dataset, Split

EVALUATION_BATCH = 1024
FIRST_BATCH = 128  # what a model that starts from data is shown


class Problem(NamedTuple):
  """What is trained, apart from how.

  Attributes:
    module: The Linen module.
    dataset: The examples, as NumPy arrays.
    context: What methods may know about the model.
  """

  module: Any
  dataset: Dataset
  context: methods.Context
  start: str = 'balanced'

  def init(self, seed: jax.Array | int) -> tuple[Any, Any]:
    """Draws the parameters and the other variables of one seed."""
    # A stream of its own: data order and initialization share the seed only.
    key = jax.random.fold_in(jax.random.key(seed), 0)
    x = jnp.asarray(self.dataset.train.x[:FIRST_BATCH])
    variables = dict(self.module.init(key, x, train=False))
    params = variables.pop('params')
    if self.start == 'unbalanced':
      names = sorted(params)  # layer01, layer02, ..., output
      layers = paths.unbalance(
          [params[name] for name in names], jax.random.fold_in(key, 1))
      params = dict(zip(names, layers, strict=True))
    return params, variables

  def loss(self, params: Any, extra: Any, x: jax.Array,
           y: jax.Array) -> tuple[jax.Array, Any]:
    """Mean cross-entropy of a training batch and the new variables."""
    logits, extra = self.module.apply(
        {'params': params, **extra}, x, train=True, mutable=list(extra))
    logits = logits.astype(jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    return losses.mean(), extra

  def evaluate(self, params: Any, extra: Any,
               split: Split) -> dict[str, jax.Array]:
    """Mean loss and accuracy over a part of the data."""
    def batch(xy: Any) -> tuple[jax.Array, jax.Array]:
      x, y = xy
      logits = self.module.apply(
          {'params': params, **extra}, x, train=False).astype(jnp.float32)
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
      return loss, (logits.argmax(-1) == y).astype(jnp.float32)

    size, rows = EVALUATION_BATCH, len(split.y)
    parts = [batch((split.x[:rows % size], split.y[:rows % size]))]
    if rows >= size:
      whole = [a[rows % size:].reshape(-1, size, *a.shape[1:]) for a in split]
      parts.append(jax.lax.map(batch, tuple(whole)))
    loss, right = (
        jnp.stack([part[i].sum() for part in parts]).sum() / split.y.size
        for i in (0, 1))
    return {'loss': loss, 'score': right}


def build(model: schema.Model, dataset: Dataset,
          dtype: str = 'float32') -> Problem:
  """Joins a model's table with the data; `dtype` is the computation's."""
  module, stacked = models.build(
      model, dataset.classes, dataset.image, jnp.dtype(dtype))
  x = dataset.train.x

  def apply_fn(params: Any, x: jax.Array) -> jax.Array:
    out: Any = module.apply({'params': params}, x, train=False)
    return out

  example = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
  return Problem(module, dataset, methods.Context(stacked, apply_fn, example),
                 getattr(model, 'start', 'balanced'))
