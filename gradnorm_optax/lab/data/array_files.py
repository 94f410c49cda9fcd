"""Files of arrays: one archive for each part, or a pair of arrays."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import array_parts, arrays
from gradnorm_optax.lab.data.raw import Raw, few
from gradnorm_optax.lab.support import user_code
from gradnorm_optax.lab.support.errors import LabError, nearest


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[Any]:
  """Opens a file of arrays; whatever it breaks on is said in one line."""
  try:
    with path.open('rb') as file:  # NumPy leaves a broken one open
      found = np.load(file, allow_pickle=False)
      with found if hasattr(found, 'close') else contextlib.nullcontext():
        yield found
  except LabError:
    raise
  except Exception as error:  # zip, zlib and NumPy each have their own
    if 'allow_pickle' in str(error):
      raise LabError(
          f'{path}: holds Python objects (or is no file of arrays), which are '
          'not read; save texts as np.array(values, str), and sequences of '
          'unequal length padded, with an array `lengths`') from error
    told = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise LabError(f'{path}: cannot read the arrays: the file is damaged or '
                   f'cut short ({told}); save it again') from error


def archives(config: schema.Data, paths: list[pathlib.Path]
             ) -> tuple[Raw, list[int]]:
  """Reads archives of `x`, `y` (or the named ones) and `lengths`.

  Returns:
    Their examples, one after another, and how many each holds.
  """
  found = [_archive(config, path) for path in paths]
  raw = array_parts.checked(
      config, [*map(str, paths)], [one.examples for one in found])
  for path, one in zip(paths, found, strict=True):
    if one.unused:
      raw.notes.append(f'{path.name}: not used: {few(sorted(one.unused))}')
  if config.group is not None:
    group = np.concatenate([_beside(path, config.group, one) for path, one in
                            zip(paths, found, strict=True)])
    raw = raw._replace(group=np.unique(group, return_inverse=True)[1])
  if config.time is not None:
    raw = raw._replace(time=np.concatenate([
        _beside(path, config.time, one)
        for path, one in zip(paths, found, strict=True)]))
  return raw, [len(one.examples[1]) for one in found]


class _Archive(NamedTuple):
  """What a file holds: inputs, labels and lengths; more; what is not used."""

  examples: tuple[np.ndarray, ...]
  beside: dict[str, np.ndarray]
  unused: set[str]


def _archive(config: schema.Data, path: pathlib.Path) -> _Archive:
  with opened(path) as archive:
    if isinstance(archive, np.ndarray):
      raise LabError(f'{path}: one array, not an archive; save with '
                     'np.savez(path, x=inputs, y=labels)')
    examples = [config.inputs, config.label]
    beside = [name for name in (config.group, config.time) if name is not None]
    for name in (*examples, *beside):
      if name not in archive:
        raise LabError(f'{path}: no array {name!r}{nearest(name, archive)}')
    if 'lengths' in archive:
      examples.append('lengths')
    return _Archive(tuple(archive[name] for name in examples),
                    {name: archive[name] for name in beside},
                    set(archive) - {*examples, *beside})


def _beside(path: pathlib.Path, name: str, archive: _Archive) -> np.ndarray:
  """An array of one known value for each example."""
  values, rows = archive.beside[name], len(archive.examples[1])
  if values.shape != (rows,):
    raise LabError(f'{path}: {name!r} has shape {values.shape}, not ({rows},)')
  if values.dtype.kind in 'fM':
    bad = np.isnat(values) if values.dtype.kind == 'M' else ~np.isfinite(values)
    if bad.any():
      raise LabError(f'{path}: example {int(bad.argmax())}: no {name!r}')
  return values


def npy(config: schema.Data, path: pathlib.Path) -> Raw:
  """Reads a pair of .npy files."""
  labels = user_code.beside(config.labels or '')
  if not labels.exists():
    raise LabError(f'[data] labels: {labels} does not exist')
  read = []
  for file in (path, labels):
    with opened(file) as found:
      if not isinstance(found, np.ndarray):
        raise LabError(f'{file}: an archive, not one array; call it .npz')
      read.append(found)
  return arrays.checked(config, str(path), read[0], read[1])
