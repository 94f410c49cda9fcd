"""Idx files, MNIST's format, and so many examples of any set."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import idx_files, sources
from gradnorm_optax.lab.data.stored import Stored
from gradnorm_optax.lab.serving import new_pictures
from gradnorm_optax.lab.support.errors import LabError

RNG = np.random.default_rng(0)
KINDS = {'u1': 0x08, 'i1': 0x09, 'i2': 0x0B, 'i4': 0x0C, 'f4': 0x0D, 'f8': 0x0E}


def idx(values):
  """An array as the format's text describes it."""
  kind = values.dtype.str[1:]
  head = struct.pack('>BBBB', 0, 0, KINDS[kind], values.ndim) + b''.join(
      struct.pack('>I', size) for size in values.shape)
  return head + values.astype('>' + kind).tobytes()


@pytest.fixture
def mnist(tmp_path):
  """A set in MNIST's form: 60 + 20 pictures of 6x5, some files compressed."""
  made = {}
  for part, count in (('train', 60), ('t10k', 20)):
    x = RNG.integers(256, size=(count, 6, 5)).astype(np.uint8)
    y = (np.arange(count) % 4).astype(np.uint8)
    made[part] = x, y
    (tmp_path / f'{part}-images-idx3-ubyte.gz').write_bytes(
        gzip.compress(idx(x)))
    (tmp_path / f'{part}-labels-idx1-ubyte').write_bytes(idx(y))
  return tmp_path, made


def load(path, **keys):
  return sources.load(schema.Data(source='idx', path=str(path), **keys))


def pixels(found, part):
  """The pixels before they were scaled."""
  fitted = found.preprocessing
  return np.rint(part.x * fitted.scale + fitted.mean).astype(int)


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_of_number_and_rank(tmp_path, kind):
  for shape in ((3,), (2, 3), (2, 3, 1, 2)):
    wanted = RNG.integers(0, 100, size=shape).astype(kind)
    for content in (idx(wanted), gzip.compress(idx(wanted))):
      (tmp_path / 'a').write_bytes(content)
      found = idx_files.read(tmp_path / 'a')
      assert found.dtype == kind and found.dtype.isnative
      np.testing.assert_array_equal(found, wanted)


def test_a_folder_keeps_its_own_test_part(mnist):
  path, made = mnist
  found = load(path, validation=0.2)
  assert [len(part.y) for part in found[:3]] == [48, 12, 20]
  assert found.image == (6, 5, 1) and found.outputs == 4
  np.testing.assert_array_equal(pixels(found, found.test)[..., 0],
                                made['t10k'][0])
  np.testing.assert_array_equal(found.test.y, made['t10k'][1])
  known = np.concatenate([pixels(found, found.train),
                          pixels(found, found.validation)])[..., 0]
  assert {one.tobytes() for one in known} == {
      one.tobytes() for one in made['train'][0].astype(int)}
  # By one scale for all pixels, that of the training part.
  assert abs(found.train.x.mean()) < 1e-5
  assert abs(found.train.x.std() - 1) < 1e-5
  assert 'pictures of 6x5x1' in found.description


def test_a_folder_without_a_test_part_and_one_of_several_sets(mnist):
  path, made = mnist
  for file in list(path.iterdir()):
    if file.name.startswith('t10k'):
      file.unlink()
    else:
      file.rename(path / f'emnist-letters-{file.name}')
  assert sum(len(part.y) for part in load(path)[:3]) == 60
  for what, values in zip(('images', 'labels'), made['t10k'], strict=True):
    (path / f'digits-train-{what}.idx{values.ndim}-ubyte').write_bytes(
        idx(values))
  with pytest.raises(LabError, match=(
      "holds 2 sets, 'digits', 'emnist-letters'; name one in data.subset")):
    load(path)
  with pytest.raises(LabError, match="subset.*name is 'emnist-letters'"):
    load(path, subset='emnist-leters')
  assert sum(len(part.y) for part in load(path, subset='emnist-letters')[:3]
             ) == 60


def test_pixel_by_pixel(mnist):
  path, made = mnist
  found = load(path, pixels='sequence')
  assert found.image is None and found.train.lengths is None
  np.testing.assert_array_equal(
      pixels(found, found.test), made['t10k'][0].reshape(20, 30, 1))
  assert found.train.x.dtype == np.float32
  assert abs(found.train.x.std() - 1) < 1e-5


def test_resized_as_other_pictures_are(mnist):
  path, made = mnist
  found = load(path, resize=(3, 4))
  wanted = [np.asarray(Image.fromarray(one).resize(
      (4, 3), Image.Resampling.BILINEAR)) for one in made['t10k'][0]]
  np.testing.assert_array_equal(pixels(found, found.test)[..., 0], wanted)
  assert 'pictures of 3x4x1, resized' in found.description


def test_two_files_of_any_names(tmp_path):
  x = RNG.normal(size=(50, 3)).astype(np.float32)
  y = x[:, 0].astype(np.float64)
  (tmp_path / 'a.idx').write_bytes(idx(x))
  (tmp_path / 'b.idx').write_bytes(idx(y))
  found = load(tmp_path / 'a.idx', labels=str(tmp_path / 'b.idx'),
               predict='number')
  assert found.train.x.shape == (34, 3) and found.image is None
  assert found.objective.measure.name == 'R²'
  # Coloured pictures of whole numbers, and of decimals.
  for kind in ('u1', 'f4'):
    x = RNG.integers(256, size=(40, 4, 4, 3)).astype(kind)
    (tmp_path / 'a.idx').write_bytes(idx(x))
    (tmp_path / 'b.idx').write_bytes(idx((np.arange(40) % 2).astype(np.uint8)))
    found = load(tmp_path / 'a.idx', labels=str(tmp_path / 'b.idx'))
    assert found.train.x.shape == (28, 4, 4, 3)
    np.testing.assert_allclose(found.train.x.std((0, 1, 2)), 1, rtol=1e-5)


def test_a_picture_for_a_model_of_idx_files(mnist):
  path, made = mnist
  found = load(path)
  Image.fromarray(made['t10k'][0][7]).save(path / 'one.png')
  given = new_pictures.read(path / 'one.png', Stored.of(found), schema.Data(
      source='idx', path=str(path)))
  np.testing.assert_array_equal(given.raw.x[0, ..., 0], made['t10k'][0][7])


IMAGES = 'train-images-idx3-ubyte.gz'
LABELS = 'train-labels-idx1-ubyte'
SHORT = idx(np.zeros(60, np.uint8))


@pytest.mark.parametrize('name, content, words', [
    (IMAGES, b'\x89PNG', 'no idx file: it begins with 89 50 4e 47, not'),
    (IMAGES, b'', 'no idx file: it begins with nothing'),
    (IMAGES, b'\0\0\x0a\x01\0\0\0\0', r'with 00 00 0a 01, not .*\(08, 09'),
    (IMAGES, gzip.compress(SHORT)[:-9], 'damaged or cut short'),
    (LABELS, SHORT[:-1], r'67 bytes, where its head of shape \(60,\) and kind '
     '08 asks for 68; it is damaged'),
    (LABELS, SHORT[:6], 'asks for 9'),
    (LABELS, idx(np.zeros(59, np.uint8)), '60 inputs, but 59 labels in .*idx1'),
    (LABELS, idx(np.zeros(0, np.uint8)), r'shape \(0,\) holds no examples'),
    (IMAGES, idx(np.zeros((60, 5, 5), np.uint8)),
     r't10k-.*: inputs of shape \(6, 5\), those of train-.* have \(5, 5\)'),
    (LABELS, None, 'the labels of the train part are not in the folder '
     r'\(train-labels-idx1-ubyte\)'),
    ('t10k-labels-idx1-ubyte', None, r'labels of the test part .*\(t10k-l')])
def test_faults_are_named(mnist, name, content, words):
  path, _ = mnist
  (path / name).unlink()
  if content is not None:
    (path / name).write_bytes(content)
  with pytest.raises(LabError, match=words):
    load(path)


def test_a_folder_that_is_missing_or_another(mnist, tmp_path):
  path, _ = mnist
  with pytest.raises(LabError, match='no/where does not exist.*apt-get install '
                     'dataset-fashion-mnist'):
    load('no/where')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(LabError, match='empty: no idx files in this folder'):
    load(tmp_path / 'empty')
  with pytest.raises(LabError, match='is a folder, in which they are found'):
    load(path, labels='b')
  with pytest.raises(LabError, match='name the file of their labels'):
    load(path / IMAGES)
  with pytest.raises(LabError, match='labels: no-such does not exist'):
    load(path / IMAGES, labels='no-such')
  with pytest.raises(ValueError, match='path and source = "idx" belong'):
    schema.Data(source='idx')
  with pytest.raises(ValueError, match='pixels has no effect here'):
    schema.Data(pixels='sequence')


def test_so_many_examples_of_each_part(mnist):
  path, made = mnist
  whole, found = load(path), load(path, take=(20, 5, 7), seed=0)
  assert [len(part.y) for part in found[:3]] == [20, 5, 7]
  for part, of in zip(found[:3], whole[:3], strict=True):
    rows = {(one.tobytes(), int(y)) for one, y in zip(
        pixels(whole, of), of.y, strict=True)}
    taken = [(one.tobytes(), int(y)) for one, y in zip(
        pixels(found, part), part.y, strict=True)]
    assert len(set(taken)) == len(taken) and set(taken) <= rows
  assert abs(found.train.x.mean()) < 1e-5  # scaled by what was taken
  again, other = load(path, take=(20, 5, 7)), load(
      path, take=(20, 5, 7), seed=1)
  np.testing.assert_array_equal(again.test.x, found.test.x)
  assert (pixels(other, other.test) != pixels(found, found.test)).any()
  assert 'taken of 80 by seed 0' in found.description
  with pytest.raises(LabError, match='take: 21 test examples, but that part ho'
                     'lds 20'):
    load(path, take=(20, 5, 21))
  with pytest.raises(ValueError, match='take has no meaning with source ='):
    schema.Data(source='characters', take=(2, 2, 2))


def test_so_many_rows_keep_their_groups_and_times(tmp_path):
  np.savez(tmp_path / 'a.npz', x=np.arange(80.0)[:, None], y=np.arange(80) % 2,
           lot=np.repeat(np.arange(20), 4), day=np.arange(80))
  found = sources.load(schema.Data(
      source='file', path=str(tmp_path / 'a.npz'), group='lot', time='day',
      take=(30, 5, 6)))
  fitted = found.preprocessing
  lots = [np.rint(part.x[:, 0] * fitted.scale + fitted.mean).astype(int) // 4
          for part in found[:3]]
  np.testing.assert_array_equal(found.groups, lots[2])
  assert lots[0].max() < lots[1].min() and lots[1].max() < lots[2].min()
