"""What was fitted on the training part, and how examples are prepared by it."""

from typing import NamedTuple

import numpy as np

from gradnorm_optax.lab.data.raw import Raw
from gradnorm_optax.lab.objective import padding


class Preprocessing(NamedTuple):
  """All that makes inputs of a model from examples: arrays and texts alone.

  Attributes:
    mean, scale: What is taken from each entry, and by what the rest is
      divided, float64; of pictures and padded sequences those of each channel.
      None of symbols.
    fill: What stands for a missing cell in each entry; None where a missing
      cell is an error, or its row is left out.
    columns: The names of a table's columns, in their order; of sequences in
      its cells, of each channel.
    names: Of columns of names, {column: those that become entries}.
    symbols: The alphabet of texts, in the order of their numbers.
    classes: The names of the classes, in the order of the outputs.
    label_mean, label_scale: The same of numbers to predict.
  """

  mean: np.ndarray | None = None
  scale: np.ndarray | None = None
  fill: np.ndarray | None = None
  columns: tuple[str, ...] | None = None
  names: dict[str, tuple[str, ...]] = {}
  symbols: tuple[str, ...] | None = None
  classes: tuple[str, ...] | None = None
  label_mean: np.ndarray | None = None
  label_scale: np.ndarray | None = None


def entries(found: Preprocessing, raw: Raw) -> tuple[np.ndarray, np.ndarray]:
  """Gives every known name an entry: 1 where it stands, NaN where none does.

  A name that is not known is 0 in all of them.

  Returns:
    The entries, (examples, entries), and the column of each.
  """
  parts, owner = [], []
  for i, name in enumerate(found.columns or ()):
    part = raw.x[:, i:i + 1]
    if name in found.names:
      place = {known: k for k, known in enumerate(found.names[name])}
      codes = np.array([place.get(kind, -1) for kind in (
          raw.kinds or {}).get(i, [])], int)
      known = np.isfinite(part[:, 0])
      hot = np.full((len(part), len(place)), np.nan)
      hot[known] = codes[part[known, 0].astype(int), None] == np.arange(
          len(place))
      part = hot
    parts.append(part)
    owner += [i] * part.shape[1]
  return np.concatenate(parts, 1), np.array(owner, int)


def flat(raw: Raw, x: np.ndarray) -> np.ndarray:
  """One row for each set of statistics: an example, a step or a pixel."""
  channels = x.ndim == 4 or raw.lengths is not None
  return x.reshape(-1, x.shape[-1]) if channels else x.reshape(len(x), -1)


def filled(found: Preprocessing, rows: np.ndarray) -> np.ndarray:
  """Rows whose missing cells are what `fill` says."""
  if found.fill is None or not (holes := np.isnan(rows)).any():
    return rows
  return np.where(holes, found.fill.astype(rows.dtype), rows)


def scaled(found: Preprocessing, raw: Raw, x: np.ndarray) -> np.ndarray:
  """Fills and standardizes; padding comes out as 0."""
  assert found.mean is not None and found.scale is not None  # no symbols
  rows = filled(found, flat(raw, x))
  rows = (rows - found.mean.astype(rows.dtype)) / found.scale.astype(rows.dtype)
  if raw.lengths is not None:
    rows[~padding.inside(raw.lengths, x.shape[1]).ravel()] = 0.0
  return rows.reshape(x.shape)


def pictures(found: Preprocessing, x: np.ndarray) -> np.ndarray:
  """Standardizes every channel; in float32 and in place, for they are many."""
  assert found.mean is not None and found.scale is not None
  done = x.astype(np.float32)
  done -= found.mean.astype(np.float32)
  done /= found.scale.astype(np.float32)
  return done
