"""Names and numbers encoded, filled and standardized.

All by the training part alone.
"""

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.raw import Raw, counted
from gradnorm_optax.lab.objective import padding
from gradnorm_optax.lab.support.errors import LabError


def numbers(raw: Raw, train: np.ndarray, config: schema.Data) -> np.ndarray:
  """Fills missing cells, then standardizes every entry.

  Of pictures (height, width, channels) and of padded sequences every channel.
  A column of names becomes one entry for each name of the training part.

  Args:
    raw: Numbers, missing cells NaN.
    train: The rows of the training part; the others have no say.
    config: What `missing` cells are filled with.

  Returns:
    Float32, in the shape of the numbers but for names; padding 0.

  Raises:
    LabError: A number so large that it would come out as infinite.
  """
  from sklearn.impute import SimpleImputer
  from sklearn.preprocessing import StandardScaler
  x = raw.x
  # Squares of larger ones overflow in the scaler.
  _check_size(raw, x, {2: np.inf, 4: 1e18}.get(x.dtype.itemsize, 1e150))
  if raw.kinds:
    raw = _encoded(raw, train)
    x = raw.x
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


def _encoded(raw: Raw, train: np.ndarray) -> Raw:
  """Gives every name an entry: 1 where it stands, NaN where none does.

  A name that the training part does not hold is 0 in all of them.
  """
  from sklearn.preprocessing import OneHotEncoder
  parts: list[np.ndarray] = []
  columns: list[str] = []
  owner: list[int] = []
  unseen: list[str] = []
  for i, name in enumerate(raw.columns or ()):
    part, titles = raw.x[:, i:i + 1], [name]
    known = np.isfinite(part[:, 0])
    rows = train[known[train]]
    if raw.kinds and i in raw.kinds and len(rows):
      encoder = OneHotEncoder(
          handle_unknown='ignore', sparse_output=False).fit(part[rows])
      here = encoder.categories_[0].astype(int)
      unseen += [f'{name}={raw.kinds[i][code]}' for code in np.setdiff1d(
          part[known].astype(int), here)]
      titles = [f'{name}={raw.kinds[i][code]}' for code in here]
      hot = np.full((len(part), len(here)), np.nan)
      hot[known] = encoder.transform(part[known])
      part = hot
    parts.append(part)
    columns += titles
    owner += [i] * len(titles)
  if unseen:
    raw.notes.append(f'{counted(len(unseen), "name")} without a training '
                     f'example ({_few(unseen)})')
  where = raw.where
  return raw._replace(
      x=np.concatenate(parts, 1), columns=columns, where=lambda row, entry:
      where(row, None if entry is None else owner[entry]))


def _few(names: list[str]) -> str:
  """The first three of several names."""
  return ', '.join([*names[:3], *(['...'] if len(names) > 3 else [])])


def _note_constant(raw: Raw, scaled: np.ndarray, constant: np.ndarray) -> None:
  """Tells of entries whose scale the training part does not know."""
  found = np.flatnonzero(constant)
  found = found[np.ptp(scaled[:, found], axis=0) > 0]
  if len(found):
    names = [str(raw.columns[i] if raw.columns else i) for i in found]
    raw.notes.append(f'{counted(len(found), "input")} of one value in the '
                     f'training part alone ({_few(names)})')


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
