"""Trials on dask's workers: the local run's, bit for bit, whatever dies.

Real schedulers and workers; each test starts few, for a worker imports JAX.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import psutil
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.comparison import errands, on_worker, scheduler
from gradnorm_optax.lab.results import results_file, store
from gradnorm_optax.lab.support import provenance, remaining, travelling_code
from gradnorm_optax.lab.support.errors import LabError

MODULE = '''
import os
import pathlib
import distributed
import optax
import my_scale

def fragile(learning_rate):
  """Ends the first three workers that build it."""
  try:
    distributed.get_worker()
  except ValueError:
    pass
  else:
    mark = pathlib.Path(%r)
    if len(list(mark.iterdir())) < 3:
      (mark / str(os.getpid())).touch()
      os._exit(1)
  return optax.sgd(my_scale.FACTOR * learning_rate)
'''
OWN = '''
[models.small]
kind = "mlp"
depth = 1
width = 16
[train]
steps = 20
batch_size = 32
eval_every = 10
[compare]
learning_rates = [0.1]
tune_seeds = 1
seeds = 1
timing_rounds = 3
look = 0
[methods.fragile]
optimizer = "my_optimizer:fragile"
'''


def records(folder):
  """{fingerprint: record} without times; each trial stands there once."""
  rows = [json.loads(line) for line in (
      folder / 'trials.jsonl').read_text().splitlines()]
  assert len({row['fingerprint'] for row in rows}) == len(rows)
  return {row.pop('fingerprint'): row for row in rows
          if row.pop('seconds', None) is not None or row['phase'] == 'look'}


def workers():
  """The processes of workers that this one has."""
  return [child for child in psutil.Process().children(recursive=True)
          if 'spawn_main' in ' '.join(child.cmdline())]


def test_a_worker_dies_and_the_trials_are_those_of_the_local_run(
    finished, tmp_path, monkeypatch, gradnorm):
  """By the command that docs/scaling.md names."""
  path, done = finished
  page = pathlib.Path(__file__).parents[2] / 'docs' / 'scaling.md'
  command, = re.findall(
      '\ngradnorm (compare CONFIG --scheduler local:2)\n', page.read_text())
  run, asked = errands.Errands.run, []

  def killing(self, what, *args, **options):
    asked.append(self)
    if len(asked) == 4:
      workers()[0].kill()
    return run(self, what, *args, **options)
  monkeypatch.setattr(errands.Errands, 'run', killing)
  code, _, err = gradnorm(*command.replace('CONFIG', str(path)).split(),
                          '--out', tmp_path / 'run')
  assert (code, err) == (0, '')
  assert records(tmp_path / 'run') == records(done.folder)
  # More are lost where a new one starts too slowly and is started once more.
  assert ' lost' in asked[0].told()
  found = results_file.read(tmp_path / 'run')
  assert [row.score for row in found.summary.rows] == [
      row.score for row in done.summary.rows]
  basis = found.basis
  assert basis.workers and basis.workers[0].startswith('2 x ')
  assert 'Trials were run by a cluster' in (
      tmp_path / 'run' / 'report.html').read_text()
  assert not workers()


def test_a_trial_that_kills_three_workers_is_left_out(
    tmp_path, gradnorm, monkeypatch):
  """The user's modules travel, with what they import from beside them."""
  home, mark = tmp_path / 'home', tmp_path / 'mark'
  home.mkdir()
  mark.mkdir()
  (home / 'my_scale.py').write_text('FACTOR = 1.0\n')
  (home / 'my_optimizer.py').write_text(MODULE % str(mark))
  (home / 'own.toml').write_text(OWN)
  code, out, err = gradnorm(
      'compare', home / 'own.toml', '--out', tmp_path / 'run', '--scheduler',
      'local:1')
  assert (code, err) == (0, '') and len(list(mark.iterdir())) == 3
  told = ('fragile on small, rate 0.1, seed 0: counts as diverged, left out: '
          'it killed 3 workers (out of memory?')
  assert told in ' '.join(out.split())
  assert told in (tmp_path / 'run' / 'report.html').read_text()
  found = records(tmp_path / 'run')
  tune, final = sorted(found.values(), key=lambda row: row['phase'] == 'final')
  assert tune['diverged'] and 'killed 3 workers' in tune['reason']
  # What did not kill is what it is here.
  lab.compare(home / 'own.toml', out=tmp_path / 'here', quiet=True)
  assert final in records(tmp_path / 'here').values()
  assert lab.report(tmp_path / 'run').summary.notes[-1].startswith(told)


def test_a_scheduler_that_is_lost_leaves_what_is_finished(
    finished, tmp_path, gradnorm, monkeypatch):
  path, done = finished
  place, folder = tmp_path / 'scheduler.json', tmp_path / 'run'
  options = ['--no-dashboard', '--scheduler-file', str(place)]

  alone = tmp_path / 'alone' / 'gradnorm_optax'
  alone.mkdir(parents=True)
  (alone / '__init__.py').write_text('raise ImportError("not this package")')

  def dask(*words, with_package=True):
    path = [] if with_package else [str(alone.parent)]
    process = subprocess.Popen(
        [sys.executable, '-m', 'dask', *words, *options], cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {'PYTHONPATH': os.pathsep.join([*path, *sys.path])})
    started.append(process)
    return process
  started = []
  # The scheduler needs dask alone.
  serving = dask('scheduler', '--port', '0', '--host', '127.0.0.1',
                 with_package=False)
  try:
    while not (place.exists() and place.read_text().endswith('}')):
      assert serving.poll() is None
    address = json.loads(place.read_text())['address']
    command = 'compare', path, '--out', folder, '--scheduler', address
    with monkeypatch.context() as brief:
      brief.setattr(errands, 'WAIT', 0.5)
      code, _, err = gradnorm(*command)
    assert code == 2 and err.count('\n') == 1
    assert 'no worker for 0.5 s; start one with: dask worker' in err
    bare = dask('worker', '--no-nanny', with_package=False)
    code, _, err = gradnorm(*command)
    assert code == 2 and err.count('\n') == 1
    assert err.startswith('gradnorm: worker tcp://')
    assert err.endswith("ImportError('not this package')\n")
    bare.kill()
    dask('worker', '--nthreads', '1', '--no-nanny')
    add = store.Store.add

    def stopping(self, record):
      add(self, record)
      if len(self.records) == 3:
        serving.kill()
    monkeypatch.setattr(store.Store, 'add', stopping)
    code, _, err = gradnorm(*command)
    assert code == 2 and err == (
        f'gradnorm: --scheduler {address}: the scheduler is gone; what was '
        'finished is kept, the same command goes on from there\n')
  finally:
    for process in started:
      process.kill()
      process.wait()
  before = records(folder)
  assert 3 <= len(before) < len(records(done.folder))
  monkeypatch.setattr(store.Store, 'add', add)
  lab.compare(path, out=folder, quiet=True)
  assert records(folder) == records(done.folder)


@pytest.mark.parametrize('address, told', [
    ('local:0', 'write local:N for N workers on this machine'),
    ('local:two', 'write local:N for N workers on this machine'),
    ('tcp://127.0.0.1:1', 'no scheduler answers there; start one with: dask '
     'scheduler'),
    ('nowhere://x', 'write tcp://HOST:PORT, or local:N')])
def test_an_address_of_nobody_is_one_line(
    tiny, tmp_path, gradnorm, monkeypatch, address, told):
  monkeypatch.setattr(scheduler, 'CONNECT', 0.5)
  code, out, err = gradnorm('compare', tiny, '--out', tmp_path / 'run',
                            '--scheduler', address)
  assert (code, out, err.count('\n')) == (2, '', 1)
  assert f'--scheduler {address}' in err and told in err
  assert not (tmp_path / 'run').exists()


def test_without_dask_is_said_what_to_install(
    tiny, tmp_path, gradnorm, monkeypatch):
  name = 'gradnorm_optax.lab.comparison.cluster'
  monkeypatch.delattr(name, raising=False)
  monkeypatch.delitem(sys.modules, name, raising=False)
  for name in ('cloudpickle', 'distributed'):
    monkeypatch.setitem(sys.modules, name, None)
  code, _, err = gradnorm('compare', tiny, '--scheduler', 'local:2')
  assert code == 2 and err == (
      'gradnorm: --scheduler needs dask, which is not installed; run: pip '
      'install "gradnorm_optax[cluster]"\n')


def test_workers_that_differ_are_named_with_the_first_difference():
  here = on_worker.site(os.environ['XLA_FLAGS'], {})
  assert on_worker.difference(here, here) is None
  other = here._replace(versions=here.versions | {'jax': '0.1'})
  assert on_worker.difference(other, here) == (
      f'jax differs: 0.1 there, {here.versions["jax"]} here')
  assert here.files == provenance.source_files()
  other = here._replace(files=here.files | {'block_norm.py': 'x'})
  assert on_worker.difference(other, here).startswith(
      'gradnorm_optax/block_norm.py differs: x there')


def test_each_worker_is_shown_one_gpu(monkeypatch):
  monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
  assert scheduler._devices(2, 'local:2') == [
      {'CUDA_VISIBLE_DEVICES': '3'}, {'CUDA_VISIBLE_DEVICES': '5'}]
  with pytest.raises(LabError, match='local:3: there are 2 GPUs, and each'):
    scheduler._devices(3, 'local:3')
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  assert scheduler._devices(3, 'local:3') == [{}, {}, {}]


def test_code_travels_to_another_folder_and_is_imported_anew(tmp_path):
  from gradnorm_optax.lab.support import user_code
  home, there = tmp_path / 'home', tmp_path / 'there'
  (home / 'parts').mkdir(parents=True)
  (home / 'parts' / '__init__.py').write_text('')
  (home / 'parts' / 'loss.py').write_text('from beside import N\nf = N.real\n')
  (home / 'beside.py').write_text('N = 3\n')
  try:
    user_code.search([str(home)])
    assert user_code.resolve('parts.loss:f') == 3
    before = travelling_code.digests(['parts.loss:f'])
    assert set(before) == {'parts/loss.py', 'beside.py'}
    folder, = travelling_code.pack(['parts.loss:f'])
    assert set(folder.files) == {*before, 'parts/__init__.py'}
    folder.files['beside.py'] = b'N = 4\n'  # as if edited meanwhile
    places = travelling_code.unpack([folder], there)
    assert user_code.searched() == places == (str(there / '0'),)
    assert user_code.resolve('parts.loss:f') == 4
    assert on_worker.first_difference(travelling_code.digests(
        ['parts.loss:f']), before).startswith('beside.py differs: ')
    with pytest.raises(LabError, match='put it into a module of its own'):
      travelling_code.pack(['__main__:f'])
  finally:
    user_code.search([])


def test_the_bar_says_what_each_worker_has_made():
  from gradnorm_optax.lab.support import progress
  plan = remaining.Remaining(lambda: 0.0)
  plan.beside = lambda: '| 2 workers (0: 3, 1: 4), 1 lost'
  assert progress.line(plan).endswith('| 2 workers (0: 3, 1: 4), 1 lost')
