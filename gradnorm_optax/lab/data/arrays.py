"""The user's arrays: checked, padded."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import ragged_sequences
from gradnorm_optax.lab.data.raw import Raw
from gradnorm_optax.lab.objective import padding
from gradnorm_optax.lab.support.errors import LabError


def listed(name: str, which: str, values: Any) -> Any:
  """The values as an array or a list; refuses what has no examples."""
  if not isinstance(values, np.ndarray | list | tuple) and hasattr(
      values, '__array__'):
    values = np.asarray(values)  # of pandas, JAX, PyTorch
  if isinstance(values, np.ma.MaskedArray):
    shown = np.asarray(values.data).astype(object)
    shown[np.ma.getmaskarray(values)] = None
    values = shown
  mend = next((mend for known, mend in (
      ('toarray', '.toarray()'), ('to_pandas', '.to_pandas()'),
      ('__next__', 'list(...)'), ('__getitem__', 'list(...)'))
               if hasattr(values, known)), '')
  if isinstance(values, str | dict):
    mend = ''
  if not (values.ndim if isinstance(values, np.ndarray)
          else isinstance(values, list | tuple)):
    raise LabError(
        f'{name}: the {which} must be an array or a list with one entry for '
        f'each example, not {kind(values)}'
        + (f'; give their {mend}' if mend else ''))
  return values


def kind(value: Any) -> str:
  """What a value is, for a message."""
  if value is None:
    return 'None'
  if isinstance(value, np.ndarray) and not value.ndim:
    return f'one value, {value}, of shape ()'
  return type(value).__name__


def array(name: str, which: str, values: Any) -> np.ndarray:
  """The values as one array, also where it was an array of arrays."""
  if isinstance(values, np.ndarray) and values.dtype == object and len(
      values) and np.ndim(values[0]) and len(
          {np.shape(one) for one in values}) == 1:
    values = list(values)
  try:
    return ragged_sequences.known(np.asarray(values))
  except ValueError as error:
    raise LabError(f'{name}: the {which} are no array: '
                   f'{str(error).splitlines()[0]}') from error


def checked(config: schema.Data, name: str, x: Any, y: Any,
            lengths: Any = None,
            place: Callable[[int], str] | None = None) -> Raw:
  """Checks arrays or lists of sequences: one label for each example.

  Args:
    config: Whether integers are symbols.
    name: Where the examples come from, for messages.
    x: The inputs.
    y: Their labels.
    lengths: Positions of each that are no padding, if there is any.
    place: What messages call an example; by its number if None.
  """
  def where(example: int, entry: int | None) -> str:
    here = place(example) if place else f'{name}: example {example}'
    return here if entry is None else f'{here}, entry {entry}'

  x, y = listed(name, 'inputs', x), listed(name, 'labels', y)
  if len(x) != len(y):
    raise LabError(f'{name}: {len(x)} inputs, but {len(y)} labels')
  if not len(x):
    raise LabError(f'{name}: no examples')
  if ragged_sequences.ragged(x):
    if lengths is not None:
      raise LabError(f'{name}: inputs of unequal length, and lengths too; '
                     'leave the lengths out, they are those of the inputs')
    return padded(config, name, x, y, where)
  x, y = array(name, 'inputs', x), array(name, 'labels', y)
  if x.dtype == object:
    x = _numbers(x, where)
  if x.dtype.kind not in 'fiub':
    raise LabError(f'{name}: inputs have dtype {x.dtype}, not numbers')
  if not x.size:
    raise LabError(f'{name}: inputs of shape {x.shape} hold nothing')
  if lengths is not None:
    lengths = array(name, 'lengths', lengths)
    return _masked(config, name, x, y, lengths, where)
  if x.ndim == 1:
    x = x[:, None]
  if x.ndim == 4:
    notes = ['pictures of {}x{}x{}'.format(*x.shape[1:])]
    if x.dtype.kind in 'iub':  # many: their bytes are not spread out yet
      return Raw(name, x, y, notes, where)
  else:
    notes = []
  return Raw(name, _typed(config, name, x), y, notes, where)


def _numbers(x: np.ndarray,
             where: Callable[[int, int | None], str]) -> np.ndarray:
  """Numbers that came as Python objects; None is a missing cell."""
  try:
    return x.astype(np.float64)
  except (TypeError, ValueError):
    for i, row in enumerate(x.reshape(len(x), -1)):
      for j, value in enumerate(row):
        try:
          np.float64(value)
        except (TypeError, ValueError):
          raise LabError(f'{where(i, j)}: {value!r} is no number') from None
    raise


def _typed(config: schema.Data, name: str, x: np.ndarray) -> np.ndarray:
  """Symbols as integers, everything else as numbers."""
  if not config.symbols:
    return x if x.dtype.kind == 'f' else x.astype(np.float64)
  if x.dtype.kind not in 'iu' or x.min() < 0:
    raise LabError(f'{name}: data.symbols needs integers from 0 on, not '
                   f'{x.dtype} from {x.min()} on')
  if x.max() > np.iinfo(np.int32).max:
    raise LabError(f'{name}: the symbol {x.max()} is too large; number the '
                   'kinds of symbols from 0 on')
  return x


def padded(config: schema.Data, name: str, x: Any, y: Any,
           where: Callable[[int, int | None], str],
           place: Callable[[int], str] | None = None) -> Raw:
  """Pads sequences, and their labels where every position has one.

  Args:
    config: Whether integers are symbols.
    name: Where the examples come from, for messages.
    x: The sequences.
    y: Their labels.
    where: Names a place for an error, as in `Raw`.
    place: Names an example, where `where` would name its label.
  """
  def labelled(example: int) -> str:
    return where(example, None)

  place = place or labelled
  notes: list[str] = []
  alphabet = None
  if ragged_sequences.texts(x):
    x, alphabet = ragged_sequences.coded(x, place)
    notes.append(f'{len(alphabet)} symbols')
    config = config.model_copy(update={'symbols': True})
  x, lengths = ragged_sequences.padded(x, place)
  if ragged_sequences.ragged(y) and not isinstance(y[0], str):
    if ragged_sequences.texts(y):
      y = ragged_sequences.coded(y, labelled)[0]
    y, held = ragged_sequences.padded(y, labelled)
    if (held != lengths).any():
      i = int(np.flatnonzero(held != lengths)[0])
      raise LabError(f'{labelled(i)}: {lengths[i]} steps, but {held[i]} labels')
  raw = _masked(config, name, x, array(name, 'labels', y), lengths, where)
  raw.notes[:0] = notes
  return raw._replace(alphabet=alphabet)


def _masked(config: schema.Data, name: str, x: np.ndarray, y: np.ndarray,
            lengths: np.ndarray,
            where: Callable[[int, int | None], str]) -> Raw:
  """Checks the lengths and empties the padding, whatever stood there."""
  steps = x.shape[1] if x.ndim > 1 else 0
  bad = (lengths < 1) | (lengths > steps) if lengths.shape == (
      len(x),) and lengths.dtype.kind in 'iu' else np.ones(1, bool)
  if bad.any():
    raise LabError(f'{where(int(bad.argmax()), None)}: lengths must be '
                   f'{len(x)} integers from 1 to {steps}')
  inside = padding.inside(lengths, steps)
  x = _typed(config, name, np.where(
      inside.reshape(inside.shape + (1,) * (x.ndim - 2)), x,
      np.zeros((), x.dtype)))
  if x.ndim == 2 and x.dtype.kind == 'f':
    x = x[..., None]
  notes = [] if lengths.min() == lengths.max() else [
      f'{lengths.min()} to {lengths.max()} steps, padded']
  return Raw(name, x, y, notes, where, lengths.astype(np.int32))
