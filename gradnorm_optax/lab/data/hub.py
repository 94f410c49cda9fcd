"""Sets of the Hugging Face hub: pictures or tables."""

import pathlib
import tempfile

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import (
  hub_loading,
  pictures,
  table_files,
  tables,
)
from gradnorm_optax.lab.data.raw import Raw
from gradnorm_optax.lab.support import user_code
from gradnorm_optax.lab.support.errors import LabError, nearest

CIFAR10 = 'uoft-cs/cifar10'


def read(config: schema.Data) -> Raw:
  """Reads a set of the hub by name, or a folder that `datasets` can read."""
  name, label = config.path or '', config.label
  if user_code.origin(name):
    name = str(user_code.beside(name))
  if config.source == 'cifar10':
    name, label = config.path or CIFAR10, 'label'
  # What lies here is read afresh; what comes over the network is kept.
  local = pathlib.Path(name).exists()
  for path in sorted(pathlib.Path(name).rglob('*.csv')) if local else ():
    table_files.check_csv(config, path)
  with tempfile.TemporaryDirectory() as cache:
    found = hub_loading.load(name, path=name, name=config.subset,
                             cache_dir=cache if local else None)
    parts, notes = hub_loading.parts(name, found)
    raw = _read(name, label, parts, config)
  raw.notes.extend(notes)
  return raw


def _read(name: str, label: str, parts: list[hub_loading.Part],
          config: schema.Data) -> Raw:
  """Reads pictures where there are any, else a table."""
  import datasets
  import pandas
  columns = parts[0].examples.column_names
  if label not in columns:
    raise LabError(f'{name}: no column {label!r} (data.label)'
                   f'{nearest(label, columns)}')
  images = [column for column, feature in parts[0].examples.features.items()
            if isinstance(feature, datasets.Image)
            and column not in config.ignore]
  if len(images) == 1:
    for key in ('group', 'time'):
      if getattr(config, key):
        raise LabError(f'[data] {key} is for tables, and {name} holds pictures;'
                       ' leave it out')
    raw = pictures.decoded(name, parts, images[0], label, config)
    unread = set(columns) - {images[0], label, *config.ignore}
    if unread:
      raw.notes.append(f'columns besides {images[0]!r} and {label!r} left out: '
                       f'{", ".join(sorted(unread))}')
    return raw
  frames = [part.examples.to_pandas() for part in parts]
  starts = np.cumsum([0, *map(len, frames)])

  def place(row: int) -> str:
    which = int(np.searchsorted(starts, row, side='right')) - 1
    own = f' of its part {parts[which].split!r}' if which else ''
    return f'{name}: row {row - int(starts[which]) + 1}{own}'

  frame = pandas.concat(frames, ignore_index=True)
  if config.predict == 'class':
    frame[label] = hub_loading.named(parts[0].examples, label, frame[label])
  raw = tables.table(config, name, table_files.TableFile(
      table_files.emptied(config, frame), place, []))
  return raw._replace(part=hub_loading.codes(parts))
