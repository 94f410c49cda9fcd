"""The sets that come with scikit-learn: nothing is downloaded."""

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.raw import Raw

SETS = ('digits', 'iris', 'wine', 'breast_cancer', 'diabetes')


def read(config: schema.Data) -> Raw:
  """Reads one of `SETS`; diabetes is a regression, the others classify."""
  from sklearn import datasets
  bunch = getattr(datasets, f'load_{config.source}')()
  name = f'scikit-learn {config.source.replace("_", " ")}'
  image = None
  columns: list[str] | None = list(bunch.feature_names)
  if config.source == 'digits':
    name, image, columns = f'{name}, 8x8 pixels', (8, 8, 1), None

  def where(example: int, entry: int | None) -> str:
    return f'{name}: example {example}, entry {entry}'

  return Raw(name, np.asarray(bunch.data, np.float64), bunch.target, [], where,
             image=image, columns=columns)
