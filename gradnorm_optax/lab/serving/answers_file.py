"""Predictions in a file."""

import io
import pathlib
from typing import Any

import numpy as np

from gradnorm_optax.lab.serving.loaded_run import LoadedRun
from gradnorm_optax.lab.serving.new_examples import Examples
from gradnorm_optax.lab.support import files
from gradnorm_optax.lab.support.errors import LabError


def frame(run: LoadedRun, examples: Examples) -> Any:
  """Answers in a pandas table: one row for each example, in their order.

  The index names them as messages do: `row` by the file's lines, `example` from
  0 on, `file` of a picture. Of classes the columns are `prediction` and
  `p(CLASS)` of each; of a number `prediction`, in its own unit. A row that
  cannot be answered is empty.
  """
  import pandas
  found = run.predict(examples.x, examples.lengths)
  if run.data.positions or found.ndim > 2:
    raise LabError('the model answers every position of a sequence, which no '
                   'table holds; write .npz')
  empty = ~examples.known
  if run.data.number:
    columns = {'prediction': found} if found.ndim == 1 else {
        f'prediction {i}': found[:, i] for i in range(found.shape[1])}
    shown = pandas.DataFrame({
        name: np.where(empty, np.nan, values)
        for name, values in columns.items()})
  else:
    names = _classes(run, found.shape[1])
    best = np.asarray(names, object)[found.argmax(1)]
    shown = pandas.DataFrame({
        'prediction': np.where(empty, '', best),
        **{f'p({name})': np.where(empty, np.nan, found[:, i])
           for i, name in enumerate(names)}})
  shown.index = pandas.Index(list(examples.names), name=examples.title)
  return shown


def write(path: pathlib.Path, run: LoadedRun, examples: Examples) -> None:
  """Writes .csv, .parquet or .npz, whole or not at all."""
  kind = path.suffix.lower()
  buffer = io.BytesIO()
  if kind == '.npz':
    np.savez(buffer, answers=run.predict(examples.x, examples.lengths),
             known=examples.known, names=np.asarray(examples.names))
  elif kind == '.csv':
    frame(run, examples).to_csv(buffer)
  elif kind == '.parquet':
    frame(run, examples).reset_index().to_parquet(buffer)
  else:
    raise LabError(f'{path}: write .csv, .parquet or .npz')
  files.write(path, buffer.getvalue())


def _classes(run: LoadedRun, count: int) -> tuple[str, ...]:
  fitted = run.data.preprocessing
  named = fitted.classes if fitted is not None else None
  return named if named and len(named) == count else tuple(
      map(str, range(count)))
