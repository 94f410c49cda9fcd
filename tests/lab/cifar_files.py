"""Sets of CIFAR-10's shape and columns, of random pixels."""

import datasets
import numpy as np
from PIL import Image

NAMES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog',
         'horse', 'ship', 'truck']


def write(path, generator, train=60, test=20):
  """Writes it as Parquet files; returns the pixels of each part."""
  datasets.disable_progress_bars()
  features = datasets.Features(
      {'img': datasets.Image(), 'label': datasets.ClassLabel(names=NAMES)})
  path.mkdir()
  kept = {}
  for split, count in (('train', train), ('test', test)):
    kept[split] = generator.integers(
        256, size=(count, 32, 32, 3)).astype(np.uint8)
    datasets.Dataset.from_dict(
        {'img': [Image.fromarray(one) for one in kept[split]],
         'label': [i % 10 for i in range(count)]}, features).to_parquet(
             str(path / f'{split}.parquet'))
  return kept
