"""What was fitted prepares new examples exactly as the old ones."""

import json

import numpy as np
import pandas
import pytest

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import preprocessing, sources, tables, user_data
from gradnorm_optax.lab.data.preprocessing import Preprocessing
from gradnorm_optax.lab.data.table_files import TableFile

N = 60
RNG = np.random.default_rng(0)
SIZE = RNG.normal(3, 5, N)
TOWN = np.array(['Rome', 'Oslo', 'Bonn'], object)[RNG.integers(3, size=N)]


def given():
  size, town = SIZE.copy(), TOWN.copy()
  size[::7] = np.nan
  town[::11] = None
  return pandas.DataFrame({'town': town, 'size': size}), np.arange(N) % 2


KEYS = {'source': 'function', 'target': f'{__name__}:given',
        'categorical': ('town',)}


@pytest.mark.parametrize('missing', ['mean', 'median'])
def test_new_rows_are_prepared_by_the_old_ones(missing):
  config = schema.Data(**KEYS, missing=missing)
  found = sources.load(config)
  fitted = found.preprocessing
  assert fitted.columns == ('town', 'size')
  assert fitted.names == {'town': ('Bonn', 'Oslo', 'Rome')}
  assert fitted.classes == ('0', '1')
  # Other names in another order, one of them unknown; a hole in each column.
  frame = pandas.DataFrame({'town': ['Ulm', 'Rome', None, 'Bonn'],
                            'size': [1., 2., 3., np.nan]})
  raw = tables.table(config, 'new', TableFile(frame, str, []), np.zeros(4))
  x, owner = preprocessing.entries(fitted, raw)
  np.testing.assert_array_equal(owner, [0, 0, 0, 1])
  fill = fitted.fill
  wanted = np.array([[0, 0, 0, 1], [0, 0, 1, 2], [*fill[:3], 3],
                     [1, 0, 0, fill[3]]])
  np.testing.assert_allclose(preprocessing.scaled(fitted, raw, x),
                             (wanted - fitted.mean) / fitted.scale)


def test_the_value_is_of_the_training_part_and_of_plain_things():
  found = sources.load(schema.Data(**KEYS, missing='mean'))
  fitted = found.preprocessing
  raw = found.train.x * fitted.scale + fitted.mean
  np.testing.assert_allclose(raw.mean(0), fitted.mean, rtol=1e-5)
  np.testing.assert_allclose(raw.std(0), fitted.scale, rtol=1e-5)
  arrays = {key: value for key, value in fitted._asdict().items()
            if isinstance(value, np.ndarray)}
  rest = {key: value for key, value in fitted._asdict().items()
          if key not in arrays}
  assert set(arrays) == {'mean', 'scale', 'fill'}
  assert all(value.dtype == np.float64 for value in arrays.values())
  again = Preprocessing(**arrays, **json.loads(json.dumps(rest)))
  raw = user_data.read(schema.Data(**KEYS, missing='mean'))
  np.testing.assert_array_equal(
      preprocessing.scaled(again, raw, preprocessing.entries(again, raw)[0]),
      preprocessing.scaled(fitted, raw, preprocessing.entries(fitted, raw)[0]))


def numbers():
  return SIZE, 3 * SIZE + 100


def test_numbers_to_predict_come_back():
  found = sources.load(schema.Data(
      source='function', target=f'{__name__}:numbers', predict='number'))
  fitted = found.preprocessing
  x = found.test.x[:, 0] * fitted.scale + fitted.mean
  np.testing.assert_allclose(
      found.test.y * fitted.label_scale + fitted.label_mean, 3 * x + 100,
      rtol=1e-5)
  assert fitted.classes is None and fitted.label_mean.shape == ()


def test_nothing_fills_where_a_missing_cell_is_an_error():
  found = sources.load(schema.Data(source='wine'))
  assert found.preprocessing.fill is None
  assert len(found.preprocessing.columns) == 13
