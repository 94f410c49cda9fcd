"""Tables whose cells hold sequences: every column is a channel."""

from typing import Any

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import arrays
from gradnorm_optax.lab.data.raw import Raw
from gradnorm_optax.lab.data.table_files import TableFile
from gradnorm_optax.lab.support.errors import LabError


def holds_sequences(column: Any) -> bool:
  """Whether the cells of a column are sequences."""
  known = column.dropna()
  return len(known) > 0 and isinstance(known.iloc[0], np.ndarray | list)


def read(config: schema.Data, name: str, found: TableFile, inputs: list[str],
         listed: list[str], y: np.ndarray) -> Raw:
  """Makes one padded sequence of each row.

  Args:
    config: Whether integers are symbols.
    name: The table's, for messages.
    found: The table.
    inputs: Its columns that are inputs.
    listed: Those of them that hold sequences; there must be no others.
    y: The labels.
  """
  frame, place = found.frame, found.place
  plain = [column for column in inputs if column not in listed]
  if plain:
    raise LabError(f'{name}: column {listed[0]!r} holds sequences and '
                   f'{plain[0]!r} single values; name the ones to leave out '
                   'in data.ignore')

  def where(row: int, entry: int | None) -> str:
    shown = config.label if entry is None else listed[entry % len(listed)]
    return f'{place(row)}, column {shown!r}'

  rows: list[Any] = []
  for i, cells in enumerate(zip(*(frame[c] for c in listed), strict=True)):
    empty = [c for c, cell in zip(listed, cells, strict=True)
             if cell is None or not np.ndim(cell)]
    if empty:
      raise LabError(f'{place(i)}, column {empty[0]!r}: no sequence; leave '
                     'the row out of the table')
    if len({len(cell) for cell in cells}) > 1:
      raise LabError(f'{place(i)}: the columns '
                     f'{", ".join(map(repr, listed))} differ in length')
    one = [np.stack([np.asarray(v) for v in cell]) if np.ndim(cell[0]) else (
        np.asarray(cell)) for cell in cells if len(cell)]
    rows.append(one[0] if len(one) == 1 else np.stack(one, -1) if one else [])
  raw = arrays.padded(config, name, rows, y, where, place)
  raw.notes[:0] = found.notes
  return raw._replace(channels=list(map(str, listed)))
