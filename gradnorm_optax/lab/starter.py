"""A small example to start from, written by `gradnorm init`."""

import pathlib

from gradnorm_optax.lab.support import files
from gradnorm_optax.lab.support.errors import LabError

TEMPLATE = pathlib.Path(__file__).parent / 'template'


def write(folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes a configuration, data and a model that work as they are.

  Raises:
    LabError: One of the files exists; nothing is written then.
  """
  pairs = [(source, folder / source.name)
           for source in sorted(TEMPLATE.iterdir()) if source.is_file()]
  for _, path in pairs:
    if path.exists():
      raise LabError(f'{path} exists; give another folder')
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise LabError(f'{folder}: cannot write ({error.strerror})') from error
  for source, path in pairs:
    files.write(path, source.read_text(encoding='utf-8'))
  return [path for _, path in pairs]
