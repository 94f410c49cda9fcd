"""`[data]`: where the examples come from."""

import pathlib
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from gradnorm_optax.lab.schema.base import (
  PositiveInt,
  Share,
  Table,
  Whole,
  complaint,
)


class Data(Table):
  """Where the examples come from and how they are divided."""

  source: Literal[
      'digits', 'iris', 'wine', 'breast_cancer', 'diabetes', 'characters',
      'long_dependency', 'file', 'function', 'hub', 'cifar10'] = 'digits'
  """What is read."""
  validation: Share = 0.15
  """The share that chooses rates."""
  test: Share = 0.15
  """The share that judges; a set's own test part stays."""
  seed: Annotated[Whole, Field(ge=0, lt=2**32)] = 0
  """Of the division into parts, and of what is generated."""
  length: PositiveInt = 64
  """Of an example of characters or long_dependency."""
  size: PositiveInt = 1200
  """How many examples of characters."""
  task: str = 'temporal_order'
  """Of long_dependency; see docs/sgr.md."""
  sizes: tuple[PositiveInt, PositiveInt, PositiveInt] = (20000, 1000, 10000)
  """Of long_dependency: examples for training, validation and test."""

  path: str | None = None
  """A .csv, .parquet, .npz, .npy or a folder of pictures for source = "file";
  "owner/name" for "hub"."""
  labels: str | None = None
  """A second .npy, of the labels."""
  subset: str | None = None
  """Of a set of the hub."""
  resize: tuple[PositiveInt, PositiveInt] | None = None
  """Height and width that pictures are brought to."""
  target: str | None = None
  """A "module:function" that returns (inputs, labels), for source =
  "function"."""
  label: str = 'y'
  """The column or array of what is to be predicted."""
  predict: Literal['class', 'number'] = 'class'
  """A class, or a number: a regression."""
  inputs: str = 'x'
  """The array of the inputs, in an .npz."""
  ignore: tuple[str, ...] = ()
  """Columns to leave out."""
  categorical: tuple[str, ...] = ()
  """Columns of names, not numbers."""
  symbols: bool = False
  """Whether integer inputs are symbols, not numbers."""
  missing: Literal['error', 'drop', 'mean', 'median'] = 'error'
  """What is done where an input is missing."""
  unlabeled: Literal['error', 'drop'] = 'error'
  """What is done where a label is missing."""

  @pydantic.model_validator(mode='after')
  def _where_from(self) -> 'Data':
    if self.source in ('file', 'hub') and self.path is None:
      raise complaint(f'path and source = "{self.source}" belong together')
    if self.path is not None and self.source not in ('file', 'hub', 'cifar10'):
      raise complaint('path and source = "file" belong together')
    if (self.source == 'function') != (self.target is not None):
      raise complaint('target and source = "function" belong together')
    kind = '' if self.path is None else pathlib.Path(self.path).suffix.lower()
    npy = kind == '.npy'
    if npy != (self.labels is not None):
      raise complaint('labels and a path that ends in .npy belong together')
    named = self.source in ('function', 'hub') or kind in ('.csv', '.parquet')
    given = self.source in ('file', 'function', 'hub')
    for key, of_use in (
        ('ignore', named), ('categorical', named), ('symbols', given),
        ('resize', self.source in ('file', 'hub', 'cifar10') and kind not in (
            '.csv', '.parquet', '.npz', '.npy')),
        ('subset', self.source in ('hub', 'cifar10'))):
      if getattr(self, key) and not of_use:
        what = f'a path that ends in {kind}' if kind else (
            f'source = "{self.source}"')
        raise complaint(f'{key} has no meaning with {what}; leave it out')
    return self

  @pydantic.model_validator(mode='after')
  def _room_for_training(self) -> 'Data':
    if self.validation + self.test >= 1:
      raise complaint('validation + test must leave a share for training')
    return self
