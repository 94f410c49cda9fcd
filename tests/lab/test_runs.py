"""`gradnorm runs` says what lies below a folder, whatever state it is in."""

import json
import shutil

import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.results import results_file, store
from gradnorm_optax.lab.run import overview
from gradnorm_optax.lab.support import files


@pytest.fixture(scope='module')
def trained(tmp_path_factory, finished):
  folder = tmp_path_factory.mktemp('trained') / 'one'
  lab.train(finished[0], ['train.steps=10', 'run.look=0'], out=folder,
            quiet=True)
  return folder


@pytest.fixture
def top(tmp_path, finished, trained):
  shutil.copytree(finished[1].folder, tmp_path / 'all' / 'deep' / 'done')
  shutil.copytree(trained, tmp_path / 'all' / 'trained')
  (tmp_path / 'all' / 'notes').mkdir()
  return tmp_path / 'all'


def entries(top):
  return {entry.name: entry for entry in overview.find(top)}


def test_finished_ones_with_their_verdict_and_score(
    top, finished, trained, gradnorm):
  found = entries(top)
  assert set(found) == {'deep/done', 'trained'}
  done, run = found['deep/done'], found['trained']
  choice = finished[1].summary.verdicts[0].choice
  # Two methods: three rates on one tuning seed, then two fresh seeds.
  assert (done.kind, done.state, done.done, done.planned, done.steps) == (
      'comparison', 'finished', 10, 10, 20)
  assert done.found.startswith('small: ') and (
      choice or 'no recommendation') in done.found
  score = json.loads((trained / 'results.json').read_text())['test']['score']
  assert (run.kind, run.state, run.done) == ('training', 'finished', 10)
  assert f'accuracy {score:.3g}' in run.found
  code, out, _ = gradnorm('runs', top)
  assert code == 0 and 'deep/done' in out and 'trained' in out
  code, out, _ = gradnorm('runs', top, '--json')
  rows = {row['name']: row for row in json.loads(out)}
  assert rows['trained']['state'] == 'finished'
  assert rows['trained']['date'].startswith('2')
  assert entries(top / 'trained')['trained'] == run


def test_stopped_and_running_ones_say_how_far(top):
  path = top / 'deep' / 'done' / store.TRIALS
  lines = [line for line in path.read_text().splitlines(True)
           if '"phase": "tune"' in line]
  path.write_text(''.join(lines[:4]) + lines[4][:20])  # killed amid a line
  (top / 'deep' / 'done' / results_file.FILE).unlink()
  metrics = top / 'trained' / 'metrics.jsonl'
  (top / 'trained' / 'results.json').unlink()
  config = top / 'trained' / 'config.toml'
  config.write_text(config.read_text().replace('steps = 10', 'steps = 30'))
  found = entries(top)
  assert found['deep/done'].progress == 'stopped at 4 of 10'
  assert found['trained'].progress == 'stopped at 10 of 30'
  assert 'validation score' in found['trained'].found
  metrics.write_text('')
  guards = [files.claim(folder) for folder in (
      top / 'trained', top / 'deep' / 'done')]
  try:
    found = entries(top)
  finally:
    for guard in guards:
      guard.release()
  assert found['trained'].progress == 'running at 0 of 30'
  assert found['deep/done'].progress == 'running at 4 of 10'
  assert entries(top)['trained'].state == 'stopped'


def test_a_result_of_another_configuration_is_no_end(top):
  folder = top / 'deep' / 'done'
  plan = json.loads((folder / results_file.PLAN).read_text())
  plan['config']['compare']['seeds'] = 3
  (folder / results_file.PLAN).write_text(json.dumps(plan))
  assert entries(top)['deep/done'].progress == 'stopped at 10 of 12'


@pytest.mark.parametrize(('name', 'content', 'words'), [
    ('deep/done/plan.json', '{', 'plan.json: not as gradnorm compare'),
    ('deep/done/plan.json', '[1]', 'plan.json: not as gradnorm compare'),
    ('deep/done/trials.jsonl', '{"a": 1}\n', 'trials.jsonl:1: not a finished'),
    ('deep/done/results.json', '{}', 'run the comparison again'),
    ('trained/config.toml', 'x = [', 'cannot be read'),
    ('trained/config.toml', '', 'cannot be read'),
    ('trained/metrics.jsonl', '7\n', 'metrics.jsonl:1: not a row'),
    ('trained/results.json', '[]', 'cannot be read'),
    ('trained/results.json', b'\xff\xfe', 'cannot be read')])
def test_damage_is_a_line_and_the_others_are_shown(
    top, gradnorm, monkeypatch, name, content, words):
  (top / name).write_bytes(
      content if isinstance(content, bytes) else content.encode())
  found = entries(top)
  bad = found.pop(name.rpartition('/')[0])
  assert bad.state == 'damaged' and words in bad.found
  assert [entry.state for entry in found.values()] == ['finished']
  code, out, err = gradnorm('runs', top)
  assert code == 0 and 'damaged' in out and not err


def test_nothing_there(tmp_path, gradnorm):
  assert gradnorm('runs', tmp_path)[1] == f'{tmp_path}: no runs\n'
  code, _, err = gradnorm('runs', tmp_path / 'none')
  assert code == 2 and 'no such folder' in err
