"""Pictures of which every pixel has a label, through the whole lab."""

import jax
import numpy as np
import pytest

from benchmarks.evidence import scenes
from gradnorm_optax import lab
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import sources, stored
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import answers, make_problem

TABLES = {
    'name': 'pixels',
    'data': {'source': 'function',
             'target': 'benchmarks.evidence.scenes:scenes',
             'options': {'examples': 60, 'size': 8}, 'predict': 'number'},
    'models': {'unet': {'kind': 'target',
                        'target': 'benchmarks.evidence.models:unet',
                        'options': {'width': 4, 'levels': 1}}},
    'train': {'steps': 40, 'eval_every': 20, 'batch_size': 16},
    'run': {'learning_rate': 0.01, 'look': 0},
    'methods': {'adam': {'optimizer': 'adam'}}}


@pytest.fixture(scope='module')
def problems():
  """A problem of numbers and one of classes."""
  made = {}
  for task, predict in (('depth', 'number'), ('kind', 'class')):
    data = schema.Data(**{
        **TABLES['data'], 'predict': predict,
        'options': {'examples': 60, 'size': 8, 'task': task}})
    made[task] = make_problem.join(
        schema.Own(**TABLES['models']['unet']), sources.load(data))
  return made


@pytest.mark.parametrize('task', ['depth', 'kind'])
def test_losses_and_scores_are_those_of_single_pixels(problems, task):
  problem = problems[task]
  found = problem.dataset
  assert found.objective.positions and found.train.x.shape[1:] == (8, 8, 1)
  assert 'a label for each of 8x8 pixels' in found.description
  params, extra = problem.init(0)
  part = found.test
  out = np.asarray(problem.module.apply(
      {'params': params, **extra}, part.x, train=False), np.float64)
  out = out.reshape(-1, out.shape[-1])
  got = jax.tree.map(float, problem.evaluate(params, extra, part))
  y = part.y.ravel()
  if task == 'depth':
    wanted = {'loss': np.mean((out[:, 0] - y) ** 2),
              'score': 1 - np.mean((out[:, 0] - y) ** 2) / y.var()}
  else:
    odds = out - out.max(1, keepdims=True)
    odds -= np.log(np.exp(odds).sum(1, keepdims=True))
    right = out.argmax(1) == y
    wanted = {'loss': -odds[np.arange(len(y)), y].mean(),
              'score': np.mean([right[y == k].mean() for k in np.unique(y)])}
  assert got == pytest.approx(wanted, rel=1e-4)
  kept = answers.answers(problem, params, extra, part)
  assert len(kept) == len(part.y)


def test_labels_lie_as_the_pixels_do(problems):
  _, y = scenes.scenes(60, 8)
  found, fitted = problems['depth'].dataset, (
      problems['depth'].dataset.preprocessing)
  known = {one.tobytes() for one in y.reshape(60, 64)}
  for part in found[:3]:
    labels = part.y * fitted.label_scale + fitted.label_mean
    assert all(min(abs(np.frombuffer(one, np.float32) - row).max()
                   for one in known) < 1e-5 for row in labels)


def test_a_run_is_trained_kept_and_read(tmp_path):
  lab.train(TABLES, out=tmp_path / 'run', quiet=True)
  run = lab.load_run(tmp_path / 'run')
  x, y = scenes.scenes(60, 8)
  fitted = run.data.preprocessing
  depth = run.predict(((x - fitted.mean) / fitted.scale).astype(np.float32))
  assert depth.shape == (60, 64)
  assert np.corrcoef(depth.ravel(), y.ravel())[0, 1] > 0.5
  assert stored.read(tmp_path / 'run').dataset().train.y.shape[1] == 64


@pytest.mark.parametrize('labels, keys, words', [
    (np.zeros((20, 4, 4, 3)), {}, r'\(20, 4, 4, 3\), not \(20,\)'),
    (np.zeros((20, 4, 5)), {}, r'\(20, 4, 5\), not \(20,\)'),
    (np.zeros((20, 4, 4)), {'labels_per': 'example'}, r'not \(20,\)')])
def test_other_shapes_are_refused(tmp_path, labels, keys, words):
  np.savez(tmp_path / 'a.npz', x=np.zeros((20, 4, 4, 1), np.uint8), y=labels)
  with pytest.raises(LabError, match=words):
    sources.load(schema.Data(
        source='file', path=str(tmp_path / 'a.npz'), **keys))


def test_a_pixel_without_a_label_counts_nowhere(tmp_path):
  draw = np.random.default_rng(0)
  y = draw.integers(0, 2, (20, 4, 4)).astype(np.float64)
  y[0, 1, 2] = np.nan
  np.savez(tmp_path / 'a.npz', x=draw.random((20, 4, 4, 2)), y=y[..., None])
  found = sources.load(schema.Data(
      source='file', path=str(tmp_path / 'a.npz')))
  assert '1 of 320 positions without a label' in found.description
  assert found.objective.holes
  assert sum((part.y == -1).sum() for part in found[:3]) == 1


def test_a_model_that_answers_once_is_named(problems):
  with pytest.raises(LabError, match='cnn.*returns shape .* for'):
    problem = make_problem.join(
        schema.CNN(kind='cnn', depth=2, width=2), problems['depth'].dataset)
    problem.evaluate(*problem.init(0), problem.dataset.test)
