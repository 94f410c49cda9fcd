"""Pictures: folders of files, and sets of the Hugging Face hub."""

import collections
import contextlib
import io
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import table_files, tables
from gradnorm_optax.lab.data.raw import Raw, counted
from gradnorm_optax.lab.support.errors import LabError, nearest

CIFAR10 = 'uoft-cs/cifar10'


def folder(config: schema.Data, path: pathlib.Path) -> Raw:
  """Reads a folder with one subfolder of pictures for each class.

  Subfolders `train` and `test` that hold those are taken as such.
  """
  files = [file.relative_to(path) for file in sorted(path.rglob('*'))
           if file.is_file() and not file.name.startswith('.')]
  if not any(_is_picture(file) for file in files):
    raise LabError(f'{path}: no picture in this folder; a folder of tables is '
                   'read with source = "hub"')
  for file in files:
    if file.stem == 'metadata':
      raise LabError(f'{path}: {file} would be read in place of the names of '
                     'the subfolders; move it elsewhere')
  with tempfile.TemporaryDirectory() as cache:
    found = _loaded(str(path), path='imagefolder', data_dir=str(path),
                    cache_dir=cache)
    parts, notes = _parts(str(path), found)
    if 'label' not in parts[0].column_names:
      raise _unsorted(path, files)
    raw = _pictures(str(path), parts, 'image', 'label', config)
  raw.notes.extend(notes)
  others = len(files) - sum(map(len, found.values()))
  if others > 0:
    raw.notes.append(f'{counted(others, "file")} left out that '
                     f'{"is no picture" if others == 1 else "are no pictures"}')
  return raw


def _is_picture(file: pathlib.Path) -> bool:
  from PIL import Image
  return file.suffix.lower() in Image.registered_extensions()


def _unsorted(path: pathlib.Path, files: list[pathlib.Path]) -> LabError:
  """Says why the loader found no classes in the names of the folders."""
  pictures = [file for file in files if _is_picture(file)]
  usual = collections.Counter(len(file.parts) for file in pictures)
  for file in pictures:
    if usual[len(file.parts)] < max(usual.values()):
      return LabError(f'{path}: {file} does not lie as deep as the others; '
                      'keep the pictures in one subfolder for each class')
  names = sorted({str(file.parent) for file in pictures})
  return LabError(f'{path}: all pictures lie in {", ".join(map(repr, names))}: '
                  'keep those of each class in a subfolder, of two classes or '
                  'more')


def hub(config: schema.Data) -> Raw:
  """Reads a set of the hub by name, or a folder that `datasets` can read."""
  name, label = config.path or '', config.label
  if config.source == 'cifar10':
    name, label = config.path or CIFAR10, 'label'
  # What lies here is read afresh; what comes over the network is kept.
  local = pathlib.Path(name).exists()
  for path in sorted(pathlib.Path(name).rglob('*.csv')) if local else ():
    table_files.check_csv(config, path)
  with tempfile.TemporaryDirectory() as cache:
    found = _loaded(name, path=name, name=config.subset,
                    cache_dir=cache if local else None)
    parts, notes = _parts(name, found)
    raw = _read(name, label, parts, config)
  raw.notes.extend(notes)
  return raw


def _read(name: str, label: str, parts: list[Any], config: schema.Data) -> Raw:
  """Reads pictures where there are any, else a table."""
  import datasets
  import pandas
  columns = parts[0].column_names
  if label not in columns:
    raise LabError(f'{name}: no column {label!r} (data.label)'
                   f'{nearest(label, columns)}')
  images = [column for column, feature in parts[0].features.items()
            if isinstance(feature, datasets.Image)
            and column not in config.ignore]
  if len(images) == 1:
    raw = _pictures(name, parts, images[0], label, config)
    unread = set(columns) - {images[0], label, *config.ignore}
    if unread:
      raw.notes.append(f'columns besides {images[0]!r} and {label!r} left out: '
                       f'{", ".join(sorted(unread))}')
    return raw
  frames = [part.to_pandas() for part in parts]
  frame = pandas.concat(frames, ignore_index=True)

  def place(row: int) -> str:
    if row < len(frames[0]):
      return f'{name}: row {row + 1}'
    return f'{name}: row {row + 1 - len(frames[0])} of its part \'test\''

  if config.predict == 'class':
    frame[label] = _named(parts[0], label, frame[label])
  raw = tables.table(config, name, frame, place)
  return raw._replace(tested=len(frames[1]) if len(frames) > 1 else None)


def _named(part: Any, label: str, labels: Any) -> np.ndarray:
  """The names of numbered classes; -1, the hub's sign for none, is None."""
  names = getattr(part.features[label], 'names', None)
  if names is None:
    return np.asarray(labels)
  return np.array([None if i is None or i < 0 else names[int(i)]
                   for i in labels], object)


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


def _loaded(shown: str, **options: Any) -> Any:
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


def _parts(name: str, found: Any) -> tuple[list[Any], list[str]]:
  """What to train and validate on, the set's own test part; what is left."""
  if 'train' not in found:
    raise LabError(f'{name}: no split "train" in this set; it has '
                   f'{", ".join(map(repr, found))}')
  left = [f'{counted(len(part), "example")} of its part {split!r} left out'
          for split, part in found.items() if split not in ('train', 'test')]
  return [found['train'], *([found['test']] if 'test' in found else [])], left


def _pictures(name: str, parts: list[Any], column: str, label: str,
              config: schema.Data) -> Raw:
  """Decodes pictures of one size; the last part, if two, is the test's."""
  import datasets
  items = [item for part in parts for item in part.cast_column(
      column, datasets.Image(decode=False))]
  labels = _named(parts[0], label, [item[label] for item in items])

  def where(example: int, entry: int | None) -> str:
    del entry
    path = items[example][column]['path']
    return path or f'{name}: example {example}'

  modes: collections.Counter[str] = collections.Counter()
  opened = [_opened(item[column], where(i, None), config.resize, modes)
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
  notes = [f'pictures of {x.shape[1]}x{x.shape[2]}x{x.shape[3]}'
           + (', resized' if config.resize else '')]
  notes += [f'{counted(number, "picture")} of mode {mode} read as RGB'
            for mode, number in sorted(modes.items())
            if mode not in ('1', 'L', 'RGB')]
  if colour and (grey := modes['1'] + modes['L']):
    notes.append(f'{counted(grey, "grey picture")} among coloured ones')
  return Raw(name, x, labels, notes, where, image=x.shape[1:],
             tested=len(parts[1]) if len(parts) > 1 else None)


def _opened(item: dict[str, Any], place: str, resize: tuple[int, int] | None,
            modes: collections.Counter[str]) -> np.ndarray:
  """One picture as bytes: (height, width), or (height, width, 3)."""
  from PIL import Image
  try:
    source = item['path'] if item['bytes'] is None else io.BytesIO(
        item['bytes'])
    with Image.open(source) as picture:
      modes[picture.mode] += 1
      if picture.mode[0] in 'IF':
        raise LabError(f'{place}: a picture of more than 8 bits a pixel (mode '
                       f'{picture.mode}); save it with 8 bits')
      plain = picture.convert('L' if picture.mode in ('1', 'L') else 'RGB')
      if resize is not None:
        plain = plain.resize((resize[1], resize[0]), Image.Resampling.BILINEAR)
      return np.asarray(plain)
  except (OSError, SyntaxError, ValueError) as error:
    raise LabError(f'{place}: cannot read this picture: '
                   f'{str(error).splitlines()[0]}') from error
