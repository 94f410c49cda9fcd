"""Labels that are numbers: read, standardized, and found to vary."""

import numpy as np

from gradnorm_optax.lab.data.raw import Raw, counted
from gradnorm_optax.lab.objective import padding
from gradnorm_optax.lab.support.errors import LabError


def read(raw: Raw, known: np.ndarray, inside: np.ndarray) -> np.ndarray:
  """Reads the labels as numbers: NaN where there is none, padding 0.

  Args:
    raw: The labels as they were given.
    known: Marks those that there are.
    inside: Marks what is no padding.

  Raises:
    LabError: A label that is no number, or one too large for its digits.
  """
  y = np.full(raw.y.shape, np.nan)
  y[~inside] = 0.0
  given = raw.y[known]
  try:
    y[known] = given.astype(np.float64)
  except (TypeError, ValueError):
    for row, *rest in np.argwhere(known):
      for value in np.asarray(raw.y[(row, *rest)], object).ravel():
        try:
          float(value)
        except (TypeError, ValueError):
          raise LabError(
              f'{raw.where(int(row), None)}: the label {value!r} is no '
              'number; set data.predict = "class" to predict classes') from None
    raise
  large = abs(y) > 1e150
  if large.any():
    place = np.argwhere(large)[0]
    raise LabError(f'{raw.where(int(place[0]), None)}: the label '
                   f'{y[tuple(place)]:g} is too large to be standardized')
  if given.dtype.kind in 'iu' or given.dtype.kind == 'O' and all(
      isinstance(value, int) for value in given.ravel()):
    large = abs(y) > 2 ** 53
    if large.any():
      raise LabError(
          f'{raw.where(int(np.argwhere(large)[0, 0]), None)}: a label of more '
          'than 2**53, whose last digits a float does not keep; subtract '
          'from all of them what they have in common')
  return y


def spread(y: np.ndarray, train: np.ndarray, lengths: np.ndarray | None,
           positions: bool) -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation of the training part's labels; 1 where that is 0."""
  known = padding.labels(
      y[train], None if lengths is None else lengths[train], positions)
  mean, deviation = known.mean(0), known.std(0)
  return np.asarray(mean), np.where(deviation > 0, deviation, 1.0)


def standardized(y: np.ndarray, mean: np.ndarray, deviation: np.ndarray,
                 lengths: np.ndarray | None, positions: bool) -> np.ndarray:
  """Standardizes numbers, float32; padding stays 0, holes NaN."""
  scaled = (y - mean) / deviation
  if positions and lengths is not None:
    scaled[~padding.inside(lengths, y.shape[1])] = 0.0
  return scaled.astype(np.float32)


def note(mean: np.ndarray, deviation: np.ndarray) -> str:
  """What was done to the labels, in words."""
  told = ', '.join(f'{m:.4g} +- {d:.4g}' for m, d in zip(
      np.atleast_1d(mean)[:3], np.atleast_1d(deviation)[:3], strict=True))
  return (f'the label, {told}, is standardized: losses are in units of its '
          'deviation')


def check_spread(raw: Raw, y: np.ndarray, scaled: np.ndarray,
                 parts: list[np.ndarray], positions: bool) -> None:
  """Numbers that do not vary in a part cannot be explained there.

  Args:
    raw: Names places; notes a label that lies far from all others.
    y: The labels before they were standardized, float64.
    scaled: The same as the model learns them, float32.
    parts: The rows of the training, the validation and the test part.
    positions: Whether every position has a label.

  Raises:
    LabError: Labels that are one number in a part, up to rounding, or that
      become one in float32 because another label lies too far out.
  """
  for name, rows in zip(('training', 'validation', 'test'), parts, strict=True):
    lengths = None if raw.lengths is None else raw.lengths[rows]
    exact, narrow = (padding.labels(values[rows], lengths, positions)
                     for values in (y, scaled))
    same = np.flatnonzero(_one_number(exact))
    if len(same):
      which = f', number {same[0]},' if exact.ndim > 1 else ''
      mend = '' if name == 'training' else f'; raise data.{name}'
      raise LabError(
          f'[data] the label{which} is one and the same number in the '
          f'{counted(len(rows), "example")} of the {name} part{mend}')
    if _one_number(narrow).any():
      raise LabError(
          f'{_farthest(raw, y, positions)[0]} lies so far from the others that '
          f'these are one number in float32, in the {name} part; mend it, '
          'leave it out, or predict the logarithm')
  place, far = _farthest(raw, y, positions)
  if far > 1000:
    raw.notes.append(f'{place} lies {far:.0f} times as far from the median as '
                     'half of the labels: an error?')


def _one_number(values: np.ndarray) -> np.ndarray:
  """Whether labels are one number, up to the rounding of their digits."""
  reach = 16 * np.spacing(abs(values).max(0))
  return np.atleast_1d(np.ptp(values, axis=0) <= reach)


def _farthest(raw: Raw, y: np.ndarray,
              positions: bool) -> tuple[str, float]:
  """The label that lies farthest out, and how far: in interquartile ranges."""
  y = y.copy()
  if positions and raw.lengths is not None:
    y[~padding.inside(raw.lengths, y.shape[1])] = np.nan
  low, middle, high = np.nanquantile(
      y.reshape(-1, *y.shape[1 + positions:]), (0.25, 0.5, 0.75), axis=0)
  # Where half of the labels are one number there is no such range.
  away = abs(y - middle)
  far = away / np.where(high > low, high - low, np.inf)
  reach = float(np.nanmax(far))
  place = np.unravel_index(np.nanargmax(far if reach else away), y.shape)
  return f'{raw.where(int(place[0]), None)}: the label {y[place]:g}', reach
