"""A small comparison, end to end through the command."""

import contextlib
import json
import re
import shutil

import numpy as np
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.comparison import (
  comparison as comparison_lib,
  missing,
  runner,
)
from gradnorm_optax.lab.objective import evidence
from gradnorm_optax.lab.results import store as store_lib
from gradnorm_optax.lab.run import loop
from gradnorm_optax.lab.support import files, packed


def lines(folder):
  return (folder / 'trials.jsonl').read_text().splitlines()


def test_folder(finished):
  _, done = finished
  names = {path.name for path in done.folder.iterdir()}
  assert names >= {'results.json', 'config.toml', 'trials.jsonl', 'curves.svg',
                   'curves.png', 'sensitivity.svg', 'sensitivity.png',
                   'report.html'}
  content = json.loads((done.folder / 'results.json').read_text())
  assert content['versions']['jax'] and content['machine']['cores']
  rows = content['summary']['rows']
  assert [row['method'] for row in rows] == ['momentum', 'clip_momentum']
  for row in rows:
    assert row['seeds'] == 2 and row['trains']
    assert 0.1 < row['score']['mean'] <= 1
    low, high = row['score']['low'], row['score']['high']
    assert 0 <= low < row['score']['mean'] < high <= 1
    assert 0 < row['validation'] <= 1 and row['train_loss'] > 0
  assert rows[0]['overhead'] is None and rows[1]['bare'] == 'momentum'
  # One figure for a pair: of the column, of the milliseconds, of the rounds.
  low, ratio, high = rows[1]['overhead']
  assert 0 < low <= ratio <= high
  assert ratio == pytest.approx(
      rows[1]['step_seconds'] / rows[0]['step_seconds'])
  assert ratio == pytest.approx(np.divide(*(
      np.median(row['rounds']) for row in rows[::-1])))


def test_test_part_is_read_for_fresh_seeds_only(finished):
  records = [json.loads(line) for line in lines(finished[1].folder)]
  tune = [r for r in records if r['phase'] == 'tune']
  final = [r for r in records if r['phase'] == 'final']
  assert len(tune) == 2 * 3 * 1 and len(final) == 2 * 2
  assert all(r['test'] is None for r in tune)
  assert all(set(r['test']) == {'loss', 'score'} for r in final)
  assert not {r['seed'] for r in tune} & {r['seed'] for r in final}
  # What it rests on is kept by example, for those runs alone.
  assert all(r['evidence'] is None for r in tune)
  for record in final:
    found = packed.unpack(record['evidence'])
    assert found.shape == (270, 4)  # labels and answers too
    assert evidence.mean(found) == pytest.approx(record['test']['score'])


def test_nothing_is_computed_twice(finished, gradnorm, tmp_path):
  path, done = finished
  # A copy: other tests read the report of the first run.
  folder = shutil.copytree(done.folder, tmp_path / 'copy')
  code, out, _ = gradnorm('compare', path, '--out', folder)
  assert code == 0 and 'clip_momentum' in out
  assert lines(folder) == lines(done.folder)


def test_an_interrupted_comparison_goes_on(finished, tmp_path):
  path, done = finished
  whole = (done.folder / 'trials.jsonl').read_bytes()
  cut = whole.splitlines(keepends=True)
  # Killed while the fifth trial was being written.
  folder = tmp_path / 'cut'
  folder.mkdir()
  (folder / 'trials.jsonl').write_bytes(b''.join(cut[:4]) + cut[4][:37])
  again = comparison_lib.run(lab.load(path), folder, quiet=True)
  assert lines(folder)[:4] == [line.decode().rstrip('\n') for line in cut[:4]]
  assert len(lines(folder)) == len(cut)

  def figures(comparison):
    return [(row.rate, row.score, row.validation,
             [run.curve for run in row.runs])
            for row in comparison.summary.rows]
  assert figures(again) == figures(done)


def test_diverged_trials_stop_and_are_counted(tiny, gradnorm, tmp_path):
  found = comparison_lib.run(lab.load(tiny, [
      'compare.learning_rates=[1e30]', 'compare.seeds=1',
      'methods.clip_momentum.optimizer=sgd']), tmp_path / 'run', quiet=True)
  for row in found.summary.rows:
    assert (row.diverged, row.seeds, row.trains) == (1, 1, False)
    assert row.steps == np.inf and row.score.mean == 0
  records = [json.loads(line) for line in lines(tmp_path / 'run')]
  assert all(len(r['history']['loss']) == 0 for r in records
             if r['phase'] == 'tune' and r['method'] == 'momentum')
  # The table and the report say how to find out what went bad, and where.
  command = found.summary.diagnosis
  assert command and command in (tmp_path / 'run/report.html').read_text()
  words = command.replace('CONFIG', str(tiny)).split()[1:]
  code, _, err = gradnorm(*words, '--out', tmp_path / 'train')
  assert code == 3 and re.search(r'step \d+: (block|the loss)', err)


def test_vmapped_trials_agree_and_share_a_call(finished, tmp_path):
  path, done = finished
  found = comparison_lib.run(lab.load(path, ['compare.trials_per_call=3']),
                             tmp_path / 'run', quiet=True)
  for a, b in zip(found.summary.rows, done.summary.rows, strict=True):
    for one, other in zip(a.runs, b.runs, strict=True):
      # Sums in another order: of 270 validation examples three may turn.
      np.testing.assert_allclose(one.curve, other.curve, atol=3.5 / 270)
  # A step is timed alone, or it would be that of all of them.
  bench = runner.Runner(found.config).benches['small']
  assert bench.batch == 8 and bench.alone.batch == 1


def test_equal_methods_are_run_once(finished, tmp_path):
  path, _ = finished
  settings = lab.load(path, [
      'methods.again={optimizer="momentum"}',
      'methods.third={optimizer="momentum"}'])
  some = runner.Runner(settings)
  with contextlib.closing(store_lib.Store(tmp_path / 'run')) as store:
    some.use(store)
    calls = list(missing.calls(some.trials, 'tune', some.batch))
  assert [call.pair.method for call in calls] == 3 * ['momentum'] + 3 * [
      'clip_momentum']


def test_all_phases_are_planned_once_programs_are_compiled(
    finished, tmp_path):
  path, _ = finished
  some = runner.Runner(lab.load(path))
  with contextlib.closing(store_lib.Store(tmp_path / 'run')) as store:
    some.use(store)
    some.compile()
    plan = some.schedule.plan
    assert plan.trials == (0, 10)
    whole = plan.seconds()
    assert whole > 0
    known = [bench.call_seconds(method) > 0 for bench in some.benches.values()
             for method in some.config.methods.values()]
    assert known == [True, True]
    some.finish('tune')
    assert plan.trials == (6, 10) and 0 < plan.seconds()


def test_two_writers_are_refused(finished):
  path, done = finished
  with store_lib.Store(done.folder):
    with pytest.raises(files.LabError, match='another process'):
      comparison_lib.run(lab.load(path), done.folder, quiet=True)
    with pytest.raises(files.LabError, match='another process'):
      loop.run(lab.load(path), done.folder, quiet=True)


def test_damaged_line_is_named(tmp_path):
  (tmp_path / 'trials.jsonl').write_text('{"fingerprint": "a"}\nnonsense\n')
  with pytest.raises(files.LabError, match=r'trials.jsonl:2: not a finished'):
    store_lib.Store(tmp_path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'results.json'
  files.write(path, 'old')

  def full(_):
    raise OSError(28, 'No space left on device')
  monkeypatch.setattr(files.os, 'fsync', full)
  with pytest.raises(files.LabError, match='No space left'):
    files.write(path, 'new')
  assert path.read_text() == 'old'
  assert [p.name for p in tmp_path.iterdir()] == ['results.json']
  with store_lib.Store(tmp_path) as store:
    with pytest.raises(files.LabError, match='what was finished is kept'):
      store.add({'fingerprint': 'x'})
  assert (tmp_path / 'trials.jsonl').read_text() == ''
