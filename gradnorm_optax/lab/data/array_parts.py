"""Arrays that come in parts: training, validation and test one by one."""

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
  joined = _joined(names, parts)
  starts = np.cumsum([0, *(len(one[1]) for one in parts)])

  def place(example: int) -> str:
    which = int(np.searchsorted(starts, example, side='right')) - 1
    return f'{names[which]}: example {example - int(starts[which])}'

  x, y, *lengths = joined
  return arrays.checked(config, names[0], x, y,
                        lengths[0] if lengths else None, place)


def _joined(names: list[str], parts: list[tuple[Any, ...]]) -> tuple[Any, ...]:
  """Inputs and labels (and lengths) of several parts, one after another."""
  if len({len(one) for one in parts}) > 1:
    raise LabError(f'{names[0]}: some parts have lengths, others none; give '
                   'them all')
  columns = [[arrays.listed(name, which, values) for name, values in zip(
      names, held, strict=True)] for which, held in zip(
          ('inputs', 'labels', 'lengths'), zip(*parts, strict=True),
          strict=False)]
  if len(columns) == 3:  # padded to the longest
    steps = max(held.shape[1] for held in columns[0])
    columns[:2] = [[np.pad(
        values, [(0, 0), (0, steps - values.shape[1]), *(
            [(0, 0)] * (values.ndim - 2))]) if (
                values.ndim > 1 and values.shape[1] == x.shape[1]) else values
                    for values, x in zip(held, columns[0], strict=True)]
                   for held in columns[:2]]
  return tuple(_after(held) for held in columns)


def _after(parts: list[Any]) -> Any:
  """Arrays, or lists, one after another."""
  if all(isinstance(one, np.ndarray) for one in parts) and (
      len({one.shape[1:] for one in parts}) == 1):
    return np.concatenate(parts)
  return [value for one in parts for value in one]
