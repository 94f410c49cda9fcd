"""The user's own examples: a table or arrays, cleaned by stated rules."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.errors import LabError, nearest


class Raw(NamedTuple):
  """Examples before they are divided.

  Attributes:
    x: Inputs; float, missing cells NaN; or integer symbols.
    y: Classes, 0 to n - 1.
    notes: What was done to the data, in words, with counts.
  """

  x: np.ndarray
  y: np.ndarray
  notes: list[str]


def read(config: schema.Data) -> Raw:
  """Reads what `[data]` names: a table, arrays or the user's function."""
  if config.target is not None:
    from gradnorm_optax.lab import methods
    return _arrays(config, *_pair(config.target, methods.target(
        config.target)))
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
    return _arrays(config, archive[config.inputs], archive[config.label])


def _arrays(config: schema.Data, x: Any, y: Any) -> Raw:
  """Checks arrays: one class for each example."""
  x, y = np.asarray(x), np.asarray(y)
  if len(x) != len(y):
    raise LabError(f'[data] {len(x)} inputs, but {len(y)} classes')
  if x.dtype.kind not in 'fiub':
    raise LabError(f'[data] inputs have dtype {x.dtype}, not numbers')
  if x.dtype.kind in 'iub' and x.ndim == 1:
    x = x[:, None]
  codes, notes = _codes(y)
  if x.dtype.kind != 'f' and not config.symbols:
    x = x.astype(np.float64)
  return _clean(config, Raw(x, codes, notes), lambda row, column: (
      f'[data] example {row}, entry {column}'))


def _codes(y: np.ndarray) -> tuple[np.ndarray, list[str]]:
  """Numbers the classes and says how evenly they are spread."""
  names, codes, counts = np.unique(
      y, return_inverse=True, return_counts=True)
  if len(names) > 1000 or len(names) < 2:
    raise LabError(f'[data] the label has {len(names)} different values; '
                   'a classification needs 2 to 1000')
  few = names[counts.argmin()]
  if counts.min() < 3:
    raise LabError(f'[data] class {few!s} has {counts.min()} examples: too '
                   'few for training, validation and test')
  shares = 100 * counts / counts.sum()
  note = (f'{len(names)} classes, the rarest ({few!s}) {shares.min():.1f}%, '
          f'the commonest {shares.max():.1f}%')
  return codes.reshape(y.shape).astype(np.int32), [note]


def _table(config: schema.Data, path: pathlib.Path) -> Raw:
  """Reads a CSV or Parquet file with one labelled row for each example."""
  frame = _frame(path)
  notes: list[str] = []
  for name in (config.label, *config.ignore, *config.categorical):
    if name not in frame:
      raise LabError(f'{path}: no column {name!r}'
                     f'{nearest(name, map(str, frame.columns))}')
  labels = frame[config.label]
  bare = labels.isna().to_numpy()
  if bare.any() and config.unlabeled == 'error':
    raise LabError(f'{path}: row {_line(bare)}, column {config.label!r}: no '
                   f'label ({bare.sum()} such rows); set data.unlabeled = '
                   '"drop" to leave them out')
  if bare.any():
    notes.append(f'{bare.sum()} unlabeled rows left out')
    frame, labels = frame[~bare], labels[~bare]
  lines = np.flatnonzero(~bare)
  parts, names = [], []
  for name in frame.columns.drop([config.label, *config.ignore]):
    part, new = _column(config, path, frame[name], lines)
    parts.append(part)
    names += new
  if not parts:
    raise LabError(f'{path}: no column is left besides {config.label!r}')
  codes, more = _codes(labels.to_numpy().astype(str))
  return _clean(
      config, Raw(np.concatenate(parts, 1), codes, notes + more),
      lambda row, column: (f'{path}: row {lines[row] + 2}, column '
                           f'{names[column]!r}'), names)


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


def _column(config: schema.Data, path: pathlib.Path, column: Any,
            lines: np.ndarray) -> tuple[np.ndarray, list[str]]:
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
        f'{path}: row {lines[number] + 2}, column {column.name!r}: '
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


def _line(mask: np.ndarray) -> int:
  """The line of the file that holds the first marked row."""
  return int(np.flatnonzero(mask)[0]) + 2


def _clean(config: schema.Data, raw: Raw, where: Callable[[int, int], str],
           names: list[str] | None = None) -> Raw:
  """Applies the rule for missing cells; 'mean' and 'median' wait."""
  x, y, notes = raw
  if x.dtype.kind != 'f':
    return raw
  flat = x.reshape(len(x), -1)
  bad = ~np.isfinite(flat)
  if bad.any() and config.missing == 'error':
    row, column = np.argwhere(bad)[0]
    raise LabError(
        f'{where(row, column)}: missing or not finite ({bad.sum()} such '
        'cells); set data.missing = "drop", "mean" or "median"')
  if bad.any() and config.missing == 'drop':
    keep = ~bad.any(1)
    notes.append(f'{(~keep).sum()} of {len(keep)} rows with missing cells '
                 'left out')
    x, y, flat = x[keep], y[keep], flat[keep]
  elif bad.any():
    notes.append(f'{bad.sum()} missing cells filled with the {config.missing} '
                 'of the training part')
    x = np.where(bad.reshape(x.shape), np.nan, x)
  spread = [np.ptp(column[np.isfinite(column)]) if np.isfinite(column).any()
            else 0 for column in flat.T] if names else []
  still = [str(names[i]) for i, width in enumerate(spread)
           if not width] if names else []
  if still:
    notes.append(f'constant columns, which teach nothing: {", ".join(still)}')
  return Raw(x, y, notes)
