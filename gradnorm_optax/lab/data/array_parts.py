"""Arrays that come in parts: training, validation and test one by one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import arrays
from gradnorm_optax.lab.data.raw import Raw
from gradnorm_optax.lab.support.errors import LabError


def checked(config: schema.Data, names: list[str],
            parts: list[tuple[Any, ...]]) -> Raw:
  """Checks what each part gave, as one set.

  Args:
    config: Whether integers are symbols.
    names: Where each part comes from, for messages.
    parts: Inputs and labels, and lengths where sequences are padded.
  """
  if len(parts) == 1:
    return arrays.checked(config, names[0], *parts[0])
  for name, (x, y, *_) in zip(names, parts, strict=True):
    x, y = arrays.listed(name, 'inputs', x), arrays.listed(name, 'labels', y)
    if len(x) != len(y):
      raise LabError(f'{name}: {len(x)} inputs, but {len(y)} labels')
  starts = np.cumsum([0, *(len(one[1]) for one in parts)])

  def place(example: int) -> str:
    which = int(np.searchsorted(starts, example, side='right')) - 1
    return f'{names[which]}: example {example - int(starts[which])}'

  lengths = [one[2] for one in parts if len(one) > 2]
  if lengths and len(lengths) < len(parts):
    raise LabError(f'{names[0]}: some parts have lengths, others none; give '
                   'them all')
  pairs = [(one[0], one[1]) for one in parts]
  if lengths:
    steps = max(np.shape(x)[1] for x, _ in pairs)
    pairs = [_longer(x, y, steps) for x, y in pairs]
  return arrays.checked(
      config, names[0], _after(names, 'inputs', [x for x, _ in pairs]),
      _after(names, 'labels', [y for _, y in pairs]),
      np.concatenate(lengths) if lengths else None, place)


def _longer(x: np.ndarray, y: np.ndarray, steps: int
            ) -> tuple[np.ndarray, np.ndarray]:
  """Pads sequences, and labels of their positions, to so many steps."""
  own = np.shape(x)[1]

  def pad(values: np.ndarray) -> np.ndarray:
    if np.ndim(values) < 2 or np.shape(values)[1] != own:
      return values
    return np.pad(values, [(0, 0), (0, steps - own)] + [(0, 0)] * (
        np.ndim(values) - 2))

  return pad(x), pad(y)


def _after(names: list[str], which: str, parts: Sequence[Any]) -> Any:
  """Arrays, or lists, one after another."""
  parts = [arrays.listed(name, which, values)
           for name, values in zip(names, parts, strict=True)]
  if not all(isinstance(one, np.ndarray) and one.dtype != object
             for one in parts):
    return [value for one in parts for value in one]
  for name, one in zip(names, parts, strict=True):
    if one.shape[1:] != parts[0].shape[1:]:
      raise LabError(f'{name}: {which} of shape {one.shape}, those of '
                     f'{names[0]} have {parts[0].shape}')
  return np.concatenate(parts)
