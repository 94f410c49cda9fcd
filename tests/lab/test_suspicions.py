"""What can be read and is yet a mistake: told with names and counts."""

import numpy as np
import pandas
import pytest

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import sources, suspicions
from gradnorm_optax.lab.data.raw import Raw

N = 60
RNG = np.random.default_rng(0)
PLAIN = RNG.normal(size=N)
KINDS = np.array(['a', 'b'])[np.arange(N) % 2]
NUMBERS = RNG.normal(size=N)


def notes(y=KINDS, number=False, **columns):
  columns = {'plain': PLAIN, **columns}
  raw = Raw('set', np.stack([np.asarray(c, float) for c in columns.values()],
                            1), np.asarray(y), [],
            lambda row, entry: f'row {row + 2}, column {list(columns)[entry]}',
            columns=list(columns))
  return '; '.join(suspicions.of_labels(raw)
                   + suspicions.of_inputs(raw, number))


def changed(values, **at):
  values = np.array(values, float)
  for row, value in at.items():
    values[int(row[1:])] = value
  return values


TINY = changed(np.full(N, .1), _3=.1 + 2e-17, _4=np.nextafter(.1, 1))


@pytest.mark.parametrize('given, words', [
    ({'id': np.arange(N) + 17}, "'id' is a whole number, another in every row"),
    ({'id': RNG.permutation(N)}, "'id' is a whole number, another in every"),
    ({'copy': np.arange(N) % 2}, "'copy' tells the label by itself"),
    ({'copy': 7 - 3 * (np.arange(N) % 2)}, "'copy' tells the label by itself"),
    ({'copy': 3 - 2 * NUMBERS, 'y': NUMBERS, 'number': True},
     "'copy' tells the label by itself"),
    ({'unit': np.full(N, 7)}, 'one value alone, which teach nothing: unit'),
    ({'unit': TINY}, 'one value alone, which teach nothing: unit'),
    ({'unit': 2. ** 53 + np.arange(N) // 8}, "2**53 and more in 'unit' are"),
    ({'far': changed(PLAIN, _7=1e12)},
     'row 9, column far: 1e+12 is so far from the others that they look alike'),
    ({'y': np.where(np.arange(N) == 3, 'A ', KINDS)},
     "differ by case or blanks alone: 'A ' / 'a'; are they"),
    ({'y': np.array(['no  way', 'No way', 'x'] * 20, object)},
     "'No way' / 'no  way'")])
def test_it_is_told(given, words):
  assert words in notes(**given)


@pytest.mark.parametrize('given', [
    {}, {'year': 2000 + np.arange(N) // 2}, {'half': np.arange(N) / 2},
    {'near': changed(np.arange(N) % 2, _9=0)},  # all but one
    {'near': NUMBERS + 1e-3 * PLAIN, 'y': NUMBERS, 'number': True},
    {'large': 1e9 + PLAIN},
    {'counts': np.where(np.arange(N) % 20 == 0, 1e6, 0)},
    {'tailed': np.exp(2 * PLAIN)}, {'small': 1e-17 * PLAIN},
    {'holes': changed(PLAIN, _7=np.nan)}, {'y': np.array(['a', 'b b'] * 30)}])
def test_it_is_no_mistake(given):
  assert notes(**given) == ''


def test_names_that_differ_by_blanks(tmp_path):
  path = tmp_path / 'a.csv'
  pandas.DataFrame({'town': ['Oslo', 'oslo ', 'Rome'] * 20, 'y': KINDS}).to_csv(
      path, index=False)
  assert ("names in column 'town' that differ by case or blanks alone: 'Oslo' /"
          " 'oslo '") in sources.load(schema.Data(
              source='file', path=str(path), categorical=('town',))).description


@pytest.mark.parametrize('integers', [False, True])
def test_examples_on_both_sides_of_the_division(integers):
  x = np.arange(2 * N).reshape(N, 2)
  x[10] = x[20] = x[30] = x[0]
  raw = Raw('set', x if integers else x.astype(float), KINDS, [], str)
  parts = [np.arange(20), np.arange(20, 30), np.arange(30, N)]
  assert suspicions.of_division(raw, parts) == [
      'examples whose inputs the training part holds, too: 1 of 10 in '
      'validation, 1 of 30 in the test']
  x[20] = x[30] = -1
  raw = raw._replace(x=x if integers else x.astype(float))
  assert suspicions.of_division(raw, parts) == []
  padded = raw._replace(lengths=np.arange(N, dtype=np.int32))
  assert suspicions.of_division(padded, parts) == []


def series():
  rows = [[1., 2.] * (1 + i % 3) for i in range(N)]
  rows[5] = [None, None]
  return rows, KINDS


def test_a_series_without_a_number():
  found = sources.load(schema.Data(
      source='function', target=f'{__name__}:series', missing='mean'))
  assert '1 example without a single number, filled throughout' in (
      found.description)


def test_an_unused_array_is_named(tmp_path):
  np.savez(tmp_path / 'a.npz', x=PLAIN, y=KINDS, weights=PLAIN)
  assert 'a.npz: not used: weights' in sources.load(schema.Data(
      source='file', path=str(tmp_path / 'a.npz'))).description
