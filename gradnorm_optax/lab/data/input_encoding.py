"""Names and numbers encoded, filled and standardized.

All by the training part alone.
"""

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import preprocessing
from gradnorm_optax.lab.data.preprocessing import Preprocessing
from gradnorm_optax.lab.data.raw import Raw, counted, few
from gradnorm_optax.lab.objective import padding
from gradnorm_optax.lab.support.errors import LabError


def numbers(raw: Raw, train: np.ndarray, config: schema.Data
            ) -> tuple[np.ndarray, Preprocessing]:
  """Fills missing cells, then standardizes every entry.

  Of pictures (height, width, channels) and of padded sequences every channel.
  A column of names becomes one entry for each name of the training part.

  Args:
    raw: Numbers, missing cells NaN.
    train: The rows of the training part; the others have no say.
    config: What `missing` cells are filled with.

  Returns:
    Float32, in the shape of the numbers but for names; padding 0. And what
    was fitted.

  Raises:
    LabError: A number so large that it would come out as infinite.
  """
  from sklearn.impute import SimpleImputer
  from sklearn.preprocessing import StandardScaler
  # Squares of larger ones overflow in the scaler.
  _check_size(raw, raw.x, {2: np.inf, 4: 1e18}.get(raw.x.dtype.itemsize, 1e150))
  named = raw.columns or raw.channels
  found = Preprocessing(columns=tuple(named) if named else None)
  x = raw.x
  if raw.kinds:
    found = found._replace(names=_names(raw, train))
    x, owner = preprocessing.entries(found, raw)
    where = raw.where
    raw = raw._replace(
        x=x, columns=[title for i, name in enumerate(raw.columns or ())
                      for title in _titles(found, name)],
        where=lambda row, entry: where(
            row, None if entry is None else int(owner[entry])))
  known = preprocessing.flat(raw, x)[_rows(raw, x, train)]
  if config.missing in ('mean', 'median'):
    imputer = SimpleImputer(
        strategy=config.missing, keep_empty_features=True).fit(known)
    found = found._replace(fill=np.nan_to_num(
        np.asarray(imputer.statistics_, np.float64)))
    known = preprocessing.filled(found, known)
  scaler = StandardScaler().fit(known)
  found = found._replace(mean=np.asarray(scaler.mean_, np.float64),
                         scale=np.asarray(scaler.scale_, np.float64))
  scaled = preprocessing.scaled(found, raw, x)
  if scaled.ndim == 2 and raw.image is None:
    _note_constant(raw, scaled, np.asarray(scaler.var_) == 0)
  _check_size(raw, scaled, 1e30)
  return scaled.astype(np.float32), found


def pictures(raw: Raw, train: np.ndarray) -> tuple[np.ndarray, Preprocessing]:
  """Standardizes every channel of whole numbers, and says by what."""
  known = raw.x[train].astype(np.float32)
  std = known.std((0, 1, 2), dtype=np.float64)
  found = Preprocessing(mean=known.mean((0, 1, 2), dtype=np.float64),
                        scale=np.where(std > 0, std, 1.0))
  return preprocessing.pictures(found, raw.x), found


def _rows(raw: Raw, x: np.ndarray, train: np.ndarray) -> np.ndarray:
  """Marks the flat rows of the training part that are no padding."""
  rows = np.zeros(len(x), bool)
  rows[train] = True
  if raw.lengths is not None:
    inside = padding.inside(raw.lengths, x.shape[1])
    return (inside & rows[:, None]).ravel()
  return np.repeat(rows, len(preprocessing.flat(raw, x)) // len(x))


def _names(raw: Raw, train: np.ndarray) -> dict[str, tuple[str, ...]]:
  """The names that the training part holds; tells of the others."""
  found, unseen, count = {}, [], 0
  for i, kinds in (raw.kinds or {}).items():
    name = (raw.columns or [])[i]
    cells = raw.x[:, i]
    of = cells[train]
    here = np.unique(of[np.isfinite(of)]).astype(int)
    rows = np.isfinite(cells) & ~np.isin(cells, here)
    if rows.any():
      count += int(rows.sum())
      unseen += [f'{name}={kinds[int(code)]}'
                 for code in np.unique(cells[rows])]
    found[name] = tuple(kinds[code] for code in here)
  if unseen:
    raw.notes.append(f'{counted(len(unseen), "name")} without a training '
                     f'example ({few(unseen)}), in {counted(count, "row")}')
  return found


def _titles(found: Preprocessing, name: str) -> list[str]:
  """The titles of a column's entries."""
  if name not in found.names:
    return [name]
  return [f'{name}={known}' for known in found.names[name]]


def _note_constant(raw: Raw, scaled: np.ndarray, constant: np.ndarray) -> None:
  """Tells of entries whose scale the training part does not know."""
  found = np.flatnonzero(constant)
  found = found[np.ptp(scaled[:, found], axis=0) > 0]
  if len(found):
    names = [str(raw.columns[i] if raw.columns else i) for i in found]
    raw.notes.append(f'{counted(len(found), "input")} of one value in the '
                     f'training part alone ({few(names)})')


def _check_size(raw: Raw, values: np.ndarray, most: float) -> None:
  """Refuses what would come out as infinite, and take its column with it."""
  if max(np.fmax.reduce(values, None), -np.fmin.reduce(values, None)) > most:
    large = np.abs(values).reshape(len(values), -1) > most
    row, entry = (int(i) for i in np.argwhere(large)[0])
    value = raw.x.reshape(len(values), -1)[row, entry]
    raise LabError(
        f'{raw.where(row, entry)}: {value:g} is too large to be standardized; '
        'if it stands for a missing cell, leave that empty')
