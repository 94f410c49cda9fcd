"""From examples as they were read to a dataset: labelled, divided, scaled."""

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import input_encoding, labels, number_labels
from gradnorm_optax.lab.data.dataset import Dataset, Split, sizes
from gradnorm_optax.lab.data.raw import Raw
from gradnorm_optax.lab.objective import padding, usual
from gradnorm_optax.lab.objective.classes import Classes
from gradnorm_optax.lab.support.errors import LabError


def finish(raw: Raw, config: schema.Data) -> Dataset:
  """Labels, divides, imputes and scales, all by the training part alone."""
  raw, found = labels.read(raw, config)
  y = found.y
  plain = found.number or found.positions
  train, validation, test = divide(
      np.zeros(len(y), np.int32) if plain else y, config, raw.tested)
  if found.number:
    y, note = number_labels.standardized(
        found.y, train, raw.lengths, found.positions)
    raw.notes.append(note)
    number_labels.check_spread(
        raw, found.y, y, [train, validation, test], found.positions)
  symbols = None
  if raw.x.ndim == 4 and raw.lengths is None and (
      raw.image is not None or raw.x.dtype.kind != 'f'):
    x = input_encoding.pictures(raw.x, train)
  elif raw.x.dtype.kind == 'f':
    x = input_encoding.numbers(raw, train, config)
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
    objective = usual.numbers(*held, holes=found.holes)
  else:
    known = padding.labels(parts[0].y, parts[0].lengths, found.positions)
    if unseen := found.outputs - len(np.unique(known)):
      raw.notes.append(f'{unseen} of {found.outputs} classes without a '
                       'training example')
    objective = usual.classes(
        outputs, *held, found.holes, Classes(found.names, found.counts))
  return Dataset(
      parts[0], parts[1], parts[2], outputs, raw.image,
      '; '.join([f'{raw.name}, {sizes(parts)} examples', *raw.notes]),
      objective, symbols)


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
