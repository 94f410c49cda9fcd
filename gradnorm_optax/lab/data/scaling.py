"""Numbers filled and standardized, by the training part alone."""

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.raw import Raw, counted
from gradnorm_optax.lab.objective import padding
from gradnorm_optax.lab.support.errors import LabError


def numbers(raw: Raw, train: np.ndarray, config: schema.Data) -> np.ndarray:
  """Fills missing cells, then standardizes every entry.

  Of pictures (height, width, channels) and of padded sequences every channel.

  Args:
    raw: Numbers, missing cells NaN.
    train: The rows of the training part; the others have no say.
    config: What `missing` cells are filled with.

  Returns:
    Float32, in the shape of the numbers; padding 0.

  Raises:
    LabError: A number so large that it would come out as infinite.
  """
  from sklearn.impute import SimpleImputer
  from sklearn.preprocessing import StandardScaler
  x = raw.x
  # Squares of larger ones overflow in the scaler.
  _check_size(raw, x, {2: np.inf, 4: 1e18}.get(x.dtype.itemsize, 1e150))
  channels = x.ndim == 4 or raw.lengths is not None
  flat = x.reshape(-1, x.shape[-1]) if channels else x.reshape(len(x), -1)
  rows = np.zeros(len(x), bool)
  rows[train] = True
  if raw.lengths is not None:  # padding has no part in the statistics
    valid = padding.inside(raw.lengths, x.shape[1])
    rows = (valid & rows[:, None]).ravel()
  elif channels:
    rows = np.repeat(rows, len(flat) // len(x))
  known = flat[rows]
  if np.isnan(flat).any():
    imputer = SimpleImputer(
        strategy='median' if config.missing == 'median' else 'mean',
        keep_empty_features=True).fit(known)
    flat, known = imputer.transform(flat), imputer.transform(known)
  scaler = StandardScaler().fit(known)
  scaled = scaler.transform(flat)
  if not channels and raw.image is None:
    _note_constant(raw, scaled, np.asarray(scaler.var_) == 0)
  if raw.lengths is not None:
    scaled[~valid.ravel()] = 0.0
  scaled = scaled.reshape(x.shape)
  _check_size(raw, scaled, 1e30)
  return scaled.astype(np.float32)


def _note_constant(raw: Raw, scaled: np.ndarray, constant: np.ndarray) -> None:
  """Tells of entries whose scale the training part does not know."""
  found = np.flatnonzero(constant)
  found = found[np.ptp(scaled[:, found], axis=0) > 0]
  if len(found):
    names = [str(raw.columns[i] if raw.columns else i) for i in found[:3]]
    if len(found) > 3:
      names.append('...')
    raw.notes.append(f'{counted(len(found), "input")} of one value in the '
                     f'training part alone ({", ".join(names)})')


def _check_size(raw: Raw, values: np.ndarray, most: float) -> None:
  """Refuses what would come out as infinite, and take its column with it."""
  if max(np.fmax.reduce(values, None), -np.fmin.reduce(values, None)) > most:
    large = np.abs(values).reshape(len(values), -1) > most
    row, entry = (int(i) for i in np.argwhere(large)[0])
    value = raw.x.reshape(len(values), -1)[row, entry]
    raise LabError(
        f'{raw.where(row, entry)}: {value:g} is too large to be standardized; '
        'if it stands for a missing cell, leave that empty')


def pictures(x: np.ndarray, train: np.ndarray) -> np.ndarray:
  """Standardizes every channel; in float32, for pictures are many."""
  scaled = x.astype(np.float32)
  known = scaled[train]
  mean = known.mean((0, 1, 2), dtype=np.float64).astype(np.float32)
  std = known.std((0, 1, 2), dtype=np.float64).astype(np.float32)
  scaled -= mean
  scaled /= np.where(std > 0, std, np.float32(1))
  return scaled
