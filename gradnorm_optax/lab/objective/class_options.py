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
  objective = dataclasses.replace(
      objective, classes=found,
      class_weights=_weights(train, found, width, train_labels))
  name = train.score
  if name is None and told:
    name = 'balanced_accuracy'
  looks = name in ('f1', 'auc', 'average_precision')
  if train.positive is not None and not looks:
    raise LabError('[train] positive is for score = "f1", "auc" or '
                   '"average_precision"; leave it out')
  if name not in CLASS_SCORES:
    return objective
  score = CLASS_SCORES[name]
  positive = found.positive(train.positive) if two and looks else None
  objective = dataclasses.replace(
      objective, rule=Rule(name, width, positive),
      measure=score.named(None if positive is None else found.names[positive]))
  labels = padding.labels(y, lengths, objective.positions)
  check_part(objective, 'validation', labels)
  chance, margin = score.guess(np.bincount(labels, minlength=width), positive)
  return dataclasses.replace(objective, chance=chance, margin=margin)


def check_part(objective: Objective, name: str, labels: np.ndarray) -> None:
  """Refuses a part in which the score has nothing to look for.

  Raises:
    LabError: The part lacks the positive class, or has one class alone.
  """
  rule = objective.rule
  if rule.name not in CLASS_SCORES:
    return
  there, said = set(np.unique(labels).tolist()), objective.measure.name
  mend = ('divide otherwise (data.seed, data.validation, data.test), or take '
          'train.score = "accuracy"')
  if objective.classes and rule.positive is not None and (
      rule.positive not in there):
    raise LabError(f'[data] the {name} part has no example of '
                   f'{objective.classes.names[rule.positive]!r}, which {said} '
                   f'looks for; {mend}')
  if len(there) < 2:
    raise LabError(f'[data] the {name} part has one class alone, and {said} '
                   f'compares classes; {mend}')


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
