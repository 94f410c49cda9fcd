"""New examples, without labels, prepared as those of the training part were."""

import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import picture_folders, preprocessing
from gradnorm_optax.lab.data.preprocessing import Preprocessing
from gradnorm_optax.lab.data.raw import Raw, counted, few
from gradnorm_optax.lab.data.stored import Stored
from gradnorm_optax.lab.objective import padding
from gradnorm_optax.lab.serving import new_arrays, new_pictures, new_tables
from gradnorm_optax.lab.serving.given import Given
from gradnorm_optax.lab.support.errors import LabError, nearest

KINDS = ('.csv', '.parquet', '.npz', '.npy', '.txt')


class Examples(NamedTuple):
  """Examples that a model can be asked about.

  Attributes:
    x: Prepared inputs.
    lengths: Of sequences of unequal length, or None.
    known: Which examples lack nothing; the others are answered with nothing.
    title: What they are: 'row', 'example' or 'file'.
    names: What messages call each: its line, its number, its path.
    notes: What was filled or is unknown, in words, with counts.
  """

  x: np.ndarray
  lengths: np.ndarray | None
  known: np.ndarray
  title: str
  names: Sequence[Any]
  notes: list[str]


def read(path: pathlib.Path, data: Stored, config: schema.Data) -> Examples:
  """Reads new examples as the training part was read.

  Args:
    path: A `.csv` or `.parquet` table with the columns of the training part
      (those that were left out, and the label, may be there or not); an `.npz`
      with its inputs (and `lengths`), or an `.npy` of inputs; a picture, or a
      folder of them; a `.txt` of texts, one on a line; `module:function`,
      which returns what the training part's does.
    data: What the model knows of its data.
    config: How they were read.

  Raises:
    LabError: Another kind of file, other columns or sizes, or a missing cell
      where the training part had none.
  """
  fitted = data.preprocessing
  if fitted is None or config.source == 'text':
    what = ('to continue a text' if config.source == 'text'
            else 'on generated examples')
    raise LabError(
        f'{path}: the model was trained {what} (data.source = '
        f'"{config.source}"), which no file is prepared like; from Python, '
        'lab.load_run(RUN).predict(x) answers x of shape '
        f'({", ".join(map(str, ("n", *data.shape)))}), {data.dtype}')
  return _prepared(_given(path, data, config), data, fitted, config)


def _given(path: pathlib.Path, data: Stored, config: schema.Data) -> Given:
  """Reads whatever it is."""
  kind = path.suffix.lower()
  if not path.exists():
    if re.fullmatch(r'\w+(\.\w+)*:\w+', str(path)):
      return new_arrays.called(str(path), data, config)
    raise LabError(f'{path}: does not exist')
  if path.is_dir() or (
      kind not in KINDS and picture_folders.is_picture(path)):
    return new_pictures.read(path, data, config)
  if kind in ('.csv', '.parquet'):
    return new_tables.read(path, data, config)
  if kind == '.txt':
    return new_arrays.texts(path, data, config)
  if kind not in KINDS:
    raise LabError(f'{path}: unknown kind of file{nearest(kind, KINDS)}, or a '
                   'folder of pictures')
  return new_arrays.read(path, data, config)


def _prepared(given: Given, data: Stored, fitted: Preprocessing,
              config: schema.Data) -> Examples:
  """Encodes, fills and scales by what the training part fitted."""
  raw, notes = _timed(given.raw, data), list(given.raw.notes)
  if not fitted.names:
    _check_shape(raw, data)
  known = np.ones(len(raw.x), bool) if given.known is None else given.known
  if fitted.mean is None:
    x, bare = _symbols(raw, fitted, data, notes)
    known = known & ~bare
  elif raw.x.dtype.kind != 'f':
    x = preprocessing.pictures(fitted, raw.x)
  else:
    x, bare = _numbers(raw, fitted, config, notes)
    known = known & ~bare
  return Examples(_longer(x, data), raw.lengths, known, given.title,
                  given.names, notes)


def _numbers(raw: Raw, fitted: Preprocessing, config: schema.Data,
             notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
  """Prepared numbers, and which rows are left unanswered."""
  holes = ~np.isfinite(raw.x)
  if raw.lengths is not None:
    holes &= padding.inside(raw.lengths, raw.x.shape[1])[..., None]
  bare = np.asarray(holes.reshape(len(holes), -1).any(1))
  if bare.any():
    notes.append(_missing(raw, holes, bare, config))
  x = np.where(np.isfinite(raw.x), raw.x, np.nan)
  raw = raw._replace(x=x)
  if fitted.names:
    notes += _unknown(raw, fitted)
    x = preprocessing.entries(fitted, raw)[0]
  found = preprocessing.scaled(fitted, raw, x).astype(np.float32)
  if config.missing in ('mean', 'median'):
    bare = np.zeros_like(bare)
  return np.nan_to_num(found), bare


def _symbols(raw: Raw, fitted: Preprocessing, data: Stored,
             notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
  """Symbols by the numbers of training, and rows that hold unknown ones."""
  if raw.x.dtype.kind not in 'iu':
    raise LabError(f'{raw.name}: inputs have dtype {raw.x.dtype}; the model '
                   f'was trained on {data.symbols} kinds of symbols')
  if (fitted.symbols is None) != (raw.alphabet is None):
    held, given = ('numbers', 'texts') if raw.alphabet else ('texts', 'numbers')
    raise LabError(f'{raw.name}: symbols that are {given}, and the model was '
                   f'trained on {held}')
  x, odd = raw.x, raw.x >= (data.symbols or 0)
  if raw.alphabet is not None:
    place = {symbol: i for i, symbol in enumerate(fitted.symbols or ())}
    codes = np.array([place.get(symbol, -1) for symbol in raw.alphabet], int)
    x = codes[raw.x]
    odd = x < 0
  if raw.lengths is not None:
    odd &= padding.inside(raw.lengths, x.shape[1])
  strange: np.ndarray = np.asarray(odd.any(1))
  if strange.any():
    kinds = [repr(raw.alphabet[code] if raw.alphabet else int(code))
             for code in np.unique(raw.x[odd])]
    notes.append(f'{counted(int(strange.sum()), "example")} with symbols that '
                 f'no training example had ({few(kinds)}), answered with '
                 'nothing')
  return np.where(odd, 0, x).astype(np.int32), strange


def _timed(raw: Raw, data: Stored) -> Raw:
  """Lengths where the model knows them, and there alone."""
  x, lengths = raw.x, raw.lengths
  if not data.padded:
    if lengths is not None and lengths.min() < x.shape[1]:
      row = int(lengths.argmin())
      raise LabError(
          f'{raw.where(row, None)}: {int(lengths[row])} steps; the model was '
          f'trained on sequences of {data.shape[0]}, all as long')
    if lengths is not None and x.shape[1:] == (*data.shape, 1):
      x = x[..., 0]
    return raw._replace(x=x, lengths=None)
  if x.ndim == 2 and len(data.shape) == 2:
    x = x[..., None]  # one channel
  return raw._replace(x=x, lengths=np.full(
      len(x), x.shape[1], np.int32) if lengths is None else lengths)


def _longer(x: np.ndarray, data: Stored) -> np.ndarray:
  """As many steps as in training, or more."""
  more = max(data.shape[0] - x.shape[1], 0) if data.padded else 0
  return np.pad(x, [(0, 0), (0, more), *[(0, 0)] * (x.ndim - 2)])


def _check_shape(raw: Raw, data: Stored) -> None:
  """Refuses examples of another shape; padded ones may be of any length."""
  x, free = raw.x, int(data.padded)
  if x.ndim != 1 + len(data.shape) or x.shape[1 + free:] != data.shape[free:]:
    raise LabError(f'{raw.name}: examples of shape {x.shape[1:]}; the model was'
                   f' trained on examples of shape {data.shape}')


def _missing(raw: Raw, holes: np.ndarray, bare: np.ndarray,
             config: schema.Data) -> str:
  """Counts missing cells, or refuses them as training did."""
  count = raw.lacking(holes)
  if config.missing == 'error':
    row, entry = (int(i) for i in np.argwhere(
        holes.reshape(len(holes), -1))[0])
    raise LabError(f'{raw.where(row, entry)}: missing or not finite ({count}); '
                   'the training part had no such cell (data.missing = '
                   '"error"), so the model cannot say what it would mean')
  if config.missing == 'drop':
    return (f'{counted(int(bare.sum()), "row")} with missing cells answered '
            'with nothing, as training left such rows out')
  return f'{count} filled with the {config.missing} of the training part'


def _unknown(raw: Raw, fitted: Preprocessing) -> list[str]:
  """Counts the names that no training example had."""
  told = []
  for i, kinds in (raw.kinds or {}).items():
    name = (raw.columns or [])[i]
    strange = [kind not in fitted.names.get(name, ()) for kind in kinds]
    cells = raw.x[:, i][np.isfinite(raw.x[:, i])].astype(int)
    count = int(np.asarray(strange, bool)[cells].sum()) if kinds else 0
    if count:
      shown = few([repr(kind) for kind, odd in zip(kinds, strange, strict=True)
                   if odd])
      told.append(f'{counted(count, "row")} whose {name} no training example '
                  f'had ({shown})')
  return told
