"""Files are named from the configuration, wherever the command is run."""

import json

import pytest

ROWS = 'size,found\n' + ''.join(f'{i % 9},{i % 2}\n' for i in range(40))
CONFIG = """
[data]
source = "file"
path = "parts.csv"
label = "found"
test = "later/parts.csv"
[models.own]
kind = "target"
target = "parts_model:build"
[methods.adam]
optimizer = "adam"
[train]
steps = 4
eval_every = 2
batch_size = 8
[run]
look = 0
"""


@pytest.fixture
def project(tmp_path):
  folder = tmp_path / 'project'
  (folder / 'later').mkdir(parents=True)
  (folder / 'config.toml').write_text(CONFIG)
  (folder / 'parts.csv').write_text(ROWS)
  (folder / 'later' / 'parts.csv').write_text(ROWS)
  (folder / 'parts_model.py').write_text(
      'from flax import linen as nn\ndef build(outputs):\n'
      '  return nn.Dense(outputs)\n')
  # A file of the same name, and no such columns, lies where the user stands.
  (tmp_path / 'here').mkdir()
  (tmp_path / 'here' / 'parts.csv').write_text('size\n1\n2\n')
  (tmp_path / 'there').mkdir()
  return folder


def test_every_command_finds_the_same_files(
    project, gradnorm, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path / 'here')
  code, out, err = gradnorm('train', '../project/config.toml')
  assert code == 0, err
  run = tmp_path / 'here' / 'runs' / 'project-train'
  assert json.loads((run / 'results.json').read_text())['data'].count(
      'parts.csv')
  # The run knows where they are, and so do those who read it.
  monkeypatch.chdir(tmp_path / 'there')
  code, _, err = gradnorm('inspect', run, '--batches', 1, '--out', 'look')
  assert code == 0, err
  # What is written on the command line is from here.
  (tmp_path / 'there' / 'new.csv').write_text('size\n3\n')
  for words in (('predict', '../here/runs/project-train', 'new.csv', '-o',
                 'out.csv'),
                ('export', '../here/runs/project-train', 'model')):
    code, _, err = gradnorm(*words)
    assert code == 0, err
  assert {path.name for path in (tmp_path / 'there').iterdir()} == {
      'look', 'new.csv', 'out.csv', 'model'}
