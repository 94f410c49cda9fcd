"""Pictures: folders of files, and sets of the Hugging Face hub."""

import io
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from gradnorm_optax.lab import schema, tables
from gradnorm_optax.lab.errors import LabError, nearest
from gradnorm_optax.lab.raw import Raw

CIFAR10 = 'uoft-cs/cifar10'


def folder(config: schema.Data, path: pathlib.Path) -> Raw:
  """Reads a folder with one subfolder of pictures for each class.

  Subfolders `train` and `test` that hold those are taken as such.
  """
  library = tables.library(path)
  found = _loaded(str(path), lambda: library.load_dataset(
      'imagefolder', data_dir=str(path)))
  parts = _parts(found)
  if 'label' not in parts[0].column_names:
    raise LabError(f'{path}: no subfolders to take the classes from; keep the '
                   'pictures in one subfolder for each class')
  raw = _pictures(str(path), parts, 'image', 'label', config)
  others = sum(file.is_file() and not file.name.startswith('.')
               for file in path.rglob('*')) - len(raw.x)
  if others:
    raw.notes.append(f'{others} files that are no pictures left out')
  return raw


def hub(config: schema.Data) -> Raw:
  """Reads a set of the hub by name, or a folder that `datasets` can read."""
  name, label = config.path or '', config.label
  if config.source == 'cifar10':
    name, label = config.path or CIFAR10, 'label'
  library = tables.library(name)
  found = _loaded(name, lambda: library.load_dataset(name, config.subset))
  parts = _parts(found)
  columns = parts[0].column_names
  if label not in columns:
    raise LabError(f'{name}: no column {label!r} (data.label)'
                   f'{nearest(label, columns)}')
  images = [column for column, feature in parts[0].features.items()
            if isinstance(feature, library.Image)
            and column not in config.ignore]
  if len(images) == 1:
    raw = _pictures(name, parts, images[0], label, config)
    unread = set(columns) - {images[0], label, *config.ignore}
    if unread:
      raw.notes.append(f'columns besides {images[0]!r} and {label!r} left out: '
                       f'{", ".join(sorted(unread))}')
    return raw
  frames = [part.to_pandas() for part in parts]
  import pandas
  raw = tables.table(config, name, pandas.concat(frames, ignore_index=True), 1)
  return raw._replace(tested=len(frames[1]) if len(frames) > 1 else None)


def _loaded(name: str, load: Callable[[], Any]) -> Any:
  """Loads with a clear error: unknown, offline or not readable."""
  try:
    return load()
  except Exception as error:  # its errors share no class
    cause = str(error).strip().splitlines()
    raise LabError(
        f'[data] {name}: cannot load this set: '
        f'{cause[0] if cause else type(error).__name__} (a name of the hub is '
        'read over the network the first time)') from error


def _parts(found: Any) -> list[Any]:
  """The examples to train and validate on, and the test part if there is one.
  """
  if 'train' not in found:
    raise LabError('[data] no split "train" in this set; it has '
                   f'{", ".join(map(repr, found))}')
  return [found['train'], *([found['test']] if 'test' in found else [])]


def _pictures(name: str, parts: list[Any], column: str, label: str,
              config: schema.Data) -> Raw:
  """Decodes pictures of one size; the last part, if two, is the test's."""
  import datasets
  items = [item for part in parts for item in part.cast_column(
      column, datasets.Image(decode=False))]
  labels: Any = np.array([item[label] for item in items])
  feature = parts[0].features[label]
  if hasattr(feature, 'names'):
    labels = np.array(feature.names, object)[labels]

  def where(example: int, entry: int | None) -> str:
    del entry
    path = items[example][column]['path']
    return path or f'{name}: example {example}'

  opened = [_opened(item[column], where(i, None), config.resize)
            for i, item in enumerate(items)]
  colour = any(picture.ndim == 3 for picture in opened)
  for i, picture in enumerate(opened):
    if picture.shape[:2] != opened[0].shape[:2]:
      raise LabError(
          f'{where(i, None)}: {picture.shape[0]}x{picture.shape[1]} pixels, '
          f'the first picture {opened[0].shape[0]}x{opened[0].shape[1]}; set '
          'data.resize = [height, width]')
    if picture.ndim == 2:
      opened[i] = np.repeat(picture[..., None], 3 if colour else 1, -1)
  x = np.stack(opened)
  note = f'pictures of {x.shape[1]}x{x.shape[2]}x{x.shape[3]}'
  return Raw(name, x, labels, [note], where, image=x.shape[1:],
             tested=len(parts[1]) if len(parts) > 1 else None)


def _opened(item: dict[str, Any], place: str,
            resize: tuple[int, int] | None) -> np.ndarray:
  """One picture as bytes: (height, width), or (height, width, 3)."""
  from PIL import Image, UnidentifiedImageError
  try:
    source = item['path'] if item['bytes'] is None else io.BytesIO(
        item['bytes'])
    with Image.open(source) as picture:
      plain = picture.convert('L' if picture.mode in ('1', 'L') else 'RGB')
      if resize is not None:
        plain = plain.resize((resize[1], resize[0]), Image.Resampling.BILINEAR)
      return np.asarray(plain)
  except (OSError, UnidentifiedImageError) as error:
    raise LabError(f'{place}: cannot read this picture: '
                   f'{str(error).splitlines()[0]}') from error
