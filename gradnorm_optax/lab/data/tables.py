"""Tables: one labelled example in each row."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import (
  number_cells,
  table_columns,
  table_files,
  table_sequences,
)
from gradnorm_optax.lab.data.raw import Raw, counted, few
from gradnorm_optax.lab.data.table_faults import Fault, refuse
from gradnorm_optax.lab.support.errors import LabError, nearest


def table(config: schema.Data, name: str, read: table_files.TableFile,
          y: Any = None) -> Raw:
  """Makes one labelled example of each row.

  Args:
    config: Which columns are what.
    name: The table's, for messages.
    read: The table.
    y: The labels where they are no column of the table.

  Raises:
    LabError: All that is wrong with the table, with a mend for each.
  """
  frame, place = read.frame, read.place
  faults: list[Fault] = []
  inputs = _names(config, name, frame, y is None, faults)
  listed = [c for c in inputs if table_sequences.holds_sequences(frame[c])]
  numeric = [column for column in inputs if column not in config.categorical]
  decimal = _decimal(config, read, [] if listed else numeric, faults)
  group = time = None
  if config.group in frame:
    group = _kept(table_columns.groups(frame[config.group], place), faults)
  if config.time in frame:
    time = _kept(table_columns.times(frame[config.time], decimal, place),
                 faults)
  bare = np.zeros(len(frame), bool)
  if y is None:
    y, bare = _labels(config, frame[config.label], decimal, place, faults)
  if listed:
    refuse(name, faults)
    raw = table_sequences.read(config, name, read, inputs, listed, y)
    return raw._replace(group=group, time=time)
  if config.symbols:
    raise LabError(f'{name}: data.symbols is for sequences, and '
                   f'{inputs[0]!r} holds single values; name such columns in '
                   'data.categorical')
  x, kinds = _inputs(config, frame[inputs], decimal, place, bare, faults)
  refuse(name, faults)
  codes = [repr(column) for column in numeric
           if table_columns.has_codes(frame[column])]
  notes = [f'numbers that begin with 0 in {few(codes)}; are they names? '
           '(data.categorical)'] if codes else []

  def where(row: int, column: int | None) -> str:
    shown = config.label if column is None else inputs[column]
    return f'{place(row)}, column {shown!r}'

  return Raw(name, x, y, [*read.notes, *notes], where,
             columns=list(map(str, inputs)), kinds=kinds, group=group,
             time=time)


def _names(config: schema.Data, name: str, frame: Any, labelled: bool,
           faults: list[Fault]) -> list[Any]:
  """The columns that are inputs; refuses names that the table has not."""
  own = (config.label,) if labelled else ()
  beside = [column for column in (config.group, config.time) if column]
  cleaned = config.na_values if isinstance(config.na_values, dict) else ()
  said = {  # where each name comes from
      'label': own, 'group': (config.group,), 'time': (config.time,),
      'ignore': config.ignore, 'categorical': config.categorical,
      'na_values': cleaned}
  faults += [
      Fault(f'data.{key}: no column {column!r}'
            f'{nearest(column, map(str, frame.columns))}')
      for key, columns in said.items() for column in dict.fromkeys(columns)
      if column and column not in frame]
  if labelled and config.label not in frame:
    refuse(name, faults)  # its column would be taken for an input
  inputs = [column for column in frame.columns
            if column not in (*own, *beside, *config.ignore)]
  if not inputs:
    raise LabError(f'{name}: no column is left besides {config.label!r}')
  for column in inputs:
    if inputs.count(column) > 1:
      raise LabError(f'{name}: several columns are called {column!r}; rename '
                     'them')
  return inputs


def _decimal(config: schema.Data, read: table_files.TableFile,
             columns: list[Any], faults: list[Fault]) -> str:
  """The decimal sign of the cells that are texts."""
  if config.decimal is not None:
    return config.decimal
  if config.predict == 'number' and config.label in read.frame:
    columns = [*columns, config.label]
  texts = [read.frame[column] for column in columns
           if read.frame[column].dtype == object
           or table_columns.is_text(read.frame[column])]
  decimal, either = number_cells.notation(texts, read.semicolons)
  if decimal == ',':
    read.notes.append('numbers with decimal commas')
  for column, example in (either or {}).items():
    faults.append(Fault(
        f'column {column!r}: {example!r} may have a decimal sign or one of '
        'thousands; say which sign is the decimal one, data.decimal = "." or '
        '","'))
  return decimal


def _kept(found: np.ndarray | Fault, faults: list[Fault]
          ) -> np.ndarray | None:
  """The values, or one fault more."""
  if not isinstance(found, Fault):
    return found
  faults.append(found)
  return None


def _labels(config: schema.Data, column: Any, decimal: str,
            place: Callable[[int], str], faults: list[Fault]
            ) -> tuple[np.ndarray, np.ndarray]:
  """The labels as they are given, and which are missing.

  Texts that are numbers come as numbers.
  """
  y = column.to_numpy()
  if y.dtype.kind not in 'fiub':
    y = column.astype(object).where(~column.isna(), None).to_numpy()
    if table_columns.is_text(column):
      y = _typed(config, column, y, decimal)
  bare = np.zeros(len(y), bool)
  if y.dtype.kind == 'f':
    bare = ~np.isfinite(y)
  elif y.dtype.kind == 'O' and not table_sequences.holds_sequences(column):
    bare = np.array([one is None or one == '' for one in y], bool)
  if config.unlabeled == 'error' and bare.any():
    infinite = y.dtype.kind == 'f' and np.isinf(y[bare]).any()
    faults.append(Fault(
        f'{place(int(bare.argmax()))}, column {column.name!r}: no '
        f'{"finite " if infinite else ""}label '
        f'({counted(int(bare.sum()), "such row")}); set data.unlabeled = '
        '"drop" to leave out what has none'
        + ('; if NA or None is a class, data.keep_default_na = false'
           if table_columns.is_text(column) and config.keep_default_na else ''),
        {'unlabeled': 'drop'}))
  return y, bare


def _typed(config: schema.Data, column: Any, y: np.ndarray,
           decimal: str) -> np.ndarray:
  """Labels of a CSV file: whole numbers, numbers, or texts."""
  values, bad = number_cells.values(column, decimal)
  known = column.notna().to_numpy(bool)
  truth = known.any() and not number_cells.are_numbers(column, decimal).any()
  if bad.any() or not known.any() or (truth and config.predict == 'class'):
    return y
  if config.predict == 'number':
    if (abs(values[known]) >= 2 ** 53).any():
      with contextlib.suppress(ValueError):  # whole: all their digits
        return np.array([cell if cell is None else int(cell) for cell in y],
                        object)
    return values
  if (abs(values[known]) >= 2 ** 53).any():
    return y  # as decimals they would lose their last digits
  whole = known.all() and (values == np.round(values)).all()
  return values.astype(np.int64) if whole else values


def _emptied(config: schema.Data, column: Any,
             values: np.ndarray) -> np.ndarray:
  """Numbers without those that stand for an empty cell, however written."""
  given = config.na_values
  spelled = given.get(column, ()) if isinstance(given, dict) else given
  codes = []
  for text in spelled:
    with contextlib.suppress(ValueError):
      codes.append(float(text))
  return np.where(np.isin(values, codes), np.nan, values) if codes else values


def _inputs(config: schema.Data, frame: Any, decimal: str,
            place: Callable[[int], str], bare: np.ndarray, faults: list[Fault]
            ) -> tuple[np.ndarray, dict[int, list[str]]]:
  """The inputs as numbers, and what those of names stand for.

  Args:
    config: Which columns hold names; whether missing cells are an error.
    frame: The inputs' columns.
    decimal: The decimal sign of texts.
    place: What messages call a row.
    bare: The rows without a label, in which nothing need be known.
    faults: What is wrong is added to these.
  """
  x, kinds = np.full(frame.shape, np.nan), {}
  for i, column in enumerate(frame.columns):
    found: Any
    if column in config.categorical:
      found = table_columns.names(frame[column])
      if not isinstance(found, Fault):
        found, kinds[i] = found
    else:
      found = table_columns.numbers(frame[column], decimal, place)
    if isinstance(found, Fault):
      faults.append(found)
      continue
    if column not in config.categorical:
      found = _emptied(config, column, found)
    x[:, i] = found
    bad = ~np.isfinite(found) & ~bare
    if config.missing == 'error' and bad.any():
      faults.append(Fault(
          f'{place(int(bad.argmax()))}, column {column!r}: missing or not '
          f'finite ({counted(int(bad.sum()), "such cell")}); set data.missing '
          '= "drop", "mean" or "median"', {'missing': 'median'}))
  if config.missing == 'error':  # what is to be empty will be missing
    faults[:] = [
        fault._replace(text=f'{fault.text}; then set data.missing, too',
                       mend={**fault.mend, 'missing': 'median'})
        if 'na_values' in fault.mend else fault for fault in faults]
  return x, {i: names for i, names in kinds.items() if names}
