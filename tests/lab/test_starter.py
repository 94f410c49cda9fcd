"""`gradnorm init` writes what works at once; the same from Python."""

import pathlib
import re
import shlex

import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.support.errors import LabError

EXAMPLES = {
    'init': 'demo/config.toml', 'check': 'path_sgd',
    'compare': 'missing cells filled', 'inspect': 'update / params',
    'train': 'Run: runs/demo-train', 'watch': 'blocks watched',
    'predict': 'missing cells filled',
    'export': 'MODEL_CARD.md', 'runs': 'finished',
    'report': 'Report: runs/demo/report.html',
    'methods': 'centralize', 'keys': 'batch_size'}


def _made_smaller(config):
  text = config.read_text()
  for pattern, small in (
      (r'depth = \d+', 'depth = 1'), (r'tune_seeds = \d+', 'tune_seeds = 1'),
      (r'\nseeds = \d+', '\nseeds = 2'),
      (r'learning_rates = .*', 'learning_rates = [0.001, 0.01, 0.1]')):
    assert re.search(pattern, text)
    text = re.sub(pattern, small, text)
  config.write_text(text)


def test_the_examples_of_the_help_work_in_its_order(
    gradnorm, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('COLUMNS', '200')
  _, out, _ = gradnorm('--help')
  names = re.findall(r'^  (\w+)  +[A-Z]', out.partition('Commands:')[2], re.M)
  assert names == list(EXAMPLES)
  for name in names:
    _, out, _ = gradnorm(name, '--help')
    assert len(out.splitlines()) < 25
    example = re.search(r'Example: gradnorm (.*)', out)[1]
    code, out, err = gradnorm(*shlex.split(example))
    assert code == 0 and EXAMPLES[name] in out, err
    if name == 'init':
      _made_smaller(tmp_path / 'demo' / 'config.toml')
  assert {p.name for p in (tmp_path / 'demo').iterdir()} >= {
      'config.toml', 'parts.csv', 'new.csv', 'my_model.py'}
  # The report says how to run it again.
  page = (tmp_path / 'runs' / 'demo' / 'report.html').read_text()
  assert ('gradnorm compare demo/config.toml --set train.steps=100 --out again'
          in page)
  code, _, err = gradnorm('init', 'demo')
  assert code == 2 and 'exists' in err


@pytest.mark.parametrize('model', ['linen', 'nnx'])
@pytest.mark.parametrize('data, methods, new', [
    ('csv', {'path_sgd'}, 'all/new.csv'), ('pictures', {'path_sgd'}, 'all/new'),
    ('series', {'sgr', 'half'}, 'my_data:new'), ('text', set(), 'all/new.txt')])
def test_every_choice_works_as_it_is(
    gradnorm, tmp_path, monkeypatch, data, model, methods, new):
  monkeypatch.chdir(tmp_path)
  code, out, err = gradnorm('init', 'all', '--data', data, '--model', model)
  assert code == 0, err
  assert 'gradnorm check all/config.toml, then gradnorm compare' in out
  config = lab.load('all/config.toml')
  assert set(config.methods) == methods | {
      'momentum', 'adam', 'bng', 'sing', 'weight_norm'}
  code, out, err = gradnorm('check', 'all/config.toml', '--quick')
  assert code == 0 and 'weight_norm' in out, err
  code, _, err = gradnorm('train', 'all/config.toml', '--set', 'run.look=0',
                          '--set', 'train.steps=20')
  assert code == 0, err
  # What the last line says.
  code, _, err = gradnorm(
      'predict', 'runs/all-train', new, '-o', 'answers.csv')
  assert code == 0, err
  assert len(pathlib.Path('answers.csv').read_text().splitlines()) > 5


def test_a_choice_that_there_is_not(gradnorm, tmp_path):
  for words, told in ((('--data', 'cvs'), "--data cvs: unknown.*'csv'"),
                      (('--model', 'torch'), '--model torch: unknown')):
    code, _, err = gradnorm('init', tmp_path / 'new', *words)
    assert code == 2 and re.search(told, err), err
  assert not (tmp_path / 'new').exists()


def test_from_python(tiny, tmp_path):
  done = lab.compare(
      tiny, ['compare.seeds=1', 'train.steps=10', 'compare.look=2'],
      out=tmp_path / 'compare', quiet=True)
  assert [row.method for row in done.summary.rows] == [
      'momentum', 'clip_momentum']
  assert set(done.plot()) == {
      'scores', 'curves', 'sensitivity', 'norms-small', 'entries-small'}
  raw = {'models': {'m': {'kind': 'mlp', 'depth': 1, 'width': 8}},
         'methods': {'bng': {'optimizer': 'momentum', 'normalize': 'bng'}},
         'train': {'steps': 10, 'eval_every': 10}}
  run = lab.train(raw, out=tmp_path / 'train', quiet=True)
  assert [row['step'] for row in run.rows] == [10]
  assert set(run.plot()) == {'training', 'norms', 'entries'}
  look = lab.inspect(run.folder, out=tmp_path / 'look', batches=2)
  assert set(look.plot()) == {'m', 'entries-m'}
  # A notebook shows all of it, without any magic line.
  for result, words in ((done, ('clip_momentum', 'x bare')),
                        (run, ('validation', 'gradient', '0.01')),
                        (look, ('layer01', 'update / params', 'bng'))):
    shown = result.table()._repr_mimebundle_([], [])['text/html']
    assert all(word in shown for word in words), shown
    for picture in result.plot().values():
      assert picture._repr_png_().startswith(b'\x89PNG')
  with pytest.raises(LabError, match="'stepz'; the nearest.*'steps'"):
    lab.load(raw, ['train.stepz=3'])
  with pytest.raises(LabError, match='a path or a dictionary, not 5'):
    lab.compare(5)
  assert lab.load(lab.load(raw)) == lab.load(raw)
