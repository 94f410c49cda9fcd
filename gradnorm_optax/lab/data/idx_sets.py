"""Sets of idx files: MNIST, those that took its form, and any other."""

import pathlib
import re
from typing import NamedTuple

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import idx_files, pictures
from gradnorm_optax.lab.data.raw import FREE, TEST, Raw
from gradnorm_optax.lab.support import user_code
from gradnorm_optax.lab.support.errors import LabError, nearest

# train-images-idx3-ubyte.gz, emnist-letters-test-labels-idx1-ubyte, ...
NAME = re.compile(r'(?:(?P<set>.+)-)?(?P<part>train|t10k|test)-'
                  r'(?P<what>images|labels)[-.]idx\d-\w+')


class _Pair(NamedTuple):
  """The inputs and the labels of one part, and which part that is."""

  inputs: pathlib.Path
  labels: pathlib.Path
  part: int


def read(config: schema.Data) -> Raw:
  """Reads a folder of idx files, or a file of inputs and one of labels.

  Inputs of rank 3, (examples, height, width), and of rank 4 with channels are
  pictures; those of rank 1 and 2 are numbers.
  """
  path = user_code.beside(config.path or '')
  pairs = _found(path, config)
  parts = [_pair(pair) for pair in pairs]
  shape = parts[0][0].shape[1:]
  for pair, (x, _) in zip(pairs, parts, strict=True):
    if x.shape[1:] != shape:
      raise LabError(f'{pair.inputs}: inputs of shape {x.shape[1:]}, those of '
                     f'{pairs[0].inputs.name} have {shape}')
  starts = np.cumsum([0, *(len(y) for _, y in parts)])

  def where(example: int, entry: int | None) -> str:
    which = int(np.searchsorted(starts, example, side='right')) - 1
    file = pairs[which].labels if entry is None else pairs[which].inputs
    return f'{file}: example {example - int(starts[which])}'

  x = np.concatenate([x for x, _ in parts])
  raw = Raw(str(path), x, np.concatenate([y for _, y in parts]), [], where)
  if len(parts) > 1:
    raw = raw._replace(part=np.repeat(
        [pair.part for pair in pairs], [len(y) for _, y in parts]))
  return _numbers(raw) if x.ndim < 3 else _pictures(raw, config)


def _numbers(raw: Raw) -> Raw:
  """Inputs that are no pictures: one or several numbers each."""
  x = raw.x.reshape(len(raw.x), -1)
  return raw._replace(x=x if x.dtype.kind == 'f' else x.astype(np.float64))


def _pictures(raw: Raw, config: schema.Data) -> Raw:
  """Inputs that are pictures, of the size asked for."""
  x, told = raw.x, ''
  if x.ndim > 4:
    raise LabError(f'{raw.name}: inputs of shape {x.shape}; pictures have '
                   'height, width and, perhaps, channels')
  x = x[..., None] if x.ndim == 3 else x
  if config.resize is not None and config.resize != x.shape[1:3]:
    x, told = pictures.resized(raw.name, x, config.resize), ', resized'
  raw.notes.append('pictures of {}x{}x{}'.format(*x.shape[1:]) + told)
  if config.pixels == 'sequence':
    # Every pixel by one scale: padded sequences are scaled so, and these are
    # padded nowhere.
    steps = x.shape[1] * x.shape[2]
    raw.notes.append(f'read pixel by pixel, {steps} steps')
    return raw._replace(
        x=x.reshape(len(x), steps, x.shape[3]).astype(np.float32),
        lengths=np.full(len(x), steps, np.int32))
  whole = x.dtype.kind != 'f'  # what is not has cells that may be missing
  return raw._replace(x=x, image=x.shape[1:] if whole else None)


def _pair(pair: _Pair) -> tuple[np.ndarray, np.ndarray]:
  """Reads inputs and as many labels."""
  x, y = idx_files.read(pair.inputs), idx_files.read(pair.labels)
  for file, values in ((pair.inputs, x), (pair.labels, y)):
    if not values.ndim or not values.size:
      raise LabError(f'{file}: an array of shape {values.shape} holds no '
                     'examples')
  if len(x) != len(y):
    raise LabError(f'{pair.inputs}: {len(x)} inputs, but {len(y)} labels in '
                   f'{pair.labels}')
  return x, y


def _found(path: pathlib.Path, config: schema.Data) -> list[_Pair]:
  """The files of each part."""
  if not path.exists():
    raise LabError(
        f'[data] path: {path} does not exist. A folder of idx files is meant: '
        'train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-... (also .gz);'
        ' Debian has those of Fashion-MNIST: apt-get install '
        'dataset-fashion-mnist puts them into /usr/share/datasets/fashion-mnist'
        )
  if not path.is_dir():
    if config.labels is None:
      raise LabError(f'[data] {path} holds the inputs; name the file of their '
                     'labels in data.labels, or give the folder of both')
    labels = user_code.beside(config.labels)
    if not labels.exists():
      raise LabError(f'[data] labels: {labels} does not exist')
    return [_Pair(path, labels, FREE)]
  if config.labels is not None:
    raise LabError(f'[data] labels: {path} is a folder, in which they are '
                   'found; leave labels out, or let path name a file')
  sets: dict[str, dict[tuple[str, str], pathlib.Path]] = {}
  for file in sorted(path.iterdir(), reverse=True):  # x before x.gz at the end
    if match := NAME.fullmatch(file.name.removesuffix('.gz')):
      part = 'train' if match['part'] == 'train' else 'test'
      sets.setdefault(match['set'] or '', {})[part, match['what']] = file
  if not sets:
    raise LabError(f'{path}: no idx files in this folder, such as '
                   'train-images-idx3-ubyte(.gz); otherwise named ones: let '
                   'path and labels name a file each')
  name = config.subset or ('' if '' in sets else next(iter(sets)))
  if name not in sets or name and config.subset is None and len(sets) > 1:
    raise LabError(
        f'{path}: holds {len(sets)} sets, {", ".join(map(repr, sorted(sets)))};'
        f' name one in data.subset{nearest(config.subset or "", sets)}')
  return _parts(path, sets[name])


def _parts(path: pathlib.Path, files: dict[tuple[str, str], pathlib.Path]
           ) -> list[_Pair]:
  """The training part, and the test part if there is one."""
  pairs = []
  for part, code in (('train', FREE), ('test', TEST)):
    images, labels = (files.get((part, what)) for what in ('images', 'labels'))
    if images and labels:
      pairs.append(_Pair(images, labels, code))
    elif images or labels or part == 'train':
      lacking = 'labels' if images else 'images'
      here = images or labels or path
      raise LabError(f'{here}: the {lacking} of the {part} part are not in the '
                     f'folder ({part if part == "train" else "t10k"}-{lacking}-'
                     f'idx{1 if images else 3}-ubyte)')
  return pairs
