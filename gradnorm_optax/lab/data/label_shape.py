"""One label of an example, several numbers, or one at each position."""

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.raw import Raw
from gradnorm_optax.lab.objective import padding
from gradnorm_optax.lab.support.errors import LabError


def read(raw: Raw, config: schema.Data) -> tuple[Raw, bool]:
  """Says whether every position has a label; (n, 1) becomes (n,).

  Raises:
    LabError: Labels of another shape (one-hot ones are told apart), or of one
      that can be read in two ways where `data.labels_per` says neither.
  """
  _check_lists(raw)
  x, y, per = raw.x, raw.y, config.labels_per
  number = config.predict == 'number'
  if per != 'example' and (found := _pixels(raw, number)) is not None:
    return found, True
  sequence = raw.lengths is not None or x.ndim == 3 or (
      x.ndim == 2 and x.dtype.kind != 'f')
  # Columns that have names are no steps.
  steps = raw.columns is None and y.ndim > 1 and x.ndim in (2, 3) and (
      y.shape[1] == x.shape[1])
  if y.ndim == 2 and y.shape[1] == 1 and not (
      steps and (per == 'position' or sequence and per is None)):
    raw.notes.append(f'labels of shape {y.shape} taken as ({len(y)},)')
    raw, y = raw._replace(y=y[:, 0]), y[:, 0]
  hot = not number and _one_hot(y)
  if steps and y.ndim == 2 and not hot and per is None and _open(
      raw, number, sequence):
    mend = '' if number else ', or give one class for each example, y[:, 0]'
    raise LabError(
        f'{raw.name}: labels of shape {y.shape} beside inputs of shape '
        f'{x.shape}: {y.shape[1]} labels of an example, or one for each of its '
        f'{y.shape[1]} positions? Set data.labels_per = "position"'
        + (' or "example"' if number else mend))
  each = steps and y.ndim in (2, 3) and (
      per == 'position' or sequence and per is None)
  if number:
    positions = each or (y.ndim == 3 and steps and per is None)
    fits = positions or (y.ndim < 3 and per != 'position')
  else:
    positions = each and y.ndim == 2
    fits = positions or (y.ndim == 1 and per != 'position')
  if fits:
    return raw, positions
  raise _misshaped(raw, config, sequence, hot)


def _pixels(raw: Raw, number: bool) -> Raw | None:
  """Labels of every pixel of pictures, one row of them for each; else None."""
  x, y = raw.x, raw.y
  if x.ndim != 4 or y.ndim not in (3, 4) or y.shape[1:3] != x.shape[1:3]:
    return None
  if y.ndim == 4 and y.shape[3] == 1:
    y = y[..., 0]
  if y.ndim == 4 and not number:
    return None  # one-hot, or a mistake
  raw.notes.append(f'a label for each of {x.shape[1]}x{x.shape[2]} pixels')
  return raw._replace(y=y.reshape(len(y), -1, *y.shape[3:]))


def _check_lists(raw: Raw) -> None:
  """Refuses labels of which some are lists and some are not."""
  y = raw.y
  if y.dtype.kind != 'O' or y.ndim != 1:
    return
  lists = [isinstance(value, np.ndarray | list | tuple) for value in y]
  bare = [any(lists) and absent(value) for value in y]
  if any(bare):
    raise LabError(f'{raw.where(bare.index(True), None)}: no labels, where '
                   'others have one for each step; leave the example out')
  if any(lists):
    i = lists.index(True)
    raise LabError(f'{raw.where(i, None)}: a label of several values, '
                   f'{type(y[i]).__name__}; give one for each example')


def _open(raw: Raw, number: bool, sequence: bool) -> bool:
  """Whether as many labels as there are steps may be either."""
  if not sequence:
    return True  # rows of a table, or sequences of one channel
  if not number:
    return False  # an example has one class
  if raw.lengths is None or raw.lengths.min() == raw.y.shape[1]:
    return True
  # Behind the end of a sequence there is nothing but padding, if they are its.
  behind = raw.y[~padding.inside(raw.lengths, raw.y.shape[1])]
  return any(value != behind[0] and value == value for value in behind)


def _misshaped(raw: Raw, config: schema.Data, sequence: bool,
               hot: bool) -> LabError:
  """What is wrong with the shape, and how to mend it."""
  x, y, per = raw.x, raw.y, config.labels_per
  number = config.predict == 'number'
  wanted, each, mend = [], [], ''
  if per != 'position':
    wanted += [f'({len(y)},)', *[f'({len(y)}, k)'] * number]
    each.append('each example')
  if per == 'position' or sequence and per is None:
    wanted.append(f'({len(y)}, {x.shape[1]})')
    each.append(f'each of the {x.shape[1]} steps')
  if hot:
    mend = '; they are one-hot: give labels.argmax(-1)'
  elif per is not None:
    mend = f' (data.labels_per = "{per}")'
  elif not number and y.ndim == 2 and y.dtype.kind in 'fiu':
    mend = ('; set data.predict = "number" to predict '
            f'{y.shape[1]} numbers')
  what = 'number (or k)' if number else 'class'
  return LabError(f'{raw.name}: labels have shape {y.shape}, not '
                  f'{" or ".join(wanted)}: one {what} for '
                  f'{" or ".join(each)}{mend}')


def _one_hot(y: np.ndarray) -> bool:
  """Whether every label is a row with a single 1."""
  if y.ndim < 2 or y.dtype.kind not in 'fiub':
    return False
  sums = (y == 1).sum(-1)  # 0 in padding
  return bool(((y == 0) | (y == 1)).all() and sums.max() == 1)


def absent(value: object) -> bool:
  """Whether it stands for no label: None, NaN, pandas' NA, no text."""
  if value is None or (isinstance(value, str | bytes) and not value):
    return True
  try:
    return bool(value != value)
  except (TypeError, ValueError):  # NA is neither; of arrays there are several
    return not isinstance(value, np.ndarray)
