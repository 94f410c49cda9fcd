"""`gradnorm init` writes what works at once; the same from Python."""

import re
import shlex

import numpy as np
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.support.errors import LabError

EXAMPLES = {
    'init': 'demo/config.toml', 'check': 'bng_adam',
    'compare': 'missing cells filled', 'inspect': 'update / params',
    'train': 'Run: runs/demo-train', 'watch': 'blocks watched',
    'predict': '1 missing cell filled',
    'export': 'MODEL_CARD.md', 'runs': 'finished',
    'report': 'Report: runs/demo/report.html',
    'methods': 'centralize', 'keys': 'batch_size'}


def test_the_examples_of_the_help_work_in_its_order(
    gradnorm, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('COLUMNS', '200')
  np.savez('new.npz', x=[[1.0, 2.0], [np.nan, 0.5]])  # for `predict`
  _, out, _ = gradnorm('--help')
  names = re.findall(r'^  (\w+)  +[A-Z]', out.partition('Commands:')[2], re.M)
  assert names == list(EXAMPLES)
  for name in names:
    _, out, _ = gradnorm(name, '--help')
    assert len(out.splitlines()) < 25
    example = re.search(r'Example: gradnorm (.*)', out)[1]
    code, out, err = gradnorm(*shlex.split(example))
    assert code == 0 and EXAMPLES[name] in out, err
  assert {p.name for p in (tmp_path / 'demo').iterdir()} >= {
      'config.toml', 'my_data.py', 'my_model.py'}
  # The report says how to run it again.
  page = (tmp_path / 'runs' / 'demo' / 'report.html').read_text()
  assert ('gradnorm compare demo/config.toml --set train.steps=100 --out again'
          in page)
  code, _, err = gradnorm('init', 'demo')
  assert code == 2 and 'exists' in err


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
