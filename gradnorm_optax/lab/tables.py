"""The user's own examples: a table or arrays, cleaned by stated rules."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.errors import LabError, nearest
from gradnorm_optax.lab.raw import Raw


def read(config: schema.Data) -> Raw:
  """Reads what `[data]` names: a table, arrays or the user's function."""
  if config.target is not None:
    from gradnorm_optax.lab import methods
    return _arrays(config, config.target, *_pair(
        config.target, methods.target(config.target)))
  path = pathlib.Path(config.path or '')
  if not path.exists():
    raise LabError(f'[data] path: {path} does not exist')
  readers: dict[str, Callable[[], Raw]] = {
      '.npz': lambda: _npz(config, path),
      '.csv': lambda: _table(config, path),
      '.parquet': lambda: _table(config, path)}
  if path.suffix not in readers:
    raise LabError(f'[data] path: {path}: unknown kind of file'
                   f'{nearest(path.suffix, readers)}')
  return readers[path.suffix]()


def _pair(name: str, function: Callable[[], Any]) -> tuple[Any, Any]:
  """Calls the user's function."""
  given = function()
  if not isinstance(given, tuple) or len(given) != 2:
    raise LabError(f'[data] target: {name!r} must return (inputs, classes), '
                   f'not {type(given).__name__}')
  return given


def _npz(config: schema.Data, path: pathlib.Path) -> Raw:
  """Reads arrays `x` and `y` (or the named ones) of a NumPy archive."""
  with np.load(path, allow_pickle=False) as archive:
    for name in (config.inputs, config.label):
      if name not in archive:
        raise LabError(f'{path}: no array {name!r}{nearest(name, archive)}')
    return _arrays(
        config, str(path), archive[config.inputs], archive[config.label])


def _arrays(config: schema.Data, name: str, x: Any, y: Any) -> Raw:
  """Checks arrays: one label for each example."""
  x, y = np.asarray(x), np.asarray(y)
  if len(x) != len(y):
    raise LabError(f'{name}: {len(x)} inputs, but {len(y)} labels')
  if x.dtype.kind not in 'fiub':
    raise LabError(f'{name}: inputs have dtype {x.dtype}, not numbers')
  if x.dtype.kind in 'iub' and x.ndim == 1:
    x = x[:, None]
  if x.dtype.kind != 'f' and not config.symbols:
    x = x.astype(np.float64)

  def where(example: int, entry: int | None) -> str:
    place = '' if entry is None else f', entry {entry}'
    return f'{name}: example {example}{place}'

  return Raw(name, x, y, [], where)


def _table(config: schema.Data, path: pathlib.Path) -> Raw:
  """Reads a CSV or Parquet file with one labelled row for each example."""
  frame = _frame(path)
  for name in (config.label, *config.ignore, *config.categorical):
    if name not in frame:
      raise LabError(f'{path}: no column {name!r}'
                     f'{nearest(name, map(str, frame.columns))}')
  labels = frame[config.label]
  bare = labels.isna().to_numpy()
  parts, names = [], []
  for name in frame.columns.drop([config.label, *config.ignore]):
    part, new = _column(config, path, frame[name])
    parts.append(part)
    names += new
  if not parts:
    raise LabError(f'{path}: no column is left besides {config.label!r}')
  y = labels.to_numpy()
  if y.dtype.kind not in 'fiub':
    y = labels.astype(object).where(~bare, None).to_numpy()

  def where(row: int, column: int | None) -> str:
    name = config.label if column is None else names[column]
    return f'{path}: row {row + 2}, column {name!r}'

  return Raw(str(path), np.concatenate(parts, 1), y, [], where, columns=names)


def _frame(path: pathlib.Path) -> Any:
  """The file as a pandas table, through Hugging Face's loaders."""
  try:
    import datasets
  except ImportError as error:
    raise LabError(f'{path}: reading tables needs the datasets package; run: '
                   'pip install "gradnorm_optax[data]"') from error
  import tempfile
  datasets.disable_progress_bars()
  make = (datasets.Dataset.from_csv if path.suffix == '.csv'
          else datasets.Dataset.from_parquet)
  with tempfile.TemporaryDirectory() as cache:
    try:
      return make(str(path), cache_dir=cache, keep_in_memory=True).to_pandas()
    except Exception as error:
      cause = error.__cause__ or error
      raise LabError(f'{path}: cannot read this table: '
                     f'{str(cause).splitlines()[0]}') from error


def _column(config: schema.Data, path: pathlib.Path,
            column: Any) -> tuple[np.ndarray, list[str]]:
  """One column as numbers: as it is, or one entry for each category."""
  if column.name in config.categorical:
    kinds = sorted(column.dropna().astype(str).unique())
    text = column.astype(str).to_numpy()
    hot = (text[:, None] == np.array(kinds)).astype(np.float64)
    hot[column.isna().to_numpy()] = np.nan
    return hot, [f'{column.name}={kind}' for kind in kinds]
  try:
    return column.to_numpy(np.float64, na_value=np.nan)[:, None], [column.name]
  except (TypeError, ValueError):
    number = _number_failures(column)
    raise LabError(
        f'{path}: row {number + 2}, column {column.name!r}: '
        f'{column.iloc[number]!r} is no number; name the column in '
        'data.categorical or in data.ignore') from None


def _number_failures(column: Any) -> int:
  """The position of the first entry that is no number."""
  for i, value in enumerate(column):
    try:
      float(value if value is not None else 'nan')
    except (TypeError, ValueError):
      return i
  return 0
