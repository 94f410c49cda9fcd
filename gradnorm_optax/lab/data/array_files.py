"""Files of arrays: one archive for each part, or a pair of arrays."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import array_parts, arrays
from gradnorm_optax.lab.data.raw import Raw, few
from gradnorm_optax.lab.support.errors import LabError, nearest


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
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
  given = [one[:3] if one[2] is not None else one[:2] for one in found]
  raw = array_parts.checked(config, [*map(str, paths)], given)
  for i, path in enumerate(paths):
    if found[i][3]:
      raw.notes.append(f'{path.name}: not used: '
                       f'{few(sorted(found[i][3]))}')
  if config.group is not None:
    group = _beside(str(paths[0]), config.group, len(raw.y), np.concatenate(
        [one[4] for one in found]))
    raw = raw._replace(group=np.unique(group, return_inverse=True)[1])
  if config.time is not None:
    raw = raw._replace(time=_beside(
        str(paths[0]), config.time, len(raw.y), np.concatenate(
            [one[5] for one in found])))
  return raw, [len(one[1]) for one in found]


def _archive(config: schema.Data, path: pathlib.Path) -> tuple[Any, ...]:
  """Inputs, labels, lengths, unused names, groups and times of a file."""
  with _opened(path) as archive:
    if isinstance(archive, np.ndarray):
      raise LabError(f'{path}: one array, not an archive; save with '
                     'np.savez(path, x=inputs, y=labels)')
    wanted = [config.inputs, config.label, *(
        name for name in (config.group, config.time) if name is not None)]
    for name in wanted:
      if name not in archive:
        raise LabError(f'{path}: no array {name!r}{nearest(name, archive)}')
    used = {*wanted, 'lengths'}
    return (archive[config.inputs], archive[config.label],
            archive['lengths'] if 'lengths' in archive else None,
            set(archive) - used,
            None if config.group is None else archive[config.group],
            None if config.time is None else archive[config.time])


def _beside(name: str, which: str, rows: int, values: np.ndarray) -> np.ndarray:
  """An array of one known value for each example."""
  if values.shape != (rows,):
    raise LabError(f'{name}: {which!r} has shape {values.shape}, not ({rows},)')
  if values.dtype.kind in 'fM' and (bad := np.isnat(values) if (
      values.dtype.kind == 'M') else ~np.isfinite(values)).any():
    raise LabError(f'{name}: example {int(bad.argmax())}: no {which!r}')
  return values


def npy(config: schema.Data, path: pathlib.Path) -> Raw:
  """Reads a pair of .npy files."""
  labels = pathlib.Path(config.labels or '').expanduser()
  if not labels.exists():
    raise LabError(f'[data] labels: {labels} does not exist')
  read = []
  for file in (path, labels):
    with _opened(file) as found:
      if not isinstance(found, np.ndarray):
        raise LabError(f'{file}: an archive, not one array; call it .npz')
      read.append(found)
  return arrays.checked(config, str(path), read[0], read[1])
