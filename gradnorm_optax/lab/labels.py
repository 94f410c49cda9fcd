"""From labels as they were given to classes or numbers."""

from typing import NamedTuple

import numpy as np

from gradnorm_optax.lab import schema, sequences
from gradnorm_optax.lab.errors import LabError
from gradnorm_optax.lab.raw import Raw


class Labels(NamedTuple):
  """Labels that can be learned.

  Attributes:
    y: Classes 0 to n - 1, int32, or numbers, float64; padding 0.
    outputs: Number of classes, or of numbers for each label.
    number: Whether they are numbers.
    positions: Whether every position of a sequence has one.
  """

  y: np.ndarray
  outputs: int
  number: bool
  positions: bool


def read(raw: Raw, config: schema.Data) -> tuple[Raw, Labels]:
  """Leaves out what has no label, cleans the inputs, numbers the labels."""
  raw = _cleaned(_labelled(raw, config), config)
  if not len(raw.y):
    raise LabError(f'{raw.name}: no example is left ({"; ".join(raw.notes)})')
  if config.predict == 'number':
    return raw, _numbers(raw)
  return raw, _classes(raw)


def _valid(raw: Raw) -> np.ndarray:
  """Marks the labels that are no padding; the shape of `raw.y`."""
  valid = np.ones(raw.y.shape, bool)
  if raw.lengths is not None and raw.y.ndim > 1:
    inside = sequences.inside(raw.lengths, raw.y.shape[1])
    valid &= inside.reshape(inside.shape + (1,) * (raw.y.ndim - 2))
  return valid


def _labelled(raw: Raw, config: schema.Data) -> Raw:
  """Applies the rule for examples without a label."""
  if raw.y.dtype.kind == 'f':
    bare = ~np.isfinite(raw.y)
  elif raw.y.dtype.kind in 'US':
    bare = np.char.str_len(raw.y) == 0
  elif raw.y.dtype.kind == 'O':
    bare = np.array([value is None or value != value
                     for value in raw.y.ravel()], bool).reshape(raw.y.shape)
  else:
    return raw
  bare = (bare & _valid(raw)).reshape(len(bare), -1).any(1)
  if not bare.any():
    return raw
  if config.unlabeled == 'error':
    raise LabError(f'{raw.where(int(bare.argmax()), None)}: no label '
                   f'({bare.sum()} such rows); set data.unlabeled = "drop" to '
                   'leave them out')
  raw.notes.append(f'{bare.sum()} unlabeled rows left out')
  return raw.keep(~bare)


def _cleaned(raw: Raw, config: schema.Data) -> Raw:
  """Applies the rule for missing cells; 'mean' and 'median' wait."""
  if raw.x.dtype.kind != 'f' or not len(raw.x):
    return raw
  bad = ~np.isfinite(raw.x)
  if raw.lengths is not None:
    bad &= sequences.inside(raw.lengths, raw.x.shape[1])[..., None]
  bad = bad.reshape(len(bad), -1)
  if bad.any() and config.missing == 'error':
    row, column = (int(i) for i in np.argwhere(bad)[0])
    raise LabError(
        f'{raw.where(row, column)}: missing or not finite ({bad.sum()} such '
        'cells); set data.missing = "drop", "mean" or "median"')
  if bad.any() and config.missing == 'drop':
    keep = ~bad.any(1)
    raw.notes.append(f'{(~keep).sum()} of {len(keep)} rows with missing cells '
                     'left out')
    raw = raw.keep(keep)
  elif bad.any():
    raw.notes.append(f'{bad.sum()} missing cells filled with the '
                     f'{config.missing} of the training part')
    raw = raw._replace(x=np.where(bad.reshape(raw.x.shape), np.nan, raw.x))
  still = [name for name, column in zip(raw.columns or (), raw.x.T)
           if not _width(column)]
  if still:
    raw.notes.append(
        f'constant columns, which teach nothing: {", ".join(still)}')
  return raw


def _width(column: np.ndarray) -> float:
  """How far the known cells of a column lie apart."""
  known = column[np.isfinite(column)]
  return float(np.ptp(known)) if len(known) else 0.0


def _classes(raw: Raw) -> Labels:
  """Numbers the classes and says how evenly they are spread."""
  valid = _valid(raw)
  given = raw.y[valid]
  if given.dtype.kind == 'O':
    given = given.astype(str)
  names, codes, counts = np.unique(
      given, return_inverse=True, return_counts=True)
  if len(names) > 1000 or len(names) < 2:
    mend = ('; set data.predict = "number" to predict it as a number'
            if given.dtype.kind in 'fiu' and len(names) > 1000 else '')
    raise LabError(f'{raw.name}: the label has {len(names)} different values; '
                   f'a classification needs 2 to 1000{mend}')
  few = names[counts.argmin()]
  if counts.min() < 3:
    mend = ('; set data.predict = "number" if it is a number'
            if given.dtype.kind in 'fiu' and len(names) > 20 else '')
    raise LabError(f'{raw.name}: class {few!s} has {counts.min()} examples: '
                   f'too few for training, validation and test{mend}')
  shares = 100 * counts / counts.sum()
  uneven = '' if counts.max() < 3 * counts.min() else (
      f', {counts.max() / counts.min():.0f} times as common')
  raw.notes.append(
      f'{len(names)} classes, the rarest ({few!s}) {shares.min():.1f}%, '
      f'the commonest {shares.max():.1f}%{uneven}')
  y = np.zeros(raw.y.shape, np.int32)
  y[valid] = codes.ravel()
  return Labels(y, len(names), False, y.ndim > 1)


def _numbers(raw: Raw) -> Labels:
  """Reads the labels as numbers."""
  try:
    y = raw.y.astype(np.float64)
  except (TypeError, ValueError):
    for place, value in np.ndenumerate(raw.y):
      try:
        float(value)
      except (TypeError, ValueError):
        raise LabError(
            f'{raw.where(place[0], None)}: the label {value!r} is no number; '
            'set data.predict = "class" to predict classes') from None
    raise
  symbols = raw.x.dtype.kind != 'f'
  sequence = raw.lengths is not None or raw.x.ndim > 2 or symbols
  positions = y.ndim == 3 or (
      y.ndim == 2 and sequence and y.shape[1] == raw.x.shape[1])
  several = y.ndim - 1 - positions
  return Labels(np.where(_valid(raw), y, 0.0) if positions else y,
                y.shape[-1] if several else 1, True, positions)


def standardized(y: np.ndarray, train: np.ndarray,
                 lengths: np.ndarray | None,
                 positions: bool) -> tuple[np.ndarray, str]:
  """Standardizes numbers by the training part; padding stays 0."""
  known = y[train]
  if positions:
    known = sequences.flat(known, None if lengths is None else lengths[train])
  mean, deviation = known.mean(0), known.std(0)
  scaled = (y - mean) / np.where(deviation > 0, deviation, 1.0)
  if positions and lengths is not None:
    scaled[~sequences.inside(lengths, y.shape[1])] = 0.0
  told = ', '.join(f'{m:.4g} +- {d:.4g}' for m, d in zip(
      np.atleast_1d(mean)[:3], np.atleast_1d(deviation)[:3], strict=True))
  return scaled.astype(np.float32), (
      f'the label, {told}, is standardized: losses are in units of its '
      'deviation')
