"""New tables: the columns of the training part, in any order."""

import pathlib

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import table_files, tables
from gradnorm_optax.lab.data.raw import counted, few
from gradnorm_optax.lab.data.stored import Stored
from gradnorm_optax.lab.data.table_files import TableFile
from gradnorm_optax.lab.serving.given import Given
from gradnorm_optax.lab.support.errors import LabError


def read(path: pathlib.Path, data: Stored, config: schema.Data) -> Given:
  """Reads a table file; its rows are called by the file's lines.

  Raises:
    LabError: The model was trained on no table, or on one of other columns.
  """
  columns = data.preprocessing and data.preprocessing.columns
  if not columns:
    raise LabError(
        f'{path}: the model was not trained on a table; give its inputs as '
        f'.npz, an array {config.inputs!r} of shape '
        f'({", ".join(map(str, ("n", *data.shape)))})')
  if path.suffix.lower() == '.csv' and data.sequences:
    raise LabError(f'{path}: the model was trained on sequences, which no .csv '
                   'holds; give a .parquet with a list in each cell')
  return framed(str(path), table_files.read(config, path), data, config)


def framed(name: str, read: TableFile, data: Stored,
           config: schema.Data) -> Given:
  """Takes a table's inputs, in the order of the training part's columns."""
  frame = read.frame
  columns = (data.preprocessing and data.preprocessing.columns) or ()
  beside = {*config.ignore, config.label, config.group, config.time}
  missing = [column for column in columns if column not in frame]
  more = [column for column in map(str, frame.columns)
          if column not in (*columns, *beside)]
  if missing or more:
    told = [f'lacks {few(list(map(repr, missing)))}'] * bool(missing) + [
        f'also has {few(list(map(repr, more)))}, which the training part had '
        'not'] * bool(more)
    raise LabError(f'{name}: the table {" and ".join(told)}; the model was '
                   f'trained on {few(list(map(repr, columns)))} '
                   f'({counted(len(columns), "column")})')
  inputs = config.model_copy(update={
      'ignore': (), 'group': None, 'time': None, 'label': '',
      # What is missing is looked at where the examples are prepared.
      'missing': 'median', 'unlabeled': 'drop', 'categorical': tuple(
          column for column in config.categorical if column in columns),
      'na_values': {column: values
                    for column, values in config.na_values.items()
                    if column in columns} if isinstance(
                        config.na_values, dict) else config.na_values})
  raw = tables.table(
      inputs, name, read._replace(frame=frame[list(columns)]),
      np.zeros(len(frame), np.int64))
  return Given(raw, 'row', read.numbers() if read.numbers else range(
      1, len(frame) + 1))
