"""Blocks that leave their safe range are dated, told and shown."""

import io
import json
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from rich import console

from benchmarks import kills
from gradnorm_optax import lab
from gradnorm_optax.lab.reporting import run_watch
from gradnorm_optax.lab.results import alerts, look as look_lib
from gradnorm_optax.lab.run import follow, loop, reading
from gradnorm_optax.lab.support import files, jsonl
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import noise

HERE = 'test_watching_runs'
VANISH, EXPLODE = 500, 900  # the first steps, from 1, are those after


@jax.custom_vjp
def scaled(x, by):
  """x itself; its gradient comes back `by` times as large."""
  del by
  return x


scaled.defvjp(lambda x, by: (x, by), lambda by, g: (g * by, jnp.zeros_like(by)))


class Sick(nn.Module):
  """Four layers; the third's gradient vanishes, and explodes later."""

  outputs: int

  @nn.compact
  def __call__(self, x, train=False):
    count = self.variable('count', 'steps', lambda: jnp.zeros([]))
    by = jnp.where(count.value < VANISH, 1.0, jnp.where(
        count.value < EXPLODE, 1e-5, 1e5))
    if train and not self.is_initializing():
      count.value = count.value + 1
    x = nn.tanh(nn.Dense(8, name='layer1')(x))
    x = nn.tanh(nn.Dense(8, name='layer2')(x))
    x = nn.tanh(nn.map_variables(
        nn.Dense, 'params', lambda tree: jax.tree.map(
            lambda leaf: scaled(leaf, by), tree),
        init=self.is_initializing())(8, name='layer3')(x))
    return nn.Dense(self.outputs, name='layer4')(x)


CONFIG = {
    'data': {'source': 'iris'},
    'models': {'sick': {'kind': 'target', 'target': f'{HERE}:Sick'}},
    'methods': {'sgd': {'optimizer': 'sgd', 'clip': 0.5}},
    'train': {'steps': 1000, 'eval_every': 100, 'batch_size': 12},
    'run': {'look': 3, 'checkpoint_every': 10}}


@pytest.fixture(scope='module')
def sick(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sick') / 'run'
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    return loop.run(lab.load(CONFIG), folder, quiet=True)


def printed(page):
  screen = console.Console(width=160, file=io.StringIO(), highlight=False)
  screen.print(page)
  return screen.file.getvalue()


def test_both_faults_are_dated_and_named(sick, gradnorm):
  row = jsonl.read_steps(sick.folder / 'watch.jsonl')[-1]
  at = row['blocks'].index('layer3')
  found = {field: column[at] for field, column in row['gradient'].items()}
  for first, step in (('first_below', VANISH), ('first_above', EXPLODE)):
    assert step < found[first] <= step + 10
  assert EXPLODE - 10 < found['last_below'] <= EXPLODE
  assert found['below'] == 40 and found['above'] == 10
  others = [i for i in range(4) if i != at]
  for side in ('below', 'above'):
    assert not any(row['gradient'][side][i] for i in others)
  code, out, err = gradnorm('watch', sick.folder)
  assert code == 0 and not err
  out = ' '.join(out.split())  # however narrow the terminal is
  assert 'layer3 exploding: gradient above' in out
  assert f'from step {EXPLODE + 1} on (10 of 100 readings); try clip' in out
  assert f'in steps {VANISH + 1} to {EXPLODE - 9} (40 of 100 readings)' in out
  assert 'vanishing' in out and 'normalize = "bng"' in out
  assert 'finished step 1000/1000' in out and 'test accuracy' in out


def test_the_journal_has_one_size(sick):
  rows = jsonl.read_steps(sick.folder / 'watch.jsonl')
  assert [row['step'] for row in rows] == list(range(100, 1001, 100))
  shapes = [jax.tree.map(
      lambda column: np.shape(column), row,
      is_leaf=lambda x: isinstance(x, list)) for row in rows]
  assert all(shape == shapes[0] for shape in shapes)
  tags = kills.board(sick.folder / 'tensorboard')
  assert tags['above/gradient/layer3'] == tags['reading/update/layer1'] == [
      row['step'] for row in rows]
  assert tags['clipped'] == [row['step'] for row in rows]
  assert len(tags['noise_scale']) <= 3


def test_a_run_that_is_none_or_has_no_such_files(
    sick, gradnorm, tmp_path, finished):
  for folder, words in ((tmp_path / 'no', 'no such folder'),
                        (tmp_path, 'no run of gradnorm train'),
                        (finished[1].folder, 'holds a comparison')):
    code, out, err = gradnorm('watch', folder)
    assert code == 2 and not out and err.count('\n') == 1 and words in err
  old = copied(sick.folder, tmp_path / 'old')
  for name in ('watch.jsonl', 'status.json', 'blocks.jsonl'):
    (old / name).unlink()
  code, out, _ = gradnorm('watch', old)
  assert code == 0 and 'blocks are not watched here' in out
  assert 'finished step 1000/1000' in out and 'noise scale' not in out
  (old / 'results.json').unlink()
  assert reading.read(old).state == 'stopped'
  guard = files.claim(old)
  assert reading.read(old).state == 'running'
  guard.release()


def copied(folder, there):
  """The files of a run, without checkpoints."""
  there.mkdir()
  for path in folder.iterdir():
    if path.is_file():
      (there / path.name).write_bytes(path.read_bytes())
  return there


def go_on(folder, **other):
  """Makes a finished run look as if it went on."""
  (folder / 'results.json').unlink()
  found = json.loads((folder / 'status.json').read_text())
  assert found['state'] == 'finished' and found['from_step'] == 0
  (folder / 'status.json').write_text(json.dumps(
      found | {'state': 'running'} | other))


def test_lines_are_printed_until_the_run_ends(sick, tmp_path, monkeypatch):
  folder = copied(sick.folder, tmp_path / 'run')
  go_on(folder, pid=os.getpid())
  whole = {name: (folder / name).read_bytes().splitlines(keepends=True)
           for name in ('metrics.jsonl', 'watch.jsonl')}

  def grown(evaluations):
    for name, lines in whole.items():
      (folder / name).write_bytes(b''.join(lines[:evaluations]))

  def later(pause):
    naps.append(pause)
    grown(5 + len(naps))
    if len(naps) == 5:
      status_file = json.loads((folder / 'status.json').read_text())
      (folder / 'status.json').write_text(json.dumps(
          status_file | {'state': 'diverged', 'told': 'step 1001: layer3'}))

  naps = []
  grown(5)
  monkeypatch.setattr(follow.time, 'sleep', later)
  screen = console.Console(width=160, file=io.StringIO(), highlight=False)
  follow.show(folder, screen)
  told = screen.file.getvalue().splitlines()
  assert len(naps) == 5
  assert [line.split()[1] for line in told
          if line.startswith('step ') and ' loss ' in line] == [
      f'{step}/1000' for step in range(100, 1001, 100)]
  # A fault is told when it is first seen, once.
  first = next(i for i, line in enumerate(told) if 'vanishing' in line)
  assert told[first - 1].startswith('step 600/')
  assert sum('exploding' in line for line in told) == 2  # and in the summary
  assert any('diverged step 1000/1000' in line for line in told)
  assert any(line.startswith('step 1001: layer3') for line in told)


def test_a_process_that_is_gone_was_killed(sick, tmp_path):
  gone = subprocess.Popen([sys.executable, '-c', ''])
  gone.wait()
  folder = copied(sick.folder, tmp_path / 'run')
  go_on(folder, pid=gone.pid)
  found = reading.read(folder)
  assert found.state == 'killed' and found.ended and found.test is None
  assert 'goes on from the last checkpoint' in printed(run_watch.render(found))
  go_on_elsewhere = json.loads((folder / 'status.json').read_text())
  (folder / 'status.json').write_text(json.dumps(
      go_on_elsewhere | {'host': 'elsewhere'}))
  assert reading.read(folder).state == 'running'  # nobody here can know


def test_files_alone_are_read_and_a_signal_leaves_with_0(sick, tmp_path):
  """No backend of JAX may start: there is none of this name."""
  folder = copied(sick.folder, tmp_path / 'run')
  go_on(folder, pid=os.getpid())
  before = {path: path.read_bytes() for path in folder.iterdir()}
  process = subprocess.Popen(
      [sys.executable, '-m', 'gradnorm_optax.lab.cli', 'watch', str(folder)],
      env={**os.environ, 'JAX_PLATFORMS': 'none_such'},
      stdout=subprocess.PIPE, text=True)
  line = process.stdout.readline()
  assert line.startswith('step 100/1000 loss ')
  process.send_signal(2)
  assert process.wait(timeout=60) == 0
  process.stdout.close()
  assert before == {path: path.read_bytes() for path in folder.iterdir()}


def row(first=(None, None), last=(None, None), side='below', readings=(10, 10),
        low=0.1, ratio=None):
  """A row of watch.jsonl of two blocks; the last reading is that of step 91."""
  def columns(**fields):
    found = {'readings': list(readings), 'low': [low] * 2, 'high': [10.0] * 2}
    for name in ('below', 'above'):
      found |= {name: [0, 0], f'first_{name}': [None] * 2,
                f'last_{name}': [None] * 2}
    return found | fields

  out = [0 if a is None else (b - a) // 10 + 1
         for a, b in zip(first, last, strict=True)]
  update = columns(low=[0.0] * 2, high=[None] * 2)
  if ratio is not None:
    update |= {'high': [ratio] * 2, 'above': [1, 0],
               'first_above': [31, None], 'last_above': [31, None]}
  return {'blocks': ['a', 'b'], 'read': 91, 'taken': 10,
          'gradient': columns(**{side: out, f'first_{side}': list(first),
                                 f'last_{side}': list(last)}),
          'update': update}


@pytest.mark.parametrize('given, scaled, texts', [
    (row(), False, []),
    (row((41, None), (91, None)), False, [
        'a: vanishing: gradient below 0.1 from step 41 on (6 of 10 readings); '
        'try normalize = "bng"']),
    (row((None, 31), (None, 31), 'above'), True, [
        'b: exploding: gradient above 10 in step 31 (1 of 10 readings); '
        'lower the learning rate']),
    (row((None, 31), (None, 51), 'above', (10, 7)), False, [
        'b: not finite in steps 31 to 51 (3 of 10 readings); lower the '
        'learning rate or set clip']),
    (row(ratio=1.0), False, [
        'a: moved too far: update / parameters above 1 in step 31 (1 of 10 '
        'readings); lower the learning rate']),
    # All have learned what there is: no block is sick.
    (row((71, 61), (91, 91)), False, [
        'all blocks: the gradients of all blocks are below their ranges since '
        'step 71: the training examples are learned, or the loss is flat; look '
        'at loss and score']),
    # But one was long before.
    (row((81, 21), (91, 91)), False, [
        'b: vanishing: gradient below 0.1 from step 21 on (8 of 10 readings); '
        'try normalize = "bng"',
        'all blocks: the gradients of all blocks are below their ranges since '
        'step 81: the training examples are learned, or the loss is flat; look '
        'at loss and score']),
])
def test_alerts_in_words(given, scaled, texts):
  assert [f'{one.block}: {one.text}'
          for one in alerts.find(given, scaled)] == texts


@pytest.mark.parametrize('table, words', [
    ({'ranges': {'layer9*': [0.1]}}, r"\[run.watch\].*'layer9\*' matches no"),
    ({'ratios': {'*': [2, 1]}}, r'\[2, 1\]: low must be at most high'),
    ({'ranges': {'*': []}}, 'run.watch.ranges'),
    ({'every': 0, 'ranges': {'*': [1]}}, 'ranges has no effect here'),
    ({'learn': 0, 'margin': 5}, 'margin has no effect here'),
])
def test_mistakes_in_the_table(table, words, tmp_path):
  with pytest.raises(LabError, match=words):
    loop.run(lab.load({**CONFIG, 'run': {'watch': table}}), tmp_path / 'run',
             quiet=True)
  assert not (tmp_path / 'run' / 'config.toml').exists()


def test_given_ranges_and_a_run_that_is_not_watched(tmp_path):
  short = {**CONFIG, 'train': {'steps': 20, 'eval_every': 10}}
  done = loop.run(lab.load({**short, 'run': {'look': 0, 'watch': {
      'every': 5, 'ranges': {'layer4': [0, 1e-9]}, 'ratios': {'*': [1e9]}}}}),
                  tmp_path / 'given', quiet=True)
  found = reading.read(done.folder)
  assert {(one.block, one.what, one.first) for one in found.alerts} == {
      ('layer4', 'exploding', 1), *(
          (f'layer{i}', 'hardly moves', 1) for i in (1, 2, 3, 4))}
  off = loop.run(lab.load({**short, 'run': {'look': 0, 'watch': {
      'every': 0}}}), tmp_path / 'off', quiet=True)
  assert not (off.folder / 'watch.jsonl').exists()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
               done.params, off.params)


def test_the_noise_scale_by_hand():
  """From the gradients of the parts, in float64; mean of a quadratic loss."""
  class Problem:
    @staticmethod
    def loss(params, extra, x, y, lengths=None):
      del extra, lengths
      return jnp.mean((params['w'] * x).sum(-1) * y), None

  from gradnorm_optax.lab.data.dataset import Split
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(23, 3)), rng.normal(size=23)
  batch = Split(jnp.float32(x), jnp.float32(y))
  found = noise.measure(Problem, {'w': jnp.ones(3)}, {}, batch)
  rows = x * y[:, None]  # the examples' gradients
  assert noise.parts(23) == 2  # a prime: one example is left out
  halves = np.array([rows[:11].mean(0), rows[11:22].mean(0)])
  small, big = (halves**2).sum(1).mean(), (halves.mean(0)**2).sum()
  np.testing.assert_allclose(
      found, [(small - big) / (1 / 11 - 1 / 22), 2 * big - small], rtol=1e-4)
  assert np.isnan(noise.measure(
      Problem, {'w': jnp.ones(3)}, {}, Split(batch.x[:1], batch.y[:1]))).all()


def test_the_noise_scale_is_the_ratio_of_means():
  """Drawn gradients whose tr(S) / |G|^2 is known."""
  rng = np.random.default_rng(1)
  mean, deviation, size, parts = np.array([0.3, -0.4]), 2.0, 10, 8
  draws = rng.normal(mean, deviation / np.sqrt(size), (8, parts, 2))
  small = (draws**2).sum(-1).mean(1)
  big = (draws.mean(1)**2).sum(-1)
  pairs = np.stack([(small - big) / (1 / size - 1 / (parts * size)),
                    (parts * big - small) / (parts - 1)], axis=1)
  assert pairs[:, 0].mean() == pytest.approx(8, rel=0.3)
  assert look_lib.noise_scale(pairs) == pytest.approx(8 / 0.25, rel=0.5)
  assert math.isinf(look_lib.noise_scale([[1.0, -1.0]]))


def test_a_step_costs_what_it_did():
  """What XLA counts of a step with a reading; the others compute nothing."""
  from gradnorm_optax.lab.run.compiled_run import Trainer

  def cost(every):
    trainer = Trainer(lab.load({
        'models': {'m': {'kind': 'mlp', 'depth': 4, 'width': 64}},
        'methods': {'adam': {'optimizer': 'adam'}},
        'run': {'look': 0, 'watch': {'every': every}}}))
    found = jax.jit(trainer.one).lower(
        trainer.watching(trainer.start(), None),
        trainer.parts[0]).compile().cost_analysis()
    return np.array([found['flops'], found['bytes accessed']])

  # Once in ten steps, at most 0.5% more operations and 5% more bytes.
  assert (0.1 * (cost(10) / cost(0) - 1) <= [0.005, 0.05]).all()


def test_on_several_devices_the_same_is_seen_and_goes_on():
  from gradnorm_optax.lab.run.compiled_run import Trainer
  records = []
  for set_ in ([], ['run.mesh.data=2', 'run.mesh.fsdp=2']):
    trainer = Trainer(lab.load({
        **CONFIG, 'train': {'steps': 8, 'eval_every': 8, 'batch_size': 12},
        'run': {'look': 0, 'watch': {'every': 3, 'learn': 6}}}, set_))
    state, _ = trainer.chunk(trainer.watching(trainer.start(), None))
    records.append(trainer.watched(state))
    again = trainer.watching(state, json.loads(json.dumps(records[-1])))
    jax.tree.map(np.testing.assert_array_equal, again.watched, state.watched)
  one, several = records
  assert (one['read'], one['taken']) == (7, 3)
  assert one['gradient']['readings'] == [3] * 4
  assert max(one['gradient']['high']) < math.inf  # learned from two
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4),
               one['gradient'], several['gradient'])
