"""The gradient of a training step: of all examples, of some, or regularized."""

from typing import Any

import jax
import optax
from jax import lax, numpy as jnp

from gradnorm_optax.lab.data.dataset import Split
from gradnorm_optax.lab.methods import chain, example_choice
from gradnorm_optax.lab.support import batch_cut
from gradnorm_optax.lab.training import pascanu, through_time
from gradnorm_optax.lab.training.problem import Problem


def take(problem: Problem, built: chain.Built, params: Any, extra: Any,
         batch: Split, parts: int, key: jax.Array,
         trials: str | None = None,
         ends: tuple[Any, Any] | None = None) -> tuple[Any, ...]:
  """Takes the gradient as the method wants it.

  Args:
    problem: What is trained.
    built: The method; its `sampling` and `pascanu` look through time.
    params: The parameters.
    extra: The model's other variables.
    batch: The examples of the step.
    parts: In how many equal parts the batch is taken.
    key: For choices at random.
    trials: The mapped axis of trials that share a call; None for one trial.
    ends: Of the range of sampling, where they were learned.

  Returns:
    Loss, new variables, gradient, and the choice of examples or None.
  """
  if built.pascanu is not None:
    if built.sampling is not None:  # the first ones, of a batch in random order
      size = built.sampling.taken(len(batch.y))
      batch = jax.tree.map(lambda a: a[:size], batch)
    return *pascanu.gradient(problem, params, batch, built.pascanu), None
  if built.sampling is None:
    return *_plain(problem, params, extra, batch, parts), None

  def shape(count: int) -> tuple[int, int, int]:
    return through_time.shape(problem, batch.x[:count])

  value, gradient, choice = example_choice.gradient(
      through_time.per_example_loss(problem), params, batch, key,
      built.sampling, shape, trials, ends)
  return value, extra, gradient, choice


def _plain(problem: Problem, params: Any, extra: Any, batch: Split,
           parts: int) -> tuple[jax.Array, Any, Any]:
  """Loss, new variables and gradient of a batch, in equal parts."""
  take = jax.value_and_grad(problem.loss, has_aux=True)
  if parts == 1:
    (loss, extra), gradient = take(params, extra, *batch)
    return loss, extra, gradient

  pieces = batch_cut.rows(jax.tree.map(
      lambda a: a.reshape(parts, -1, *a.shape[1:]), batch), axis=1)
  # A part weighs as its labels do: padding may be shared unevenly.
  held = jax.vmap(lambda piece: problem.dataset.objective.weight(
      piece.y, piece.lengths))(pieces)

  def part(carry: Any, given: Any) -> tuple[Any, None]:
    loss, extra, total = carry
    piece, share = given
    (more, extra), gradient = take(params, extra, *piece)
    return (loss + share * more, extra, jax.tree.map(
        lambda t, g: t + (share * g).astype(t.dtype), total, gradient)), None

  # At least float32: many small parts vanish in a narrow sum.
  empty = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.promote_types(
      p.dtype, jnp.float32)), params)
  (loss, extra, total), _ = lax.scan(
      part, (jnp.float32(0), extra, empty), (pieces, held / held.sum()))
  return loss, extra, optax.tree.cast_like(total, params)
