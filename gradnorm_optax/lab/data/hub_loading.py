"""Hugging Face `datasets`: sets loaded with clear errors, and their parts."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gradnorm_optax.lab.data.raw import FREE, TEST, VALIDATION, counted
from gradnorm_optax.lab.support.errors import LabError

SPLITS = {'train': FREE, 'validation': VALIDATION, 'test': TEST}


class Part(NamedTuple):
  """Examples of one split, its name, and which part they are."""

  examples: Any
  split: str
  code: int


def library(name: Any) -> Any:
  """The `datasets` package, without its progress bars."""
  try:
    import datasets
  except ImportError as error:
    raise LabError(f'{name}: reading this needs the datasets package; run: '
                   'pip install "gradnorm_optax[data]"') from error
  datasets.disable_progress_bars()
  return datasets


@contextlib.contextmanager
def quiet(name: Any) -> Iterator[Any]:
  """Gives the package; what it would log comes as the error alone."""
  datasets = library(name)
  before = datasets.logging.get_verbosity()
  datasets.logging.set_verbosity(datasets.logging.CRITICAL)
  try:
    yield datasets
  finally:
    datasets.logging.set_verbosity(before)


def load(shown: str, **options: Any) -> Any:
  """Loads with a clear error: unknown, offline or not readable."""
  try:
    with quiet(shown) as datasets:
      return datasets.load_dataset(**options)
  except LabError:
    raise
  except Exception as error:  # its errors share no class
    cause = [line for told in (error, error.__cause__ or '')
             for line in str(told).splitlines()
             if line.strip() and not line.startswith('An error occurred')]
    if cause and cause[0].startswith("Couldn't cast"):
      cause = [f'its files cannot be joined, {cause[-1].strip()}']
    far = '' if pathlib.Path(shown).exists() else (
        ' (a name of the hub needs the network the first time)')
    raise LabError(
        f'[data] {shown}: cannot load this set: '
        f'{cause[0].strip() if cause else type(error).__name__}{far}'
        ) from error


def parts(name: str, found: Any) -> tuple[list[Part], list[str]]:
  """What to train on and the set's own other parts; what is left, in words."""
  if 'train' not in found:
    raise LabError(f'{name}: no split "train" in this set; it has '
                   f'{", ".join(map(repr, found))}')
  left = [f'{counted(len(part), "example")} of its part {split!r} left out'
          for split, part in found.items() if split not in SPLITS]
  return [Part(found[split], split, code) for split, code in SPLITS.items()
          if split in found], left


def codes(parts: list[Part]) -> np.ndarray | None:
  """The part of each example, in order; None where all are to be divided."""
  if len(parts) == 1 and parts[0].code == FREE:
    return None
  return np.repeat([part.code for part in parts],
                   [len(part.examples) for part in parts])


def named(part: Any, label: str, labels: Any) -> np.ndarray:
  """The names of numbered classes; -1, the hub's sign for none, is None."""
  names = getattr(part.features[label], 'names', None)
  if names is None:
    return np.asarray(labels)
  return np.array([None if i is None or i < 0 else names[int(i)]
                   for i in labels], object)
