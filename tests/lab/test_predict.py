"""New examples of every kind that the lab trains on, asked by the command."""

import numpy as np
import pandas
import pytest
from PIL import Image

from gradnorm_optax import lab
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.serving import new_examples

RNG = np.random.default_rng(0)
TRAIN = {'train': {'steps': 4, 'eval_every': 4, 'batch_size': 8},
         'methods': {'adam': {'optimizer': 'adam'}}, 'run': {'look': 0}}
NET = {'net': {'kind': 'mlp', 'depth': 1, 'width': 4}}
CELL = {'net': {'kind': 'recurrent', 'cell': 'gru', 'width': 4}}


def arrays(count=40):
  return RNG.normal(size=(count, 3)), np.arange(count) % 2


def table():
  frame = pandas.DataFrame({
      'size': np.arange(40.0) % 7,
      'tool': np.where(np.arange(40) % 3, 'A', 'B'),
      'found': np.where(np.arange(40) % 2, 'yes', 'no')})
  return frame.drop(columns='found'), frame.found


def texts():
  return ['ab' * (1 + i % 3) + 'c' * (i % 2) for i in range(40)], (
      np.arange(40) % 2)


def some():
  return np.zeros((2, 3)), None


def newer():
  return pandas.DataFrame({'tool': ['B', 'Z'], 'size': [3.0, 4.0]})


def draw(path, size=(6, 5, 3)):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(RNG.integers(256, size=size).astype(np.uint8)).save(path)


def pictures(folder):
  for kind in ('cat', 'dog'):
    for i in range(12):
      draw(folder / 'animals' / kind / f'{i:02d}.png')
  return {'source': 'file', 'path': str(folder / 'animals')}


def waves(folder):
  """Two channels of unequal length in the cells of a table."""
  sizes = RNG.integers(2, 6, 40)
  pandas.DataFrame({
      'left': [RNG.normal(size=n) for n in sizes],
      'right': [RNG.normal(size=n) for n in sizes],
      'kind': np.where(np.arange(40) % 2, 'up', 'down'),
  }).to_parquet(folder / 'waves.parquet')
  return {'source': 'file', 'path': str(folder / 'waves.parquet'),
          'label': 'kind'}


def function(name, **keys):
  return lambda folder: {
      'source': 'function', 'target': f'{__name__}:{name}', **keys}


SOURCES = {
    'pictures': (pictures, NET), 'waves': (waves, CELL),
    'texts': (function('texts'), CELL), 'arrays': (function('arrays'), NET),
    'table': (function('table', categorical=['tool'], label='found'), NET),
    'text': (lambda folder: {'source': 'text', 'length': 8, 'path': str(
        folder / 'book.txt')}, CELL),
    'characters': (lambda folder: {'source': 'characters', 'length': 8,
                                   'size': 100}, CELL)}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """Trains on a source once: its run."""
  done = {}

  def train(name, **keys):
    if (name, *keys) not in done:
      folder = tmp_path_factory.mktemp(name)
      source, models = SOURCES[name]
      (folder / 'book.txt').write_text('the cat sat on the mat. ' * 40)
      lab.train({**TRAIN, 'data': {**source(folder), **keys},
                 'models': models}, out=folder / 'run', quiet=True)
      done[name, *keys] = folder / 'run'
    return done[name, *keys]

  return train


@pytest.fixture
def asked(run, gradnorm, tmp_path):
  """Asks by the command: (code, answers as a table, what was said)."""
  def ask(name, file, **keys):
    out = tmp_path / 'answers.csv'
    code, said, err = gradnorm('predict', run(name, **keys), file, '-o', out)
    return code, pandas.read_csv(out, index_col=0) if code == 0 else None, (
        ' '.join(said.split()) + err)
  return ask


def test_pictures_are_called_by_their_files(run, asked, tmp_path):
  new = tmp_path / 'new'
  known = run('pictures').parent / 'animals' / 'dog' / '03.png'
  for name in ('b/2.png', 'a.png', 'b/1.png'):
    draw(new / name)
  (new / 'b' / '1.png').write_bytes(known.read_bytes())
  (new / 'notes.txt').write_text('no picture')
  code, found, said = asked('pictures', new)
  assert code == 0, said
  assert found.index.name == 'file'
  assert list(found.index) == ['a.png', 'b/1.png', 'b/2.png']
  assert list(found.columns) == ['prediction', 'p(cat)', 'p(dog)']
  # The picture of the training set is prepared as it was there.
  loaded = lab.load_run(run('pictures'))
  one = new_examples.read(known, loaded.data, loaded.config.data)
  every = np.concatenate([
      part.x for part in sources.load(loaded.config.data)[:3]])
  assert np.abs(every - one.x).max((1, 2, 3)).min() < 1e-6
  np.testing.assert_allclose(
      found.loc['b/1.png', ['p(cat)', 'p(dog)']].astype(float),
      loaded.predict(one.x)[0], atol=1e-6)


def test_a_broken_picture_is_what_it_was_in_training(asked, tmp_path):
  draw(tmp_path / 'new' / 'a.png')
  (tmp_path / 'new' / 'b.png').write_bytes(b'no picture')
  code, _, said = asked('pictures', tmp_path / 'new')
  assert code == 2 and 'b.png: cannot read this picture' in said
  code, found, said = asked('pictures', tmp_path / 'new', missing='drop')
  assert code == 0, said
  assert '1 picture that cannot be read answered with nothing (b.png)' in said
  assert found.prediction.isna().tolist() == [False, True]


@pytest.mark.parametrize('size, words', [
    ((7, 5, 3), "7x5 pixels; the model was trained on 6x5"),
    ((6, 5), None)])
def test_pictures_of_other_kinds(asked, tmp_path, size, words):
  draw(tmp_path / 'one.png', size)
  code, found, said = asked('pictures', tmp_path / 'one.png')
  assert (code == 2 and words in said) if words else (
      code == 0 and list(found.index) == ['one.png']), said


def test_sequences_in_the_cells_of_a_table(run, asked, tmp_path):
  trained = run('waves').parent / 'waves.parquet'
  frame = pandas.read_parquet(trained)
  frame[['right', 'left']].head(3).to_parquet(tmp_path / 'new.parquet')
  code, found, said = asked('waves', tmp_path / 'new.parquet')
  assert code == 0, said
  assert list(found.index) == [1, 2, 3] and found.index.name == 'row'
  # Each alone, and so of its own length, has the answer that it had in company.
  for i in range(3):
    frame.iloc[i:i + 1].to_parquet(tmp_path / 'one.parquet')
    _, one, _ = asked('waves', tmp_path / 'one.parquet')
    np.testing.assert_allclose(
        one['p(up)'].iloc[0], found['p(up)'].iloc[i], atol=1e-6)
  frame.drop(columns='left').to_parquet(tmp_path / 'less.parquet')
  code, _, said = asked('waves', tmp_path / 'less.parquet')
  assert code == 2 and "lacks 'left'" in said
  (tmp_path / 'new.csv').write_text('left,right\n1,2\n')
  code, _, said = asked('waves', tmp_path / 'new.csv')
  assert code == 2 and 'give a .parquet with a list in each cell' in said


def test_texts_by_the_alphabet_of_training(run, asked, tmp_path):
  # Another alphabet, whose letters would have other numbers.
  np.savez(tmp_path / 'new.npz', x=np.array(['bc', 'cab', 'zab']))
  code, found, said = asked('texts', tmp_path / 'new.npz')
  assert code == 0, said
  assert "1 example with symbols that no training example had ('z')" in said
  assert list(found.index) == [0, 1, 2] and found.index.name == 'example'
  loaded = lab.load_run(run('texts'))
  x = np.zeros((2, *loaded.data.shape), np.int32)
  x[0, :2], x[1, :3] = [1, 2], [2, 0, 1]
  np.testing.assert_allclose(
      found[['p(0)', 'p(1)']][:2], loaded.predict(
          x, np.array([2, 3], np.int32)), atol=1e-6)
  assert found.prediction.isna().tolist() == [False, False, True]
  (tmp_path / 'new.txt').write_text('bc\n\ncab\n')
  code, lines, said = asked('texts', tmp_path / 'new.txt')
  assert code == 0, said
  assert list(lines.index) == [1, 3] and lines.index.name == 'row'
  np.testing.assert_allclose(lines['p(1)'], found['p(1)'][:2], atol=1e-6)
  np.savez(tmp_path / 'odd.npz', x=np.ones((2, 4), int))
  code, _, said = asked('texts', tmp_path / 'odd.npz')
  assert code == 2 and 'symbols that are numbers, and the model was' in said


def test_what_a_function_gives(asked, tmp_path):
  code, found, said = asked('arrays', f'{__name__}:some')
  assert code == 0, said
  assert list(found.index) == [0, 1] and found['p(0)'][0] == found['p(0)'][1]
  code, found, said = asked('table', f'{__name__}:newer')
  assert code == 0, said
  assert "1 row whose tool no training example had ('Z')" in said
  assert list(found.columns) == ['prediction', 'p(no)', 'p(yes)']
  (tmp_path / 'new.csv').write_text('tool,size\nB,3\nZ,4\n')
  _, same, _ = asked('table', tmp_path / 'new.csv')
  assert list(same.index) == [2, 3]  # the file's lines
  np.testing.assert_allclose(same['p(no)'], found['p(no)'], atol=1e-6)


@pytest.mark.parametrize('name, made, words', [
    ('arrays', 'new.csv', "not trained on a table; give its inputs as .npz, an "
     "array 'x' of shape (n, 3)"),
    ('arrays', 'four.npz', 'examples of shape (4,); the model was trained on '
     'examples of shape (3,)'),
    ('arrays', 'new.txt', 'not trained on texts'),
    ('arrays', 'one.png', 'not trained on files of pictures'),
    ('arrays', 'new.xlsx', 'unknown kind of file'),
    ('arrays', 'nowhere.npz', 'does not exist'),
    ('table', 'four.npz', "with names in 'tool'; give a .csv or .parquet"),
    ('text', 'new.txt', 'trained to continue a text (data.source = "text")'),
    ('characters', 'new.txt', 'data.source = "characters"), which no file is '
     'prepared like; from Python, lab.load_run(RUN).predict(x) answers x of '
     'shape (n, 8), int32')])
def test_what_makes_no_sense_is_refused(asked, tmp_path, name, made, words):
  for other in ('new.csv', 'new.txt', 'new.xlsx'):
    (tmp_path / other).write_text('a\n1\n')
  np.savez(tmp_path / 'four.npz', x=np.ones((2, 4)))
  draw(tmp_path / 'one.png')
  code, _, said = asked(name, tmp_path / made)
  assert code == 2 and words in said, said


def test_shorter_sequences_than_the_model_knows(gradnorm, tmp_path):
  """Trained on sequences of one length, it has no place for padding."""
  np.savez(tmp_path / 'all.npz', x=RNG.normal(size=(40, 4, 2)),
           y=np.arange(40) % 2)
  lab.train({**TRAIN, 'models': CELL, 'data': {
      'source': 'file', 'path': str(tmp_path / 'all.npz')}},
            out=tmp_path / 'run', quiet=True)
  np.savez(tmp_path / 'new.npz', x=np.ones((2, 4, 2)), lengths=[4, 3])
  ask = 'predict', tmp_path / 'run', tmp_path / 'new.npz', '-o', (
      tmp_path / 'out.csv')
  code, _, err = gradnorm(*ask)
  assert code == 2 and 'example 1: 3 steps; the model was trained on seq' in err
  np.savez(tmp_path / 'new.npz', x=np.ones((2, 4, 2)), lengths=[4, 4])
  assert gradnorm(*ask)[0] == 0


def test_rows_are_called_by_the_files_lines(run, asked, tmp_path):
  (tmp_path / 'new.csv').write_text(
      'size,tool\n1,A\n\n2,"A\nB"\n3,B\n')
  code, found, said = asked('table', tmp_path / 'new.csv')
  assert code == 0, said
  assert list(found.index) == [2, 4, 6]
