"""What `[train]` says of classes: their score, the positive one, weights."""

import dataclasses

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.objective import padding
from gradnorm_optax.lab.objective.class_scores import CLASS_SCORES
from gradnorm_optax.lab.objective.classes import Classes, imbalanced
from gradnorm_optax.lab.objective.objective import Objective
from gradnorm_optax.lab.objective.quality import ACCURACY
from gradnorm_optax.lab.objective.rule import Rule
from gradnorm_optax.lab.support.errors import LabError, nearest


def chosen(objective: Objective, train: schema.Train, y: np.ndarray,
           lengths: np.ndarray | None, width: int,
           train_labels: np.ndarray) -> Objective:
  """Judges classes by the named score, and weighs their losses.

  Where no score is named and the classes are uneven (the head tells it),
  accuracy says little, and balanced accuracy takes its place.

  Args:
    objective: The usual one of the data.
    train: Its `score`, `positive` and `class_weight`.
    y: The validation labels.
    lengths: Their sequences' lengths, or None.
    width: Number of outputs of the model.
    train_labels: All labels of the training part.

  Raises:
    LabError: Labels that are no classes, or a class that is not there.
  """
  if objective.measure != ACCURACY:
    for key in ('positive', 'class_weight'):
      if getattr(train, key) is not None:
        raise LabError(f'[train] {key} is for classes, and these labels are '
                       f'judged by {objective.measure.name}; leave it out')
    if train.score in ('accuracy', *CLASS_SCORES):
      raise LabError(f'[train] score = "{train.score}" needs classes; these '
                     f'labels are judged by {objective.measure.name}')
    return objective
  told = objective.classes and imbalanced(objective.classes.counts)
  found = objective.classes or Classes(
      tuple(map(str, range(width))), tuple(np.bincount(
          train_labels, minlength=width).tolist()))
  two = width == len(found.names) == 2
  for key, value in (('positive', train.positive), *(
      ('class_weight', name) for name in train.weights)):
    if value is not None and value not in found.names:
      raise LabError(f'[train] {key}: no class is called {value!r}'
                     f'{nearest(value, found.names)}')
  if train.positive is not None and not two:
    raise LabError(f'[train] positive is for two classes, and there are '
                   f'{max(width, len(found.names))}; leave it out')
  positive = found.positive(train.positive) if two else None
  objective = dataclasses.replace(
      objective, classes=found,
      class_weights=_weights(train, found, width, train_labels))
  name = train.score
  if name is None and told:
    name = 'balanced_accuracy'
  if name not in CLASS_SCORES:
    return objective
  score = CLASS_SCORES[name]
  chance, margin = score.guess(np.bincount(
      padding.labels(y, lengths, objective.positions), minlength=width),
      positive)
  return dataclasses.replace(
      objective, rule=Rule(name, width, positive), chance=chance, margin=margin,
      measure=score.named(None if positive is None else found.names[positive]))


def _weights(train: schema.Train, found: Classes, width: int,
             labels: np.ndarray) -> tuple[float, ...] | None:
  """What each class's loss counts: 1 on the average of the training part."""
  if train.class_weight is None:
    return None
  counts = np.bincount(labels, minlength=width).astype(np.float64)
  if train.class_weight == 'balanced':
    weights = 1 / np.maximum(counts, 1)
  else:
    weights = np.ones(width)
    for name, weight in train.weights.items():
      weights[found.names.index(name)] = weight
  return tuple((weights * counts.sum() / (weights * counts).sum()).tolist())
