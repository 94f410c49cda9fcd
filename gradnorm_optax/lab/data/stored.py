"""What a trained model must know of its data, as JSON: no data, no code.

`model.json` of a run, format 1:

    format       1
    example      {"shape": [13], "dtype": "float32"}: one prepared example
    rows         examples of the training part
    outputs      of the model: classes, symbols, or numbers
    predicts     "class" or "number"
    positions    whether every position of a sequence has a label
    padded       whether sequences are of unequal length
    image, symbols, readout
                 as in `Dataset`
    preprocessing
                 as in `Preprocessing`: lists of numbers, or null; `names`:
                 {column: the names that have an entry}

Numbers are written with all their digits: what is read back is equal.
"""

import json
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np

from gradnorm_optax.lab.data.dataset import Dataset, Split
from gradnorm_optax.lab.data.preprocessing import Preprocessing
from gradnorm_optax.lab.objective import usual
from gradnorm_optax.lab.support import files
from gradnorm_optax.lab.support.errors import LabError

FILE, FORMAT = 'model.json', 1
_ARRAYS = ('mean', 'scale', 'fill', 'label_mean', 'label_scale')
_TUPLES = ('columns', 'symbols', 'classes')


class Stored(NamedTuple):
  """What is kept of a set of examples.

  Attributes:
    shape, dtype: Of one prepared example.
    rows: How many the training part had.
    outputs: Of the model.
    number: Whether numbers are predicted.
    positions: Whether every position of a sequence has a label.
    padded: Whether sequences were of unequal length.
    image, symbols, readout: As in `Dataset`.
    preprocessing: What was fitted; None of generated sets.
  """

  shape: tuple[int, ...]
  dtype: str
  rows: int
  outputs: int
  number: bool
  positions: bool
  padded: bool
  image: tuple[int, int, int] | None
  symbols: int | None
  readout: int | None
  preprocessing: Preprocessing | None

  @property
  def sequences(self) -> bool:
    """Whether an example is a sequence: of symbols, or of channels."""
    return self.symbols is not None or len(self.shape) == 2

  @classmethod
  def of(cls, dataset: Dataset) -> 'Stored':
    """Keeps what a trained model must know."""
    part = dataset.train
    return cls(
        part.x.shape[1:], 'int32' if part.x.dtype.kind == 'u' else str(
            part.x.dtype), len(part.x), dataset.outputs,
        part.y.dtype.kind == 'f', dataset.objective.positions,
        part.lengths is not None, dataset.image, dataset.symbols,
        dataset.readout, dataset.preprocessing)

  def dataset(self) -> Dataset:
    """A set of that kind whose examples are all zero, and take no memory."""
    x = np.broadcast_to(
        np.zeros((), self.dtype), (self.rows, *self.shape))
    each = self.shape[:2] if len(self.shape) == 3 else self.shape[:1]  # pixels
    shape = (self.rows, math.prod(each)) if self.positions else (self.rows,)
    kind = np.float32 if self.number else np.int32
    if self.number and self.outputs > 1:
      shape = (*shape, self.outputs)
    y = np.broadcast_to(np.zeros((), kind), shape)
    lengths = np.broadcast_to(
        np.int32(self.shape[0]), (self.rows,)) if self.padded else None
    part = Split(x, y, lengths)
    few = np.zeros((2, *shape[1:]), kind)
    objective = usual.numbers(
        few, None, self.positions) if self.number else usual.classes(
            self.outputs, few, None, self.positions)
    return Dataset(part, part, part, self.outputs, self.image, 'stored',
                   objective, self.symbols, self.readout, self.preprocessing)


def write(folder: pathlib.Path, found: Stored) -> None:
  """Writes `model.json` whole or not at all."""
  content: dict[str, Any] = {
      'format': FORMAT,
      'example': {'shape': found.shape, 'dtype': found.dtype},
      'predicts': 'number' if found.number else 'class',
      **{name: getattr(found, name) for name in (
          'rows', 'outputs', 'positions', 'padded', 'image', 'symbols',
          'readout')},
      'preprocessing': None if found.preprocessing is None else {
          name: value.tolist() if isinstance(value, np.ndarray) else value
          for name, value in found.preprocessing._asdict().items()}}
  files.write(folder / FILE, json.dumps(content, indent=1) + '\n')


def read(folder: pathlib.Path) -> Stored:
  """Reads `model.json`.

  Raises:
    LabError: There is none, or it is of another format.
  """
  path = folder / FILE
  try:
    content = json.loads(path.read_text(encoding='utf-8'))
    if content['format'] != FORMAT:
      raise LabError(f'{path}: format {content["format"]}; this version reads '
                     f'{FORMAT}')
    fitted = content['preprocessing']
    return Stored(
        tuple(content['example']['shape']), content['example']['dtype'],
        content['rows'], content['outputs'], content['predicts'] == 'number',
        content['positions'], content['padded'],
        content['image'] and tuple(content['image']), content['symbols'],
        content['readout'], None if fitted is None else _fitted(fitted))
  except OSError as error:
    raise LabError(
        f'{folder}: no trained model here ({FILE}: {error.strerror}); gradnorm '
        'train writes it') from error
  except (ValueError, KeyError, TypeError) as error:
    raise LabError(f'{path}: not as gradnorm train wrote it ({error})'
                   ) from error


def _fitted(given: dict[str, Any]) -> Preprocessing:
  made: dict[str, Any] = dict(given)
  for name in _ARRAYS:
    if made[name] is not None:
      made[name] = np.asarray(made[name], np.float64)
  for name in _TUPLES:
    if made[name] is not None:
      made[name] = tuple(made[name])
  made['names'] = {key: tuple(names) for key, names in made['names'].items()}
  return Preprocessing(**made)
