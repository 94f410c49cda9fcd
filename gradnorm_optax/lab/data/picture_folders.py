"""Pictures in folders: one subfolder for each class."""

import collections
import pathlib
import tempfile

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import hub_loading, pictures
from gradnorm_optax.lab.data.raw import FREE, Raw, counted, few
from gradnorm_optax.lab.support.errors import LabError


def read(config: schema.Data, paths: list[tuple[pathlib.Path, int]]) -> Raw:
  """Reads folders with one subfolder of pictures for each class.

  Subfolders `train`, `validation` and `test` that hold those are taken as such.

  Args:
    config: What to resize, and whether broken pictures are left out.
    paths: Folders, and the part that each is.
  """
  parts, notes = [], []
  with tempfile.TemporaryDirectory() as cache:
    for i, (path, code) in enumerate(paths):
      here, told = _one(path, code, f'{cache}/{i}')
      parts += here
      notes += told
    raw = pictures.decoded(str(paths[0][0]), parts, 'image', 'label', config)
  raw.notes.extend(notes)
  return raw


def _one(path: pathlib.Path, code: int, cache: str
         ) -> tuple[list[hub_loading.Part], list[str]]:
  """The parts of one folder, and what in it is no picture."""
  if not path.is_dir():
    raise LabError(f'[data] {path}: no folder, as that of the training part is')
  files = [file.relative_to(path) for file in sorted(path.rglob('*'))
           if file.is_file() and not file.name.startswith('.')]
  if not any(is_picture(file) for file in files):
    raise LabError(f'{path}: no picture in this folder; a folder of tables is '
                   'read with source = "hub"')
  for file in files:
    if file.stem == 'metadata':
      raise LabError(f'{path}: {file} would be read in place of the names of '
                     'the subfolders; move it elsewhere')
  found = hub_loading.load(str(path), path='imagefolder', data_dir=str(path),
                           cache_dir=cache)
  parts, notes = hub_loading.parts(str(path), found)
  if 'label' not in parts[0].examples.column_names:
    raise _unsorted(path, files)
  if code != FREE:
    if len(parts) > 1:
      raise LabError(f'{path}: is to be one part, and holds several itself')
    parts = [parts[0]._replace(code=code)]
  others = len(files) - sum(map(len, found.values()))
  if others > 0:
    notes.append(f'{counted(others, "file")} left out that '
                 f'{"is no picture" if others == 1 else "are no pictures"}')
  full = {path / folder for file in files if is_picture(file)
          for folder in file.parents}
  empty = [str(folder.relative_to(path)) for folder in sorted(path.rglob('*'))
           if folder.is_dir() and not folder.name.startswith('.')
           and folder not in full]
  if empty:
    notes.append(f'{counted(len(empty), "folder")} without a picture: '
                 f'{few(empty)}')
  return parts, notes


def is_picture(file: pathlib.Path) -> bool:
  """Whether a file is called like a picture."""
  from PIL import Image
  return file.suffix.lower() in Image.registered_extensions()


def _unsorted(path: pathlib.Path, files: list[pathlib.Path]) -> LabError:
  """Says why the loader found no classes in the names of the folders."""
  pictures = [file for file in files if is_picture(file)]
  usual = collections.Counter(len(file.parts) for file in pictures)
  for file in pictures:
    if usual[len(file.parts)] < max(usual.values()):
      return LabError(f'{path}: {file} does not lie as deep as the others; '
                      'keep the pictures in one subfolder for each class')
  names = sorted({str(file.parent) for file in pictures})
  return LabError(f'{path}: all pictures lie in {", ".join(map(repr, names))}: '
                  'keep those of each class in a subfolder, of two classes or '
                  'more')
