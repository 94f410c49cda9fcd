"""What is wrong with a run or its folder is one line, and costs nothing."""

import asyncio
import gc
import pathlib
import shutil

import jax
import numpy as np
import pytest
from orbax import checkpoint as orbax

from gradnorm_optax import lab
from gradnorm_optax.lab.run import compiled_run as trainer_lib, loop
from gradnorm_optax.lab.support import user_code


@pytest.fixture(scope='module')
def whole(tmp_path_factory, tiny_text):
  """A finished run: (its configuration's file, its folder)."""
  file = tmp_path_factory.mktemp('faults') / 'tiny.toml'
  file.write_text(tiny_text)
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    return file, loop.run(
        lab.load(file), file.parent / 'run', quiet=True).folder


@pytest.fixture
def copy(whole, tmp_path):
  """A copy of its folder, to be damaged."""
  return whole[0], shutil.copytree(whole[1], tmp_path / 'copy')


@pytest.mark.parametrize('command', ['train', 'inspect'])
def test_a_method_that_refuses_the_model(tiny, gradnorm, command):
  code, _, err = gradnorm(
      command, tiny, '--out', tiny.parent / 'run', '--set',
      'methods.momentum={optimizer="sgd", normalize="bng", '
      'blocks={skip=["no*"]}}')
  assert code == 2 and err.count('\n') == 1, err
  assert '[methods.momentum] on [models.small]: ' in err and "'no*'" in err


def test_what_is_left_out_leaves_no_trace():
  """In batch statistics, random streams, and behind slow and fast weights."""
  trainer = trainer_lib.Trainer(lab.load({
      'models': {'net': {'kind': 'target', 'target': 'own_models:Net'}},
      'methods': {'slow': {'optimizer': 'momentum', 'lookahead': 5}},
      'train': {'steps': 2, 'eval_every': 1, 'batch_size': 8},
      'run': {'non_finite': 'skip'}}))
  state = trainer.start()
  step, examples = jax.jit(trainer.one), trainer.parts[0]
  bad, _ = step(state._replace(
      params=jax.tree.map(lambda a: a * np.nan, state.params)), examples)
  assert trainer_lib._skipped(bad) == 1 and trainer_lib._skipped(state) == 0
  jax.tree.map(np.testing.assert_array_equal, bad.extra, state.extra)
  good, _ = step(state, examples)
  assert trainer_lib._skipped(good) == 0
  assert any(not np.array_equal(a, b) for a, b in zip(
      jax.tree.leaves(good.extra), jax.tree.leaves(state.extra), strict=True))


def test_a_damaged_checkpoint(copy, gradnorm):
  file, folder = copy
  for data in (folder / 'checkpoints' / '20').rglob('d/*'):
    data.write_bytes(data.read_bytes()[:20])
  code, _, err = gradnorm('train', file, '--out', folder)
  assert code == 2 and err.count('\n') == 1, err
  assert 'checkpoints/20: this checkpoint is damaged' in err
  # What the line advises works.
  shutil.rmtree(folder / 'checkpoints' / '20')
  code, _, err = gradnorm('train', file, '--out', folder)
  assert code == 0 and (folder / 'checkpoints' / '20').exists(), err


def test_what_a_failed_read_leaves_is_silent(
    copy, gradnorm, monkeypatch, caplog):
  file, folder = copy

  async def nobody_awaits():
    pass

  async def fails():
    raise ValueError('late')

  def restore(*args, **kwargs):  # as orbax does where one of its reads fails
    del args, kwargs
    leavings = [nobody_awaits()]

    async def reads():
      leavings.append(asyncio.create_task(fails()))
      await asyncio.sleep(0)
    asyncio.run(reads())
    raise ValueError('OUT_OF_RANGE: 20 bytes')

  monkeypatch.setattr(orbax.CheckpointManager, 'restore', restore)
  code, _, err = gradnorm('train', file, '--out', folder)
  gc.collect()  # a warning would be an error here
  assert code == 2 and err.count('\n') == 1 and 'OUT_OF_RANGE' in err, err
  assert not caplog.records, caplog.records


def test_figures_that_are_missing(copy, gradnorm):
  file, folder = copy
  path = folder / 'metrics.jsonl'
  path.write_text(path.read_text().splitlines(keepends=True)[0])
  code, _, err = gradnorm('train', file, '--out', folder)
  assert code == 2 and 'metrics.jsonl: no figures of step 20' in err


@pytest.mark.parametrize('command', ['train', 'compare'])
def test_the_configuration_itself_is_never_overwritten(
    tmp_path, tiny_text, gradnorm, command):
  file = tmp_path / 'config.toml'
  file.write_text(tiny_text)
  code, _, err = gradnorm(command, file, '--out', tmp_path, '--fresh')
  assert code == 2 and f'config.toml: not written by gradnorm {command}' in err
  assert file.read_text() == tiny_text


def test_a_run_knows_where_its_own_modules_are(
    tmp_path, gradnorm, monkeypatch):
  monkeypatch.chdir(tmp_path)
  gradnorm('init', 'mine', '--data', 'series')
  for name in ('my_data', 'my_model'):
    pathlib.Path(f'mine/{name}.py').rename(f'mine/{name}_there.py')
  text = pathlib.Path('mine/config.toml').read_text()
  pathlib.Path('mine/config.toml').write_text(
      text.replace('my_data:', 'my_data_there:').replace(
          'my_model:', 'my_model_there:'))
  code, _, err = gradnorm(
      'train', 'mine/config.toml', '--set', 'train.steps=40')
  assert code == 0, err
  code, out, err = gradnorm('inspect', 'runs/mine-train/checkpoints/20',
                            '--batches', '1')
  assert code == 0 and 'update / params' in out, err
  # And of what code it is: a changed model does not go on by mistake.
  again = 'train', 'mine/config.toml', '--set', 'train.steps=40'
  with pathlib.Path('mine/my_model_there.py').open('a') as file:
    file.write('# a change\n')
  user_code._read.cache_clear()
  code, _, err = gradnorm(*again)
  assert code == 2 and 'other code of yours (code.digest differs)' in err
  pathlib.Path('runs/mine-train/code.digest').unlink()
  code, _, err = gradnorm(*again)
  assert code == 0, err
