"""From examples as they were read to a dataset: labelled, divided, scaled."""

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import (
  division,
  input_encoding,
  labels,
  number_labels,
  suspicions,
)
from gradnorm_optax.lab.data.dataset import Dataset, Split, sizes
from gradnorm_optax.lab.data.preprocessing import Preprocessing
from gradnorm_optax.lab.data.raw import Raw
from gradnorm_optax.lab.objective import padding, usual
from gradnorm_optax.lab.objective.classes import Classes


def finish(raw: Raw, config: schema.Data) -> Dataset:
  """Labels, divides, imputes and scales, all by the training part alone."""
  raw.notes.extend(suspicions.of_labels(raw))
  raw, found = labels.read(raw, config)
  raw.notes.extend(suspicions.of_inputs(raw, found.number))
  y = found.y
  plain = found.number or found.positions
  rows = division.divide(
      np.zeros(len(y), np.int32) if plain else y, config, raw.part, raw.group,
      raw.time)
  raw.notes.extend(division.notes(raw, rows))
  if config.take is not None:
    kept, rows = division.taken(rows, config.take, config.seed)
    raw, y = raw.keep(kept), y[kept]
    found = found._replace(y=y)
    raw.notes.append(f'taken of {len(kept)} by seed {config.seed}')
  raw.notes.extend(suspicions.of_division(raw, rows))
  x, fitted, symbols = _inputs(raw, rows[0], config)
  fitted = fitted._replace(classes=found.names or None)
  if found.number:
    mean, deviation = number_labels.spread(
        found.y, rows[0], raw.lengths, found.positions)
    fitted = fitted._replace(label_mean=mean, label_scale=deviation)
    y = number_labels.standardized(
        found.y, mean, deviation, raw.lengths, found.positions)
    raw.notes.append(number_labels.note(mean, deviation))
    number_labels.check_spread(raw, found.y, y, rows, found.positions)
  lengths = raw.lengths
  if lengths is not None and lengths.min() == raw.x.shape[1]:
    lengths = None  # nothing is padded
  parts = [Split(x[part], y[part], None if lengths is None else lengths[part])
           for part in rows]
  held = parts[1].y, parts[1].lengths, found.positions
  outputs = found.outputs
  if symbols and found.positions and not found.number:
    outputs = max(outputs, symbols)  # one alphabet for both
  if found.number:
    objective = usual.numbers(*held, holes=found.holes)
  else:
    _note_unseen(raw, found, parts)
    objective = usual.classes(
        outputs, *held, found.holes, Classes(found.names, found.counts))
  return Dataset(
      parts[0], parts[1], parts[2], outputs, raw.image,
      '; '.join([f'{raw.name}, {sizes(parts)} examples', *raw.notes]),
      objective, symbols, preprocessing=fitted,
      groups=None if raw.group is None else raw.group[rows[2]])


def _inputs(raw: Raw, train: np.ndarray, config: schema.Data
            ) -> tuple[np.ndarray, Preprocessing, int | None]:
  """The inputs of a model, what was fitted, and of how many kinds they are."""
  if raw.x.ndim == 4 and raw.lengths is None and (
      raw.image is not None or raw.x.dtype.kind != 'f'):
    return *input_encoding.pictures(raw, train), None
  if raw.x.dtype.kind == 'f':
    return *input_encoding.numbers(raw, train, config), None
  fitted = Preprocessing(
      columns=None if raw.channels is None else tuple(raw.channels),
      symbols=None if raw.alphabet is None else tuple(raw.alphabet))
  return raw.x.astype(np.int32), fitted, int(raw.x.max()) + 1


def _note_unseen(raw: Raw, found: labels.Labels, parts: list[Split]) -> None:
  """Tells of classes that a part does not hold."""
  for name, part in zip(('a training', 'a validation', 'a test'), parts,
                        strict=True):
    here = padding.labels(part.y, part.lengths, found.positions)
    if unseen := found.outputs - len(np.unique(here)):
      raw.notes.append(f'{unseen} of {found.outputs} classes without {name} '
                       'example')


