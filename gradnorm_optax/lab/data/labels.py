"""From labels as they were given to classes or numbers."""

from typing import NamedTuple

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import label_shape, number_labels
from gradnorm_optax.lab.data.raw import Raw, counted
from gradnorm_optax.lab.objective import padding
from gradnorm_optax.lab.objective.classes import imbalanced
from gradnorm_optax.lab.support.errors import LabError

NONE = -100  # what other packages write where a position has no class


class Labels(NamedTuple):
  """Labels that can be learned.

  Attributes:
    y: Classes 0 to n - 1, int32, or numbers, float64; padding 0. A position
      without a label holds -1, or NaN.
    outputs: Number of classes, or of numbers for each label.
    number: Whether they are numbers.
    positions: Whether every position of a sequence has one.
    holes: Whether some positions have none.
    names: What the classes are called, in the order of their numbers.
    counts: How often each occurs.
  """

  y: np.ndarray
  outputs: int
  number: bool
  positions: bool
  holes: bool = False
  names: tuple[str, ...] = ()
  counts: tuple[int, ...] = ()


def read(raw: Raw, config: schema.Data) -> tuple[Raw, Labels]:
  """Leaves out what has no label, cleans the inputs, numbers the labels."""
  raw, positions = label_shape.read(raw, config)
  raw = _cleaned(_labelled(raw, config, positions), config)
  if not len(raw.y):
    raise LabError(f'{raw.name}: no example is left ({"; ".join(raw.notes)})')
  inside = _inside(raw, positions)
  known = inside & ~_bare(raw, config, positions)
  holes = int((inside & ~known).sum())
  if holes:  # of positions: what has no label at all is left out
    raw.notes.append(f'{holes} of {counted(inside.sum(), "position")} without '
                     'a label, which count nowhere')
  if config.predict == 'number':
    y = number_labels.read(raw, known, inside)
    outputs = y.shape[-1] if y.ndim > 1 + positions else 1
    return raw, Labels(y, outputs, True, positions, holes > 0)
  y, names, counts = _classes(raw, known, inside)
  return raw, Labels(y, len(names), False, positions, holes > 0, names, counts)


def _inside(raw: Raw, positions: bool) -> np.ndarray:
  """Marks what is no padding, an example or a position each."""
  if not positions:
    return np.ones(len(raw.y), bool)
  if raw.lengths is None:
    return np.ones(raw.y.shape[:2], bool)
  return padding.inside(raw.lengths, raw.y.shape[1])


def _bare(raw: Raw, config: schema.Data, positions: bool) -> np.ndarray:
  """Marks the examples, or the positions, that have no label.

  A position's label may also be -100, as other packages write it. A number
  that is infinite is none for an example; for a position it is an error.
  """
  y = raw.y
  if y.dtype.kind == 'f':
    bare = np.isnan(y) if positions else ~np.isfinite(y)
  elif y.dtype.kind in 'US':
    bare = np.char.str_len(y) == 0
  elif y.dtype.kind == 'O':
    bare = np.array([label_shape.absent(value) for value in y.ravel()],
                    bool).reshape(y.shape)
  else:
    bare = np.zeros(y.shape, bool)
  if positions and config.predict == 'class' and y.dtype.kind in 'fiO':
    bare = bare | (y == NONE)
  shape = y.shape[:1 + positions]
  return bare.reshape(*shape, -1).any(-1)


def _labelled(raw: Raw, config: schema.Data, positions: bool) -> Raw:
  """Applies the rule for examples without a label."""
  inside, bare = _inside(raw, positions), _bare(raw, config, positions)
  infinite = raw.y.dtype.kind == 'f' and np.isinf(raw.y)
  if positions:  # some may have none, but not all, and none is infinite
    shown = np.reshape(infinite, (*inside.shape, -1)).any(-1) if (
        np.ndim(infinite)) else np.zeros(inside.shape, bool)
    bare = (bare | ~inside).all(1) | (shown & inside).any(1)
  if not bare.any():
    return raw
  if config.unlabeled == 'error':
    what = 'no finite' if np.any(infinite) and np.isinf(
        raw.y[bare]).any() else 'no'
    raise LabError(f'{raw.where(int(bare.argmax()), None)}: {what} label '
                   f'({counted(bare.sum(), "such row")}); set data.unlabeled = '
                   '"drop" to leave out what has none')
  raw.notes.append(f'{counted(bare.sum(), "unlabeled row")} left out')
  return raw.keep(~bare)


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
  told = told and f' ({told})'
  if config.missing == 'drop':
    keep = np.logical_not(flat).all(1)
    what = 'missing or infinite' if np.isinf(raw.x[bad]).any() else 'missing'
    raw.notes.append(f'{(~keep).sum()} of {len(keep)} rows with {what} cells '
                     f'left out{told}')
    return raw.keep(keep)
  raw.notes.append(f'{raw.lacking(bad)} filled with the {config.missing} of '
                   f'the training part{told}')
  return raw._replace(x=np.where(bad, np.nan, raw.x))


def _classes(raw: Raw, known: np.ndarray, inside: np.ndarray
             ) -> tuple[np.ndarray, tuple[str, ...], tuple[int, ...]]:
  """Numbers the classes in their order and says how evenly they are spread."""
  given = raw.y[known]
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
  uneven = f', {counts.max() / counts.min():.0f} times as common' if (
      imbalanced(counts.tolist())) else ''
  called = tuple(map(str, names))
  order = ', '.join(called[:10]) + (', ...' if len(called) > 10 else '')
  raw.notes.append(
      f'{len(names)} classes, the rarest ({few!s}) {shares.min():.1f}%, '
      f'the commonest ({many!s}) {shares.max():.1f}%{uneven}, in the order '
      f'{order}')
  y = np.where(inside, -1, 0).astype(np.int32)
  y[known] = codes.ravel()
  return y, called, tuple(map(int, counts))
