"""New pictures: one, or all in a folder, whatever its subfolders are called."""

import collections
import pathlib

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import hub_loading, picture_folders, pictures
from gradnorm_optax.lab.data.raw import Raw, counted
from gradnorm_optax.lab.data.stored import Stored
from gradnorm_optax.lab.serving.given import Given
from gradnorm_optax.lab.support.errors import LabError


def read(path: pathlib.Path, data: Stored, config: schema.Data) -> Given:
  """Reads pictures; they are called by their paths in the folder.

  Those that cannot be read are refused, or answered with nothing where training
  left them out (`missing = "drop"`).

  Raises:
    LabError: The model was trained on no pictures, on other sizes or on grey
      ones alone; a picture cannot be read.
  """
  shape = data.image
  if shape is None or config.source not in (
      'file', 'hub', 'cifar10', 'idx'):
    raise LabError(f'{path}: the model was not trained on files of pictures, '
                   f'but on examples of shape {data.shape}; give its inputs as '
                   f'.npz, an array {config.inputs!r}')
  hub_loading.library(path)  # it brings what decodes pictures
  found = sorted(file for file in path.rglob('*') if file.is_file() and (
      picture_folders.is_picture(file))) if path.is_dir() else [path]
  if not found:
    raise LabError(f'{path}: no picture in this folder')
  names = [file.relative_to(path).as_posix() for file in found] if (
      path.is_dir()) else [path.name]
  x = np.zeros((len(found), *shape), np.uint8)
  known, notes = np.ones(len(found), bool), []
  seen: collections.Counter[str] = collections.Counter()
  for i, file in enumerate(found):
    try:
      picture = pictures.opened({'bytes': None, 'path': str(file)}, str(file),
                                config.resize, seen)
    except (OSError, SyntaxError, ValueError) as error:
      if config.missing != 'drop':
        raise LabError(
            f'{file}: cannot read this picture: '
            f'{(str(error).splitlines() or [""])[0]}; mend it or take it away '
            '(training with data.missing = "drop" would leave it unanswered)'
            ) from error
      known[i] = False
      continue
    x[i] = _fitting(picture, shape, file)
  if not known.all():
    notes.append(f'{counted(int((~known).sum()), "picture")} that cannot be '
                 f'read answered with nothing ({names[int(known.argmin())]}'
                 f'{", ..." if (~known).sum() > 1 else ""})')
  return Given(
      Raw(str(path), x, np.zeros(len(x), np.int64), notes,
          lambda example, entry: str(found[example]), image=shape),
      'file', names, known)


def _fitting(picture: np.ndarray, shape: tuple[int, int, int],
             file: pathlib.Path) -> np.ndarray:
  """The picture in as many channels as the model knows."""
  if picture.shape[:2] != shape[:2]:
    raise LabError(
        f'{file}: {picture.shape[0]}x{picture.shape[1]} pixels; the model was '
        f'trained on {shape[0]}x{shape[1]}: resize it (training with '
        f'data.resize = {list(shape[:2])} would do that)')
  if picture.ndim == 3 and shape[2] == 1:
    raise LabError(f'{file}: a coloured picture, and the model was trained on '
                   'grey ones; save it grey')
  return picture if picture.ndim == 3 else np.repeat(
      picture[..., None], shape[2], -1)
