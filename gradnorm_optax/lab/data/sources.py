"""Where the examples come from: one function for each source."""

from collections.abc import Callable

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import bundled, hub, idx_sets, text, user_data
from gradnorm_optax.lab.data.dataset import Dataset
from gradnorm_optax.lab.data.generated import characters_set, long_dependency
from gradnorm_optax.lab.data.preparation import finish
from gradnorm_optax.lab.objective import (
  class_options,
  padding,
  quality,
  user_objective,
  usual,
)
from gradnorm_optax.lab.support.errors import LabError


def load(config: schema.Data, train: schema.Train | None = None) -> Dataset:
  """Loads what `[data]` names; the same seed gives the same division.

  Args:
    config: Where the examples come from.
    train: Its `loss` and `score`; the usual ones of the labels if None. Its
      batches are checked against the training part.

  Returns:
    The three parts with their objective; `description` counts what was done.

  Raises:
    LabError: A mistake in the data or in how they are described; it names the
      file or function, the row and the column.
  """
  found = SOURCES[config.source](config)
  told = '' if train is None else _batches(train, len(found.train.y))
  train = train or schema.Train()
  if found.objective.measure == quality.VARIANCE and (
      train.loss in usual.NUMBER_LOSSES):
    found = found._replace(objective=usual.numbers(
        found.validation.y, found.validation.lengths,
        found.objective.positions, train.loss, found.objective.holes))
  held, known, last = (part.labelled() for part in (
      found.validation, found.train, found.test))
  objective = user_objective.chosen(
      found.objective, train, held.y, held.lengths, found.outputs,
      padding.labels(known.y, known.lengths, found.objective.positions))
  class_options.check_part(objective, 'test', padding.labels(
      last.y, last.lengths, objective.positions))
  if objective.rule.name != 'mean' and train.score is None:
    told += ('; judged by balanced accuracy, for the classes are uneven '
             '(train.score = "accuracy" asks for the other)')
  return found._replace(
      objective=objective, description=found.description + told)


def _batches(train: schema.Train, rows: int) -> str:
  """Says where the training part is smaller than a batch."""
  if train.accumulate > rows:
    raise LabError(f'[train] accumulate = {train.accumulate}: a batch cannot '
                   f'be cut into more parts than the {rows} training examples')
  size = min(train.batch_size, rows // train.accumulate * train.accumulate)
  return '' if size == train.batch_size else (
      f'; batches hold {size} examples, not {train.batch_size}: there are no '
      'more')


def _bundled(config: schema.Data) -> Dataset:
  """A set of scikit-learn's; the labels of diabetes are numbers."""
  if config.source == 'diabetes':
    config = config.model_copy(update={'predict': 'number'})
  return finish(bundled.read(config), config)


def _own(config: schema.Data) -> Dataset:
  """The user's table or arrays."""
  return finish(user_data.read(config), config)


def _hub(config: schema.Data) -> Dataset:
  """A set of the Hugging Face hub."""
  return finish(hub.read(config), config)


def _idx(config: schema.Data) -> Dataset:
  """Idx files."""
  return finish(idx_sets.read(config), config)


SOURCES: dict[str, Callable[[schema.Data], Dataset]] = {
    **dict.fromkeys(bundled.SETS, _bundled),
    'characters': characters_set, 'text': text.windows,
    'long_dependency': long_dependency,
    'file': _own, 'function': _own, 'hub': _hub, 'cifar10': _hub,
    'idx': _idx}
