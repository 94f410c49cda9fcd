"""From labels as they were given to classes or numbers."""

from typing import Any, NamedTuple

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.raw import Raw, counted
from gradnorm_optax.lab.objective import padding
from gradnorm_optax.lab.support.errors import LabError


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
  names: tuple[str, ...] = ()  # of the classes


def read(raw: Raw, config: schema.Data) -> tuple[Raw, Labels]:
  """Leaves out what has no label, cleans the inputs, numbers the labels."""
  raw, positions = _shaped(raw, config)
  raw = _cleaned(_labelled(raw, config, positions), config)
  if not len(raw.y):
    raise LabError(f'{raw.name}: no example is left ({"; ".join(raw.notes)})')
  if config.predict == 'number':
    return raw, _numbers(raw, positions)
  return raw, _classes(raw, positions)


def _shaped(raw: Raw, config: schema.Data) -> tuple[Raw, bool]:
  """Says whether every position has a label; (n, 1) becomes (n,).

  Raises:
    LabError: Labels of another shape; one-hot ones are told apart.
  """
  x, y = raw.x, raw.y
  if y.dtype.kind == 'O' and y.ndim == 1:
    lists = [isinstance(value, np.ndarray | list | tuple) for value in y]
    bare = [any(lists) and _absent(value) for value in y]
    if any(bare):
      raise LabError(f'{raw.where(bare.index(True), None)}: no labels, where '
                     'others have one for each step; leave the example out')
    if any(lists):
      i = lists.index(True)
      raise LabError(f'{raw.where(i, None)}: a label of several values, '
                     f'{type(y[i]).__name__}; give one for each example')
  number = config.predict == 'number'
  sequence = raw.lengths is not None or x.ndim == 3 or (
      x.ndim == 2 and x.dtype.kind != 'f')
  steps = y.ndim > 1 and x.ndim in (2, 3) and y.shape[1] == x.shape[1]
  if y.ndim == 2 and y.shape[1] == 1 and not (sequence and steps):
    raw.notes.append(f'labels of shape {y.shape} taken as ({len(y)},)')
    return raw._replace(y=y[:, 0]), False
  hot = _one_hot(y)
  if number:
    fits = y.ndim < 3 or (y.ndim == 3 and steps)
    positions = y.ndim == 3 or (sequence and steps)
  else:
    positions = y.ndim == 2 and steps and (sequence or not hot)
    fits = y.ndim == 1 or positions
  if fits:
    return raw, positions
  wanted, each = f'({len(y)},)', 'each example'
  if number:
    wanted += f' or ({len(y)}, k)'
  if sequence:
    wanted += f' or ({len(y)}, {x.shape[1]})'
    each += f' or each of the {x.shape[1]} steps'
  mend = ''
  if hot and not number:
    mend = '; they are one-hot: give labels.argmax(-1)'
  elif not number and y.ndim == 2 and y.dtype.kind in 'fiu':
    mend = ('; set data.predict = "number" to predict '
            f'{y.shape[1]} numbers')
  raise LabError(
      f'{raw.name}: labels have shape {y.shape}, not {wanted}: one '
      f'{"number (or k)" if number else "class"} for {each}{mend}')


def _one_hot(y: np.ndarray) -> bool:
  """Whether every label is a row with a single 1."""
  if y.ndim < 2 or y.dtype.kind not in 'fiub':
    return False
  sums = (y == 1).sum(-1)  # 0 in padding
  return bool(((y == 0) | (y == 1)).all() and sums.max() == 1)


def _valid(raw: Raw, positions: bool) -> np.ndarray:
  """Marks the labels that are no padding; the shape of `raw.y`."""
  valid = np.ones(raw.y.shape, bool)
  if raw.lengths is not None and positions:
    inside = padding.inside(raw.lengths, raw.y.shape[1])
    valid &= inside.reshape(inside.shape + (1,) * (raw.y.ndim - 2))
  return valid


def _labelled(raw: Raw, config: schema.Data, positions: bool) -> Raw:
  """Applies the rule for examples without a label."""
  if raw.y.dtype.kind == 'f':
    bare = ~np.isfinite(raw.y)
  elif raw.y.dtype.kind in 'US':
    bare = np.char.str_len(raw.y) == 0
  elif raw.y.dtype.kind == 'O':
    bare = np.array([_absent(value) for value in raw.y.ravel()],
                    bool).reshape(raw.y.shape)
  else:
    return raw
  bare = (bare & _valid(raw, positions)).reshape(len(bare), -1).any(1)
  if not bare.any():
    return raw
  if config.unlabeled == 'error':
    what = 'no finite' if raw.y.dtype.kind == 'f' and np.isinf(
        raw.y[bare]).any() else 'no'
    raise LabError(f'{raw.where(int(bare.argmax()), None)}: {what} label '
                   f'({counted(bare.sum(), "such row")}); set data.unlabeled = '
                   '"drop" to leave out what has none')
  raw.notes.append(f'{counted(bare.sum(), "unlabeled row")} left out')
  return raw.keep(~bare)


def _absent(value: Any) -> bool:
  """Whether it stands for no label: None, NaN, pandas' NA, no text."""
  if value is None or (isinstance(value, str | bytes) and not value):
    return True
  try:
    return bool(value != value)
  except (TypeError, ValueError):  # NA is neither; of arrays there are several
    return not isinstance(value, np.ndarray)


def _cleaned(raw: Raw, config: schema.Data) -> Raw:
  """Applies the rule for missing cells; 'mean' and 'median' wait."""
  if raw.x.dtype.kind != 'f' or not len(raw.x):
    return raw
  bad = ~np.isfinite(raw.x)
  if raw.lengths is not None:
    bad &= padding.inside(raw.lengths, raw.x.shape[1])[..., None]
  if bad.any():
    raw = _mended(raw, config, bad)
  return raw


def _mended(raw: Raw, config: schema.Data, bad: np.ndarray) -> Raw:
  """Refuses, leaves out or marks what is missing or not finite; counts it."""
  flat = bad.reshape(len(bad), -1)
  if config.missing == 'error':
    row, column = (int(i) for i in np.argwhere(flat)[0])
    raise LabError(
        f'{raw.where(row, column)}: missing or not finite '
        f'({counted(flat.sum(), "such cell")}); set data.missing = "drop", '
        '"mean" or "median"')
  told = ', '.join(f'{name} {n}' for name, n in zip(
      raw.columns, flat.sum(0), strict=True) if n) if (
          raw.columns and raw.kinds is not None) else ''
  infinite = int(np.isinf(raw.x[bad]).sum())
  told = '; '.join(filter(None, (
      told, f'{infinite} of them infinite' if infinite else '')))
  told = told and f' ({told})'
  if config.missing == 'drop':
    keep = np.logical_not(flat).all(1)
    raw.notes.append(f'{(~keep).sum()} of {len(keep)} rows with missing cells '
                     f'left out{told}')
    return raw.keep(keep)
  raw.notes.append(f'{counted(flat.sum(), "missing cell")} filled with the '
                   f'{config.missing} of the training part{told}')
  return raw._replace(x=np.where(bad, np.nan, raw.x))


def _classes(raw: Raw, positions: bool) -> Labels:
  """Numbers the classes and says how evenly they are spread."""
  valid = _valid(raw, positions)
  given = raw.y[valid]
  if given.dtype.kind == 'O':
    given = given.astype(str)
  if given.dtype.kind == 'f' and (given == given.round()).all():
    if (abs(given) >= 2 ** 53).any():
      raise LabError(f'{raw.name}: labels of 2**53 and more, held as decimals, '
                     'have lost their last digits; give them as texts')
    given = given.astype(np.int64)  # an unlabeled row had made them decimals
  names, codes, counts = np.unique(
      given, return_inverse=True, return_counts=True)
  if len(names) > 1000 or len(names) < 2:
    mend = ('; set data.predict = "number" to predict it as a number'
            if given.dtype.kind in 'fiu' and len(names) > 1000 else '')
    raise LabError(
        f'{raw.name}: the label has {counted(len(names), "different value")}; '
        f'a classification needs 2 to 1000{mend}')
  few, many = names[counts.argmin()], names[counts.argmax()]
  if counts.min() < 3:
    mend = ('; set data.predict = "number" if it is a number'
            if given.dtype.kind in 'fiu' and len(names) > 20 else '')
    raise LabError(
        f'{raw.name}: class {str(few)!r} has '
        f'{counted(counts.min(), "example")}: too few for training, validation '
        f'and test{mend}')
  shares = 100 * counts / counts.sum()
  uneven = '' if counts.max() < 3 * counts.min() else (
      f', {counts.max() / counts.min():.0f} times as common')
  raw.notes.append(
      f'{len(names)} classes, the rarest ({few!s}) {shares.min():.1f}%, '
      f'the commonest ({many!s}) {shares.max():.1f}%{uneven}')
  y = np.zeros(raw.y.shape, np.int32)
  y[valid] = codes.ravel()
  return Labels(y, len(names), False, positions,
                tuple(str(name) for name in names))


def _numbers(raw: Raw, positions: bool) -> Labels:
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
  large = (abs(y) > 1e150) & _valid(raw, positions)
  if large.any():
    place = tuple(np.argwhere(large)[0])
    raise LabError(f'{raw.where(int(place[0]), None)}: the label {y[place]:g} '
                   'is too large to be standardized')
  several = y.ndim - 1 - positions
  return Labels(np.where(_valid(raw, positions), y, 0.0) if positions else y,
                y.shape[-1] if several else 1, True, positions)


def standardized(y: np.ndarray, train: np.ndarray,
                 lengths: np.ndarray | None,
                 positions: bool) -> tuple[np.ndarray, str]:
  """Standardizes numbers by the training part; padding stays 0."""
  known = y[train]
  if positions:
    known = padding.flat(known, None if lengths is None else lengths[train])
  mean, deviation = known.mean(0), known.std(0)
  scaled = (y - mean) / np.where(deviation > 0, deviation, 1.0)
  if positions and lengths is not None:
    scaled[~padding.inside(lengths, y.shape[1])] = 0.0
  told = ', '.join(f'{m:.4g} +- {d:.4g}' for m, d in zip(
      np.atleast_1d(mean)[:3], np.atleast_1d(deviation)[:3], strict=True))
  return scaled.astype(np.float32), (
      f'the label, {told}, is standardized: losses are in units of its '
      'deviation')
