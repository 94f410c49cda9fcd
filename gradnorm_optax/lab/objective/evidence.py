"""What a score is computed of, example by example, and the score of it.

A finished comparison is judged from these arrays alone, without model and
data, and resampled by their rows.
"""

from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from gradnorm_optax.lab.objective.class_scores import CLASS_SCORES
from gradnorm_optax.lab.objective.objective import Objective
from gradnorm_optax.lab.objective.rule import Rule


def of(objective: Objective, outputs: jax.Array, y: ArrayLike,
       lengths: ArrayLike | None, spread: ArrayLike | None) -> jax.Array:
  """What the score is computed of.

  Args:
    objective: The score.
    outputs: The model's, float32; shape (B, ...).
    y: The labels.
    lengths: Positions of each sequence that are no padding, or None.
    spread: What the score must know of the whole part.

  Returns:
    Float32, one row for each example. Of a mean: the sum of its scores and how
    many labels it has, then, of classes, each label (-1 where there is none)
    and the class that was answered. Of another score: each label and the
    outputs for it.
  """
  mask, rule = objective.mask(y, lengths), objective.rule
  labels = jnp.asarray(y if mask is None else jnp.where(mask, y, -1)
                       ) if rule.classes else None
  if rule.name != 'mean':
    assert labels is not None
    return jnp.concatenate(
        [labels[..., None].astype(jnp.float32), outputs], -1).reshape(
            len(labels), -1)
  scores = objective.scores(outputs, y, lengths, spread)
  held = jnp.ones(scores.shape, jnp.float32) if mask is None else mask
  axes = tuple(range(1, scores.ndim))
  found = jnp.stack(
      [scores.sum(axes), held.sum(axes).astype(jnp.float32)], 1)
  if labels is None:
    return found
  both = jnp.stack([labels, outputs.argmax(-1)], -1).astype(jnp.float32)
  return jnp.concatenate([found, both.reshape(len(found), -1)], 1)


def score_of(rule: Rule) -> Callable[[np.ndarray], float]:
  """How the rows of such an array become one score; NaN of no label."""
  if rule.name == 'mean':
    return mean
  figure = CLASS_SCORES[rule.name].figure

  def score(found: np.ndarray) -> float:
    y, outputs = _labelled(rule, found)
    if not len(y):
      return float('nan')
    return float(figure(np, y, outputs, np.ones(len(y)), rule.positive))

  return score


def confusion(rule: Rule, runs: Iterable[np.ndarray]) -> np.ndarray | None:
  """Counts the answers to the labels of each class, over several runs.

  Returns:
    Shape (classes, classes), first axis: labels; None without classes.
  """
  if not rule.classes:
    return None
  counts = np.zeros((rule.classes, rule.classes), np.int64)
  for found in runs:
    y, answers = _labelled(rule, found)
    np.add.at(counts, (y, answers[:, 0].astype(int) if rule.name == 'mean'
                       else answers.argmax(1)), 1)
  return counts


def mean(found: np.ndarray) -> float:
  """The mean over the labels of some examples."""
  total, count = found[:, :2].sum(0, dtype=np.float64)
  return float(total / count) if count else float('nan')


def _labelled(rule: Rule, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """All labels that there are, and the answer or the outputs for each."""
  if rule.name == 'mean':
    flat = found[:, 2:].reshape(-1, 2)
  else:
    flat = found.reshape(-1, 1 + rule.classes)
  flat = flat[flat[:, 0] >= 0]
  return flat[:, 0].astype(int), flat[:, 1:]
