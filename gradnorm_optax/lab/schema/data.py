"""`[data]`: where the examples come from."""

import codecs
import pathlib
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from gradnorm_optax.lab.schema.base import (
  PositiveInt,
  Table,
  Whole,
  complaint,
)

GENERATED = ('characters', 'long_dependency', 'text')  # divided already
OWN = ('file', 'function')  # the sources that may have a file for each part


def _part(value: Any) -> Any:
  """A share of the examples, or where a part of its own is read."""
  if isinstance(value, str) and value:
    return value
  if isinstance(value, bool) or not isinstance(value, int | float) or not (
      0 < value < 1):
    raise complaint(f'takes a share between 0 and 1, or a file or function of '
                    f'its own, not {value!r}')
  return float(value)


Part = Annotated[float | str, pydantic.BeforeValidator(_part)]


class Data(Table):
  """Where the examples come from and how they are divided."""

  source: Literal[
      'digits', 'iris', 'wine', 'breast_cancer', 'diabetes', 'characters',
      'long_dependency', 'text', 'file', 'function', 'hub',
      'cifar10', 'idx'] = 'digits'
  """What is read."""
  validation: Part = 0.15
  """The share that chooses rates, or what holds a part of its own: a file, or
  "module:function"."""
  test: Part = 0.15
  """The same of the part that judges; a set's own test part stays."""
  seed: Annotated[Whole, Field(ge=0, lt=2**32)] = 0
  """Of the division into parts, of `take`, and of what is generated."""
  take: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
  """How many examples of the training, validation and test part are drawn;
  none: all."""
  length: PositiveInt = 64
  """Of an example of text, characters or long_dependency."""
  size: PositiveInt = 1200
  """How many examples of characters."""
  task: str = 'temporal_order'
  """Of long_dependency; see docs/sgr.md."""
  sizes: tuple[PositiveInt, PositiveInt, PositiveInt] = (20000, 1000, 10000)
  """Of long_dependency: examples for training, validation and test."""

  path: str | None = None
  """A .csv, .parquet, .npz, .npy or a folder of pictures for source = "file";
  "owner/name" for "hub"; a file or a folder of files for "text"; a folder or
  the file of the inputs for "idx"."""
  alphabet: Literal['bytes', 'characters', 'uint16'] = 'bytes'
  """What a symbol of source = "text" is; uint16: a tokenizer's number, two
  bytes, the lower first."""
  labels: str | None = None
  """A second .npy, or a second idx file, of the labels."""
  subset: str | None = None
  """Of a set of the hub; of a folder of idx files: what the names of one set
  begin with."""
  resize: tuple[PositiveInt, PositiveInt] | None = None
  """Height and width that pictures are brought to."""
  pixels: Literal['picture', 'sequence'] = 'picture'
  """sequence: pictures of source = "idx" are read pixel by pixel, row by
  row."""
  target: str | None = None
  """A "module:function" that returns (inputs, labels), for source =
  "function"."""
  options: dict[str, Any] = {}
  """The arguments of that function, and of those of other parts."""
  label: str = 'y'
  """The column or array of what is to be predicted."""
  predict: Literal['class', 'number'] = 'class'
  """A class, or a number: a regression."""
  labels_per: Literal['example', 'position'] | None = None
  """Where shapes leave it open: labels of an example, or of its positions."""
  inputs: str = 'x'
  """The array of the inputs, in an .npz."""
  ignore: tuple[str, ...] = ()
  """Columns to leave out."""
  categorical: tuple[str, ...] = ()
  """Columns of names, not numbers."""
  group: str | None = None
  """A column; examples of one value of it stay in one part."""
  time: str | None = None
  """A column; the last examples by it are the test part."""
  separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
  """Of a .csv; none: what the lines show."""
  decimal: Literal['.', ','] | None = None
  """The sign of decimals; none: what the cells show."""
  encoding: str | None = None
  """Of a .csv; none: UTF-8, else Windows' cp1252. Of characters; none:
  UTF-8."""
  na_values: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
  """More spellings of an empty cell: of all columns, or of each that is
  named."""
  keep_default_na: bool = True
  """false: NA, None, null, ... are texts."""
  symbols: bool = False
  """Whether integer inputs are symbols, not numbers."""
  missing: Literal['error', 'drop', 'mean', 'median'] = 'error'
  """What is done where an input is missing."""
  unlabeled: Literal['error', 'drop'] = 'error'
  """What is done where a label is missing."""

  @pydantic.model_validator(mode='after')
  def _where_from(self) -> 'Data':
    text = self.source == 'text'
    idx = self.source == 'idx'
    if self.source in ('file', 'hub', 'text', 'idx') and self.path is None:
      raise complaint(f'path and source = "{self.source}" belong together')
    if self.path is not None and self.source not in (
        'file', 'hub', 'cifar10', 'text', 'idx'):
      raise complaint('path and source = "file" belong together')
    if (self.source == 'function') != (self.target is not None):
      raise complaint('target and source = "function" belong together')
    kind = '' if self.path is None or text or idx else (
        pathlib.Path(self.path).suffix.lower())
    npy = kind == '.npy'
    if npy != (self.labels is not None) and not idx:
      raise complaint('labels and a path that ends in .npy belong together')
    csv = kind == '.csv'
    named = self.source in ('function', 'hub') or kind in ('.csv', '.parquet')
    given = self.source in ('file', 'function', 'hub')
    for key, of_use in (
        ('options', self.source == 'function'),
        ('ignore', named), ('categorical', named), ('symbols', given),
        ('labels_per', self.source in ('file', 'function') and (
            kind != '.csv')),
        ('group', named or kind == '.npz'), ('time', named or kind == '.npz'),
        ('na_values', named), ('decimal', named),
        ('separator', csv), ('encoding', csv or (
            text and self.alphabet == 'characters')),
        ('resize', self.source in ('file', 'hub', 'cifar10', 'idx') and (
            kind not in ('.csv', '.parquet', '.npz', '.npy'))),
        ('take', self.source not in GENERATED),
        ('subset', self.source in ('hub', 'cifar10', 'idx'))):
      if getattr(self, key) and not of_use:
        what = f'a path that ends in {kind}' if kind else (
            f'source = "{self.source}"')
        raise complaint(f'{key} has no meaning with {what}; leave it out')
    if not text:
      self.idle('alphabet', 'source = "text"')
    if not idx:
      self.idle('pixels', 'source = "idx"')
    if not self.keep_default_na and not csv:
      raise complaint('keep_default_na is for a path that ends in .csv')
    for part in ('validation', 'test'):
      held = getattr(self, part)
      if isinstance(held, str) and (self.source not in OWN or npy):
        raise complaint(
            f'{part} = "{held}" is for source = "file" (not .npy) and source '
            '= "function"; give a share')
    return self

  @pydantic.model_validator(mode='after')
  def _one_meaning(self) -> 'Data':
    try:
      codecs.lookup(self.encoding or 'utf-8')
    except LookupError:
      raise complaint(f'encoding: no encoding is called {self.encoding!r}; '
                      'such as "utf-8", "cp1252", "utf-16"') from None
    if self.separator is not None and self.separator == self.decimal:
      raise complaint('separator and decimal are the same sign')
    for role in ('label', 'group', 'time'):
      column = getattr(self, role)
      for other, columns in (('categorical', self.categorical),
                             ('label', (self.label,))):
        if role != other and column in columns:
          raise complaint(f'the column {column!r} is named in {role} and in '
                          f'{other}; only one can hold')
    return self

  @pydantic.model_validator(mode='after')
  def _room_for_training(self) -> 'Data':
    if sum(share for share in (self.validation, self.test)
           if isinstance(share, float)) >= 1:
      raise complaint('validation + test must leave a share for training')
    return self

  def shares(self) -> tuple[float, float]:
    """The shares of validation and test; 0 of one that is read by itself."""
    return tuple(  # type: ignore[return-value]
        share if isinstance(share, float) else 0.0
        for share in (self.validation, self.test))

  def files(self) -> list[str]:
    """The files and folders of examples, as they are written here."""
    return [] if self.path is None else [
        name for name in (self.path, self.labels, self.validation, self.test)
        if isinstance(name, str)]

  def functions(self) -> list[str]:
    """The user's functions that give examples."""
    return [] if self.target is None else [self.target, *(
        part for part in (self.validation, self.test)
        if isinstance(part, str))]
