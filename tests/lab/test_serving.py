"""A trained model in use: three ways to ask it give one answer."""

import json

import jax
import numpy as np
import pandas
import pytest
from flax import linen as nn, nnx
from jax import export as jax_export
from safetensors.numpy import load_file

from gradnorm_optax import lab
from gradnorm_optax.lab.data import sources, stored
from gradnorm_optax.lab.data.preprocessing import Preprocessing
from gradnorm_optax.lab.serving import export, new_examples
from gradnorm_optax.lab.support.errors import LabError

HERE = __name__


class Dropped(nn.Module):
  """Batch statistics and dropout, in Linen."""

  outputs: int

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.relu(nn.BatchNorm(not train)(nn.Dense(8)(x)))
    return nn.Dense(self.outputs)(nn.Dropout(0.5)(x, deterministic=not train))


class Nnx(nnx.Module):
  """The same in NNX."""

  def __init__(self, outputs, rngs):
    self.first = nnx.Linear(13, 8, rngs=rngs)
    self.norm = nnx.BatchNorm(8, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)
    self.last = nnx.Linear(8, outputs, rngs=rngs)

  def __call__(self, x):
    return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))


def linen(outputs):
  return Dropped(outputs)


def other(outputs, rngs):
  return Nnx(outputs, rngs)


def ragged():
  """Sequences of unequal length, which a class is known of."""
  rng = np.random.default_rng(0)
  sizes = rng.integers(3, 9, 60)
  return [rng.normal(size=(n, 2)) + i % 2 for i, n in enumerate(sizes)], (
      np.arange(60) % 2)


CASES = {
    'linen': {'models': {'net': {
        'kind': 'target', 'target': f'{HERE}:linen'}}},
    'nnx': {'models': {'net': {'kind': 'target', 'target': f'{HERE}:other'}}},
    'wrapped': {'models': {'net': {'kind': 'mlp', 'width': 8}}, 'methods': {
        'one': {'optimizer': 'adam', 'wrap': 'weight_normalized'}}},
    'normalized': {
        'data': {'source': 'digits'}, 'models': {'net': {
            'kind': 'weight_norm_small', 'norm': 'weight', 'depth': 2,
            'width': 4, 'data_init': True}}},
    'recurrent': {
        'data': {'source': 'function', 'target': f'{HERE}:ragged'},
        'models': {'net': {'kind': 'recurrent', 'cell': 'gru', 'width': 4}}},
    'number': {'data': {'source': 'diabetes'},
               'models': {'net': {'kind': 'mlp', 'width': 8}}},
}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """Trains a case once: its folder and its data."""
  done = {}

  def train(name):
    if name not in done:
      config = {
          'data': {'source': 'wine'}, 'methods': {'one': {'optimizer': 'adam'}},
          'train': {'steps': 20, 'eval_every': 5, 'batch_size': 16},
          **CASES[name]}
      folder = tmp_path_factory.mktemp(name) / 'run'
      with jax.numpy_dtype_promotion('standard'):
        lab.train(config, out=folder, quiet=True)
        dataset = sources.load(lab.load(config).data)
      done[name] = folder, dataset
    return done[name]

  return train


@pytest.mark.parametrize('name', CASES)
def test_a_loaded_model_and_its_program_agree(run, name, tmp_path):
  folder, dataset = run(name)
  loaded = lab.load_run(folder)
  part = dataset.test
  x, lengths = part.x[:7], None if part.lengths is None else part.lengths[:7]
  out = loaded.outputs(x, lengths)
  assert out.shape[0] == 7 and np.isfinite(out).all()
  # The best checkpoint, by validation score.
  rows = [json.loads(line) for line in
          (folder / 'metrics.jsonl').read_text().splitlines()]
  best = max(row['validation_score'] for row in rows)
  step = {row['step']: row['validation_score'] for row in rows}[loaded.step]
  assert step == best
  # No data are needed: what is read back is what was written.
  want = stored.Stored.of(dataset)
  for one, two in zip(loaded.data[:-1], want[:-1], strict=True):
    assert one == two
  assert isinstance(loaded.data.preprocessing, Preprocessing)
  for one, two in zip(loaded.data.preprocessing, want.preprocessing,
                      strict=True):
    np.testing.assert_array_equal(one, two)
  # Weights and program, without a line of ours.
  there = export.write(loaded, tmp_path / 'model')
  weights = load_file(there / export.WEIGHTS)
  made = jax_export.deserialize(
      bytearray((there / export.PROGRAM).read_bytes()))
  for count in (7, 2):
    given = [x[:count]] + ([] if lengths is None else [lengths[:count]])
    np.testing.assert_allclose(
        made.call(weights, *given), out[:count], atol=1e-6)
  assert not any('_g' in path or path.endswith('/g') for path in weights)
  card = (there / export.CARD).read_text()
  assert f'step {loaded.step}' in card and 'Roll back' in card
  assert 'forward pass of 1 example: ' in card and 'of 1024 examples' in card
  assert f'training to this checkpoint: {loaded.step} steps, ' in card
  assert not list(tmp_path.glob('*.part'))
  with pytest.raises(LabError, match='exists; give another folder'):
    export.write(loaded, there)


@pytest.mark.parametrize('name', ['linen', 'number'])
def test_the_best_checkpoint_is_judged_and_loaded(run, name):
  folder, dataset = run(name)
  results = json.loads((folder / 'results.json').read_text())
  loaded = lab.load_run(folder)
  assert loaded.step == results['best_checkpoint']
  found = loaded.predict(dataset.test.x)
  if name == 'linen':
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    assert results['test']['score'] == pytest.approx(
        np.mean(found.argmax(1) == dataset.test.y))
  else:
    fitted = dataset.preprocessing
    true = dataset.test.y * fitted.label_scale + fitted.label_mean
    assert results['test']['score'] == pytest.approx(
        1 - ((found - true) ** 2).mean() / true.var(), abs=1e-4)


def test_numbers_come_in_their_own_unit(run):
  folder, dataset = run('number')
  loaded = lab.load_run(folder)
  found = loaded.predict(dataset.test.x)
  fitted = dataset.preprocessing
  np.testing.assert_allclose(
      (found - fitted.label_mean) / fitted.label_scale,
      loaded.outputs(dataset.test.x)[:, 0], atol=1e-5)
  assert 50 < found.mean() < 300  # diabetes: 25 to 346


def test_what_is_no_run_is_refused(run, tmp_path):
  with pytest.raises(LabError, match='no trained model here'):
    lab.load_run(tmp_path)
  with pytest.raises(LabError, match=r'no checkpoint 7; there are \['):
    lab.load_run(run('linen')[0], 7)


TABLE = 'age;city;ill\n' + ''.join(
    f'{20 + i % 50},5;{"Ulm" if i % 3 else "Bonn"};'
    f'{"yes" if i % 50 > 24 else "no"}\n' for i in range(120))


@pytest.fixture(scope='module')
def patients(tmp_path_factory):
  """A run on a German table with names and missing cells."""
  folder = tmp_path_factory.mktemp('patients')
  (folder / 'patients.csv').write_text(TABLE.replace('21,5;Ulm', ';Ulm'))
  (folder / 'config.toml').write_text(f"""
[data]
source = "file"
path = "{folder}/patients.csv"
label = "ill"
categorical = ["city"]
missing = "median"
[models.net]
kind = "mlp"
width = 8
[methods.adam]
optimizer = "adam"
[train]
steps = 100
eval_every = 20
batch_size = 32
[run]
learning_rate = 0.05
""")
  with jax.numpy_dtype_promotion('standard'):
    lab.train(folder / 'config.toml', out=folder / 'run', quiet=True)
  return folder / 'run'


def test_a_table_is_answered_by_the_command(patients, gradnorm, tmp_path):
  new = tmp_path / 'new.csv'
  # Columns in another order, without the label; a city and a cell missing.
  new.write_text('city;age\nUlm;69,5\nBonn;20,5\nKiel;68,5\nUlm;\n')
  out = tmp_path / 'answers.csv'
  code, said, err = gradnorm('predict', patients, new, '-o', out)
  assert code == 0, err
  assert "1 row whose city no training example had ('Kiel')" in said
  assert '1 missing cell filled with the median' in said
  found = pandas.read_csv(out, index_col='row')
  assert list(found.columns) == ['prediction', 'p(no)', 'p(yes)']
  assert list(found.index) == [2, 3, 4, 5]  # the lines of the file
  assert list(found.prediction[:3]) == ['yes', 'no', 'yes']
  np.testing.assert_allclose(found['p(no)'] + found['p(yes)'], 1, rtol=1e-5)
  # The same numbers as from Python.
  loaded = lab.load_run(patients)
  examples = new_examples.read(new, loaded.data, loaded.config.data)
  np.testing.assert_allclose(
      found[['p(no)', 'p(yes)']], loaded.predict(examples.x, None), atol=1e-6)


def test_the_training_part_is_prepared_again_as_it_was(patients):
  """New examples go the way of the old ones, cell by cell."""
  loaded = lab.load_run(patients)
  table = patients.parent / 'patients.csv'
  found = new_examples.read(table, loaded.data, loaded.config.data)
  dataset = sources.load(loaded.config.data)
  every = np.concatenate([part.x for part in dataset[:3]])
  assert found.x.shape == every.shape
  np.testing.assert_allclose(np.sort(found.x, 0), np.sort(every, 0), atol=1e-6)


@pytest.mark.parametrize('text, words', [
    ('city;alter\nUlm;3\n', "lacks 'age' and also has 'alter'"),
    ('city;age\nUlm;old\n', "column 'age': 'old' is no number"),
])
def test_another_table_is_refused_by_name(patients, gradnorm, tmp_path, text,
                                          words):
  new = tmp_path / 'new.csv'
  new.write_text(text)
  code, _, err = gradnorm(
      'predict', patients, new, '-o', tmp_path / 'answers.csv')
  assert code == 2 and words in err, err
  assert not (tmp_path / 'answers.csv').exists()


def test_cells_that_training_did_not_miss_are_refused(
    tmp_path, patients, gradnorm):
  loaded = lab.load_run(patients)
  strict = loaded.config.data.model_copy(update={'missing': 'error'})
  new = tmp_path / 'new.csv'
  new.write_text('city;age\nUlm;\nUlm;30\n')
  with pytest.raises(LabError, match=r"column 'age': missing .* cannot say"):
    new_examples.read(new, loaded.data, strict)
  left = loaded.config.data.model_copy(update={'missing': 'drop'})
  found = new_examples.read(new, loaded.data, left)
  assert found.known.tolist() == [False, True]
  assert '1 row with missing cells answered with nothing' in (
      '; '.join(found.notes))
