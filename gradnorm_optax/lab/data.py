"""The examples: loaded, divided and standardized."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gradnorm_optax.lab import (
  bundled,
  characters,
  labels,
  objective as objective_lib,
  own_data,
  own_objective,
  pictures,
  scaling,
  schema,
  sequences,
)
from gradnorm_optax.lab.errors import LabError
from gradnorm_optax.lab.raw import Raw, counted


class Split(NamedTuple):
  """Inputs and targets, first axis: examples.

  Attributes:
    x: Inputs, float32, or symbols, int32; padded where lengths differ.
    y: Classes, int32, or standardized numbers, float32.
    lengths: Positions of each sequence that are no padding, int32; None where
      all are as long.
  """

  x: np.ndarray
  y: np.ndarray
  lengths: np.ndarray | None = None


class Dataset(NamedTuple):
  """Three parts of one set of examples.

  Attributes:
    train, validation, test: The parts; statistics come from `train` alone.
    outputs: How many outputs a model needs: classes, symbols, or numbers.
    image: Height, width and channels where an example is a picture.
    description: One line for the report: where the examples come from, how
      many there are, and everything that was left out, filled or noticed.
    objective: The loss and the quality.
    symbols: Of how many kinds the inputs are where they are symbols.
    readout: At how many of the last steps a sequence is read, outputs having
      shape (B, readout, outputs); None where labels say it themselves.
  """

  train: Split
  validation: Split
  test: Split
  outputs: int
  image: tuple[int, int, int] | None
  description: str
  objective: objective_lib.Objective
  symbols: int | None = None
  readout: int | None = None


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
  if found.objective.measure == objective_lib.VARIANCE and (
      train.loss in objective_lib.NUMBER_LOSSES):
    found = found._replace(objective=objective_lib.numbers(
        found.validation.y, found.validation.lengths,
        found.objective.positions, train.loss))
  return found._replace(
      objective=own_objective.chosen(
          found.objective, train, found.validation.y,
          found.validation.lengths, found.outputs),
      description=found.description + told)


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
  return finish(own_data.read(config), config)


def _hub(config: schema.Data) -> Dataset:
  """A set of the Hugging Face hub."""
  return finish(pictures.hub(config), config)


def finish(raw: Raw, config: schema.Data) -> Dataset:
  """Labels, divides, imputes and scales, all by the training part alone."""
  raw, found = labels.read(raw, config)
  y = found.y
  plain = found.number or found.positions
  train, validation, test = divide(
      np.zeros(len(y), np.int32) if plain else y, config, raw.tested)
  if found.number:
    y, note = labels.standardized(y, train, raw.lengths, found.positions)
    raw.notes.append(note)
  symbols = None
  if raw.x.ndim == 4 and raw.lengths is None and (
      raw.image is not None or raw.x.dtype.kind != 'f'):
    x = scaling.pictures(raw.x, train)
  elif raw.x.dtype.kind == 'f':
    x = scaling.numbers(raw, train, config)
  else:
    x, symbols = raw.x.astype(np.int32), int(raw.x.max()) + 1
  lengths = raw.lengths
  if lengths is not None and lengths.min() == raw.x.shape[1]:
    lengths = None  # nothing is padded
  parts = [Split(x[rows], y[rows], None if lengths is None else lengths[rows])
           for rows in (train, validation, test)]
  held = parts[1].y, parts[1].lengths, found.positions
  outputs = found.outputs
  if symbols and found.positions and not found.number:
    outputs = max(outputs, symbols)  # one alphabet for both
  if found.number:
    _check_spread(parts, found.positions)
    objective = objective_lib.numbers(*held)
  else:
    known = sequences.flat(
        parts[0].y, parts[0].lengths if found.positions else None)
    if unseen := found.outputs - len(np.unique(known)):
      raw.notes.append(f'{unseen} of {found.outputs} classes without a '
                       'training example')
    objective = objective_lib.classes(outputs, *held)
  return Dataset(
      parts[0], parts[1], parts[2], outputs, raw.image,
      '; '.join([f'{raw.name}, {_sizes(parts)} examples', *raw.notes]),
      objective, symbols)


def _check_spread(parts: list[Split], positions: bool) -> None:
  """Numbers that do not vary in a part cannot be explained there."""
  for name, part in zip(('training', 'validation', 'test'), parts, strict=True):
    y = sequences.flat(part.y, part.lengths) if positions else part.y
    same = np.flatnonzero(np.ptp(y, axis=0) == 0)
    if len(same):
      which = f', number {same[0]},' if y.ndim > 1 else ''
      mend = '' if name == 'training' else f'; raise data.{name}'
      raise LabError(
          f'[data] the label{which} is one and the same number in the '
          f'{counted(len(part.y), "example")} of the {name} part{mend}')


def _sizes(parts: list[Split]) -> str:
  return ' + '.join(f'{len(part.y)} {name}' for part, name in zip(
      parts, ('training', 'validation', 'test'), strict=True))


def _long_dependency(config: schema.Data) -> Dataset:
  """One of the generated tasks of `tasks`; three parts that share no draw."""
  import jax

  from gradnorm_optax.lab import tasks
  task = tasks.make(config.task, config.length)
  key = jax.random.key(config.seed, impl='threefry2x32')
  # The last is the key of `Task.evaluation`, which draws the same test part.
  parts = [Split(*map(np.asarray, task.sample(
      jax.random.fold_in(key, number), size))) for number, size in zip(
          (0xE7A3, 0xE7A2, 0xE7A1), config.sizes, strict=True)]
  symbols = task.inputs if parts[0].x.dtype.kind == 'i' else None
  return Dataset(
      parts[0], parts[1], parts[2], task.outputs, None,
      f'{task.name} at T = {task.length}, {_sizes(parts)} generated sequences',
      objective_lib.of_task(task, parts[1].y), symbols, task.readout)


def _characters(config: schema.Data) -> Dataset:
  """Generated text cut into windows; the target is the next character."""
  text = characters.text(config.size * config.length + 1, config.seed)
  alphabet = sorted(set(text))
  codes = np.array([alphabet.index(c) for c in text], np.int32)
  x = codes[:-1].reshape(-1, config.length)
  y = codes[1:].reshape(-1, config.length)
  # One stretch of text for each part: no window is continued in another part.
  first = round(config.size * (1 - config.validation - config.test))
  second = round(config.size * (1 - config.test))
  parts = [Split(x[a:b], y[a:b]) for a, b in (
      (0, first), (first, second), (second, config.size))]
  if not all(len(part.y) for part in parts):
    raise LabError(f'[data] size = {config.size}: {_sizes(parts)} windows; '
                   'take more')
  return Dataset(
      parts[0], parts[1], parts[2], outputs=len(alphabet), image=None,
      description=f'generated text, {len(alphabet)} symbols, {_sizes(parts)} '
                  f'windows of {config.length}',
      objective=objective_lib.classes(
          len(alphabet), parts[1].y, positions=True), symbols=len(alphabet))


def divide(y: np.ndarray, config: schema.Data,
           tested: int | None = None) -> list[np.ndarray]:
  """Divides indices into training, validation and test, by class.

  Args:
    y: Classes, or zeros where there is nothing to divide by.
    config: The shares; `validation` is one of all examples but the set's own
      test part.
    tested: How many of the last examples are that part, if there is one.
  """
  from sklearn.model_selection import train_test_split
  rows = np.arange(len(y))

  def two(rows: np.ndarray, share: float) -> list[np.ndarray]:
    return train_test_split(rows, test_size=share, random_state=config.seed,
                            stratify=y[rows])

  try:
    if tested is None:
      rest, test = two(rows, config.test)
      share = config.validation / (1 - config.test)
    else:
      rest, test = np.split(rows, [len(y) - tested])
      share = config.validation
    train, validation = two(rest, share)
  except ValueError as error:
    raise LabError(f'[data] {len(y)} examples cannot be divided: {error}; '
                   'raise data.validation and data.test, or join rare classes'
                   ) from error
  return [train, validation, test]


SOURCES: dict[str, Callable[[schema.Data], Dataset]] = {
    **dict.fromkeys(bundled.SETS, _bundled),
    'characters': _characters, 'long_dependency': _long_dependency,
    'file': _own, 'function': _own, 'hub': _hub, 'cifar10': _hub}
