"""Pictures in folders and on the hub, scikit-learn's sets, pairs of arrays."""

import pathlib

import cifar_files
import datasets
import numpy as np
import pytest
from PIL import Image

from gradnorm_optax import lab
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import division, sources
from gradnorm_optax.lab.data.raw import FREE, TEST
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import make_problem

RNG = np.random.default_rng(0)
CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


def draw(path, pixels):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def animals(tmp_path):
  """Twelve small pictures of each of two classes."""
  pixels = {f'{kind}/{i:02d}.png': RNG.integers(
      50 * (kind == 'dog'), 256, size=(6, 5, 3))
            for kind in ('cat', 'dog') for i in range(12)}
  for name, values in pixels.items():
    draw(tmp_path / 'animals' / name, values)
  return tmp_path / 'animals', pixels


def load(path, **keys):
  return sources.load(schema.Data(source='file', path=str(path), **keys))


def test_a_folder_of_pictures(animals):
  path, pixels = animals
  (path / 'notes.txt').write_text('not a picture')
  found = load(path)
  assert found.image == (6, 5, 3) and found.outputs == 2
  assert '2 classes, the rarest (cat) 50.0%' in found.description
  assert '1 file left out that is no picture' in found.description
  rows = division.divide(np.repeat([0, 1], 12), schema.Data())
  names = sorted(pixels)
  x = np.stack([pixels[name] for name in names]).astype(np.float64)
  mean, std = x[rows[0]].mean((0, 1, 2)), x[rows[0]].std((0, 1, 2))
  for part, at in zip(found[:3], rows, strict=True):
    np.testing.assert_allclose(part.x, (x[at] - mean) / std, atol=1e-4)
    np.testing.assert_array_equal(part.y, [names[i][0] == 'd' for i in at])


def test_pictures_of_two_sizes(animals):
  path, _ = animals
  draw(path / 'dog' / '05.png', RNG.integers(256, size=(8, 5, 3)))
  with pytest.raises(LabError, match=(
      r'dog/05.png: 8x5 pixels, .* 6x5; set data.resize = \[height, width\]')):
    load(path)
  assert load(path, resize=(4, 3)).image == (4, 3, 3)


def test_grey_pictures_and_one_that_is_broken(animals):
  path, _ = animals
  for i, file in enumerate(path.rglob('*.png')):
    draw(file, RNG.integers(256, size=(6, 5)))
    if i == 7:
      broken = file
  assert load(path).image == (6, 5, 1)
  broken.write_bytes(broken.read_bytes()[:40])
  with pytest.raises(LabError, match=f'{broken.name}: cannot read this pict'):
    load(path)


@pytest.mark.parametrize('orientation', [3, 6, 8])
def test_pictures_are_turned_as_the_camera_says(animals, orientation):
  """One class comes from a camera that was held otherwise."""
  path, pixels = animals
  wanted = load(path)
  turns = {3: 2, 6: 1, 8: 3}[orientation]  # counter-clockwise, as stored
  exif = Image.Exif()
  exif[0x0112] = orientation
  for name, values in pixels.items():
    if name.startswith('dog'):
      Image.fromarray(np.rot90(values, turns).astype(np.uint8)).save(
          path / name, exif=exif)
  found = load(path)
  np.testing.assert_array_equal(found.train.x, wanted.train.x)
  assert '12 pictures turned upright' in found.description
  assert 'turned upright' not in wanted.description


def test_broken_pictures_are_left_out_and_counted(animals):
  path, pixels = animals
  names = sorted(pixels)
  for name in (names[2], names[15]):
    (path / name).write_bytes(b'no picture')
  with pytest.raises(LabError, match=(
      r'02.png: cannot read this picture: .*(2 of 24 pictures).*data.missing')):
    load(path)
  found = load(path, missing='drop')
  assert sum(len(part.y) for part in found[:3]) == 22
  assert '2 pictures that cannot be read left out' in found.description
  kept = np.stack([pixels[name] for i, name in enumerate(names)
                   if i not in (2, 15)])
  rows = division.divide(np.repeat([0, 1], 11), schema.Data())
  fitted = found.preprocessing
  np.testing.assert_allclose(
      found.test.x * fitted.scale + fitted.mean, kept[rows[2]], atol=1e-3)


def test_a_class_without_a_picture_is_told(animals):
  path, _ = animals
  (path / 'bird').mkdir()
  (path / '.hidden').mkdir()
  assert '1 folder without a picture: bird' in load(path).description


def test_a_folder_for_the_test(animals, tmp_path):
  path, _ = animals
  for kind in ('bird', 'dog'):
    for i in range(3):
      draw(tmp_path / 'later' / kind / f'{i}.png',
           RNG.integers(256, size=(6, 5, 3)))
  found = load(path, test=str(tmp_path / 'later'))
  assert [len(part.y) for part in found[:3]] == [20, 4, 6]
  assert found.preprocessing.classes == ('bird', 'cat', 'dog')
  np.testing.assert_array_equal(found.test.y, [0] * 3 + [2] * 3)
  assert '1 of 3 classes without a training example' in found.description


def test_pictures_that_lose_something(animals):
  path, pixels = animals
  name = sorted(pixels)[3]
  alpha = np.concatenate([pixels[name], pixels[name][..., :1]], -1)
  draw(path / name, alpha)
  assert '1 picture of mode RGBA read as RGB' in load(path).description
  Image.fromarray(np.full((6, 5), 40000, np.uint16)).save(path / name)
  with pytest.raises(LabError, match='03.png: .*more than 8 bits.*I;16'):
    load(path)


@pytest.mark.parametrize('names, words', [
    (['a.png', 'b.png'], r"all pictures lie in '\.': keep those of each class"),
    (['cat/a.png'], "all pictures lie in 'cat': keep .* of two classes"),
    (['cat/a.png', 'dog/b.png', 'c.png'], r'c\.png does not lie as deep'),
    (['cat/a.png', 'dog/b.png', 'dog/old/c.png'], 'dog/old/c.png does not lie'),
    (['cat/a.png', 'dog/b.png', 'metadata.csv'],
     'metadata.csv would be read in place of the names of the subfolders'),
    (['a.csv'], 'no picture in this folder; .* read with source = "hub"')])
def test_pictures_without_classes(tmp_path, names, words):
  for name in names:
    path = tmp_path / name
    if path.suffix == '.csv':
      path.write_text('file_name,age\ncat/a.png,3\n')
    else:
      draw(path, RNG.integers(256, size=(4, 4)))
  with pytest.raises(LabError, match=words):
    load(tmp_path)


def test_parts_of_a_folder(animals):
  path, _ = animals
  for name, number in (('train', 12), ('validation', 3), ('test', 4)):
    for kind in ('cat', 'dog'):
      for i in range(number):
        draw(path.parent / 'parts' / name / kind / f'{i}.png',
             RNG.integers(256, size=(4, 4)))
  found = load(path.parent / 'parts')
  assert [len(part.y) for part in found[:3]] == [24, 6, 8]
  assert 'no picture' not in found.description


def test_cifar10_through_the_same_code(tmp_path):
  kept = cifar_files.write(tmp_path / 'cifar', RNG)
  read = lab.load(CONFIGS / 'full' / 'cifar10_weight_norm.toml', [
      f'data.path={tmp_path}/cifar', 'data.validation=0.2'])
  found = sources.load(read.data)
  assert [len(part.y) for part in found[:3]] == [48, 12, 20]
  assert found.image == (32, 32, 3) and found.outputs == 10
  # The test part is the set's own, scaled by the training part.
  np.testing.assert_array_equal(found.test.y, np.arange(20) % 10)
  rows = division.divide(np.arange(80) % 10, read.data,
                         part=np.repeat([FREE, TEST], [60, 20]))
  known = kept['train'][rows[0]].astype(np.float64)
  np.testing.assert_allclose(
      found.test.x, (kept['test'] - known.mean((0, 1, 2)))
      / known.std((0, 1, 2)), atol=1e-4)


def test_a_set_of_the_hub_that_is_a_table(tmp_path):
  datasets.disable_progress_bars()
  features = datasets.Features({
      'a': datasets.Value('float64'), 'b': datasets.Value('float64'),
      'kind': datasets.ClassLabel(names=['no', 'yes'])})
  (tmp_path / 'set').mkdir()
  for split, kinds in (('train', [0, 1] * 20), ('validation', [0] * 7),
                       ('test', [1, 0, -1, 1, 0, 1])):  # -1: no label
    x = RNG.normal(size=(len(kinds), 2))
    datasets.Dataset.from_dict(
        {'a': x[:, 0], 'b': x[:, 1], 'kind': kinds}, features).to_parquet(
            str(tmp_path / 'set' / f'{split}.parquet'))
  keys = {'source': 'hub', 'path': str(tmp_path / 'set'), 'unlabeled': 'drop'}
  found = sources.load(schema.Data(**keys, label='kind'))
  assert [len(part.y) for part in found[:3]] == [40, 7, 5]
  np.testing.assert_array_equal(found.test.y, [1, 0, 1, 0, 1])
  assert '1 of 2 classes without a validation example' in found.description
  assert '1 unlabeled row left out' in found.description
  with pytest.raises(LabError, match="no column 'knd'.*nearest .* 'kind'"):
    sources.load(schema.Data(**keys, label='knd'))


def test_tables_of_a_folder(tmp_path):
  datasets.disable_progress_bars()
  for name, text in (('train', 'a,kind\n' + '1,0\n2,1\n' * 20),
                     ('test', 'a,kind\n1,0\n,1\n')):
    (tmp_path / f'{name}.csv').write_text(text)
  keys = {'source': 'hub', 'path': str(tmp_path), 'label': 'kind'}
  with pytest.raises(LabError, match="row 2 of its part 'test', column 'a': m"):
    sources.load(schema.Data(**keys))
  (tmp_path / 'test.csv').write_text('b,kind\n1,0\n')
  with pytest.raises(LabError, match='column names don.t match') as found:
    sources.load(schema.Data(**keys))
  assert 'network' not in str(found.value)


def test_a_hub_that_cannot_be_reached(monkeypatch):
  monkeypatch.setattr(datasets.config, 'HF_HUB_OFFLINE', True)
  monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
  with pytest.raises(LabError, match='no-such/set: cannot load .*network'):
    sources.load(schema.Data(source='hub', path='no-such/set'))


@pytest.mark.parametrize('name, shape, outputs', [
    ('iris', (4,), 3), ('wine', (13,), 3), ('breast_cancer', (30,), 2),
    ('diabetes', (10,), 1)])
def test_bundled_sets(name, shape, outputs):
  found = sources.load(schema.Data(source=name))
  assert found.train.x.shape[1:] == shape and found.outputs == outputs
  np.testing.assert_allclose(found.train.x.mean(0), 0, atol=1e-5)
  kind = 'R²' if name == 'diabetes' else 'accuracy'
  assert found.objective.measure.name == kind
  assert make_problem.join(schema.MLP(kind='mlp'), found).dataset is found


def test_a_pair_of_arrays(tmp_path):
  x, y = RNG.normal(size=(50, 3)), np.arange(50) % 2
  np.save(tmp_path / 'x.npy', x)
  np.save(tmp_path / 'y.npy', y)
  found = load(tmp_path / 'x.npy', labels=str(tmp_path / 'y.npy'))
  assert found.train.x.shape == (34, 3)
  with pytest.raises(LabError, match='labels: .*z.npy does not exist'):
    load(tmp_path / 'x.npy', labels=str(tmp_path / 'z.npy'))
  with pytest.raises(ValueError, match='labels and a path that ends in .npy'):
    load(tmp_path / 'x.npy')
