"""How noisy a batch's gradient is: what the gradient noise scale is made of."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from gradnorm_optax.lab.data.dataset import Split
from gradnorm_optax.lab.training.problem import Problem

MOST = 8  # parts


def parts(size: int) -> int:
  """In how many equal parts a batch is taken; the rest is left out.

  >>> parts(100), parts(32), parts(7), parts(1)
  (5, 8, 7, 1)
  """
  return next((count for count in range(MOST, 1, -1) if size % count == 0),
              min(size, 2))


def measure(problem: Problem, params: Any, extra: Any,
            batch: Split) -> jax.Array:
  r"""Estimates tr(S) and |G|^2 from a batch and its parts.

  With S the covariance of one example's gradient and G its mean, the squared
  norm of the mean of b examples' gradients is :math:`|G|^2 + tr(S) / b` on
  average. Two sizes b give both, without bias (McCandlish et al. 2018,
  arXiv 1812.06162, appendix A.1).

  Returns:
    (tr(S), |G|^2), float32, NaN of a single example. One batch tells little:
    the noise scale is the ratio of means over several.
  """
  whole = len(batch.y)
  count = parts(whole)
  size = whole // count
  if count < 2:
    return jnp.full(2, jnp.nan, jnp.float32)
  pieces = jax.tree.map(lambda a: a[:count * size].reshape(
      count, size, *a.shape[1:]), batch)
  take = jax.grad(lambda p, piece: problem.loss(p, extra, *piece)[0])

  def one(carry: Any, piece: Split) -> tuple[Any, None]:
    total, squares = carry
    gradient = jax.tree.map(
        lambda g: g.astype(jnp.float32), take(params, piece))
    return (optax.tree.add(total, gradient),
            squares + optax.tree.norm(gradient, squared=True)), None

  empty = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
  (total, squares), _ = lax.scan(one, (empty, jnp.float32(0)), pieces)
  small = squares / count
  big = optax.tree.norm(total, squared=True) / count**2
  return jnp.stack([
      (small - big) / (1 / size - 1 / (count * size)),
      (count * big - small) / (count - 1)])
