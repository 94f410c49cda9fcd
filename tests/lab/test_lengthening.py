"""A run is made longer, as if it had been begun with more steps."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from benchmarks import kills
from gradnorm_optax import lab
from gradnorm_optax.lab.run import lengthening, loop
from gradnorm_optax.lab.schema import Train
from gradnorm_optax.lab.support import jsonl
from gradnorm_optax.lab.support.errors import LabError

RUN = """
[models.small]
kind = "mlp"
depth = 2
width = 16
[train]
steps = 60
batch_size = 32
eval_every = 10
[methods.sing]
optimizer = "sing"
lookahead = 5
[run]
keep = 2
"""
SHORT = '--set', 'train.steps=30'


@pytest.fixture(scope='module')
def file(tmp_path_factory):
  path = tmp_path_factory.mktemp('longer') / 'run.toml'
  path.write_text(RUN)
  return path


@pytest.fixture(scope='module')
def whole(file):
  """A run of all its steps."""
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    return loop.run(lab.load(file), file.parent / 'whole', quiet=True)


@pytest.fixture(scope='module')
def short(file):
  """The same of half as many, ended."""
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    return loop.run(lab.load(file, SHORT[1:]), file.parent / 'short',
                    quiet=True)


def test_it_ends_as_if_it_had_been_begun_so(
    file, whole, short, gradnorm, tmp_path):
  folder = shutil.copytree(short.folder, tmp_path / 'run')
  code, out, err = gradnorm('train', file, '--out', folder)
  assert code == 0 and 'Run:' in out, err
  kills.compare_trains(file, folder, whole.folder)
  for name in ('config.toml', 'data.digest', 'made_with.json', 'model.json',
               'results.json'):
    # Seconds of the last evaluation are its own.
    texts = [re.sub(r'"seconds_per_step": .*', '',
                    (place / name).read_text())
             for place in (folder, whole.folder)]
    assert texts[0] == texts[1], name
  assert {p.name for p in (folder / 'checkpoints').iterdir()} == {
      p.name for p in (whole.folder / 'checkpoints').iterdir()}
  # And it is not made shorter again.
  code, _, err = gradnorm('train', file, '--out', folder, *SHORT)
  assert code == 2 and err.count('\n') == 1
  assert ('(train.steps: 60 there, 30 here; a run can be made longer, not '
          'shorter)' in err)


def test_what_it_was_judged_by_is_gone_until_it_is_judged_again(
    file, short, tmp_path, monkeypatch):
  folder = shutil.copytree(short.folder, tmp_path / 'run')
  before = json.loads((folder / 'results.json').read_text())

  def full(*_):
    raise LabError('stop here')
  monkeypatch.setattr(loop, 'Checkpoints', full)
  with pytest.raises(LabError, match='stop here'):
    loop.run(lab.load(file), folder, quiet=True)
  assert not (folder / 'results.json').exists()
  assert 'steps = 60' in (folder / 'config.toml').read_text()
  monkeypatch.undo()
  done = loop.run(lab.load(file), folder, quiet=True)
  assert done.rows[-1]['step'] == 60 and before['last']['step'] == 30


@pytest.mark.parametrize('keys, words', [
    (['train.schedule=cosine'], r'train.schedule: constant there, cosine here'),
    (['run.seed=1'], r'run.seed: 0 there, 1 here'),
    (['train.warmup=0.1'], r'train.steps: 30 there, 60 here, and under warmup '
     r'step 1 would have had another learning rate\)')])
def test_another_difference_is_named(file, short, keys, words):
  with pytest.raises(LabError, match=words) as found:
    loop.run(lab.load(file, keys), short.folder, quiet=True)
  assert '--fresh or another --out' in str(found.value)


@pytest.mark.parametrize('was, now', [
    ({}, {}),
    ({'warmup': 0.1}, {'warmup': 0.05}),
    ({'schedule': 'step', 'decay_at': [0.5, 0.75]},
     {'schedule': 'step', 'decay_at': [0.25, 0.375]}),
    # A step down that is still to come.
    ({'schedule': 'step', 'decay_at': [0.5]},
     {'schedule': 'step', 'decay_at': [0.25, 0.8]})])
def test_rates_that_are_the_same_so_far(was, now):
  assert lengthening.refusal(
      Train(steps=200, **was), Train(steps=400, **now)) is None


@pytest.mark.parametrize('keys, words, mend', [
    ({'schedule': 'cosine'}, 'schedule = "cosine" step 2 would', None),
    ({'schedule': 'linear', 'decay_at': [0.1]}, '"linear" step 22 ', None),
    ({'schedule': 'step'}, '"step" step 101 ',
     {'decay_at': [0.25, 0.375]}),
    ({'warmup': 0.1}, 'warmup step 1 ', {'warmup': 0.05}),
    ({'warmup': 0.1, 'schedule': 'step'}, '"step" step 1 ',
     {'warmup': 0.05, 'decay_at': [0.25, 0.375]})])
def test_rates_that_would_have_been_others_and_the_mend(keys, words, mend):
  was = Train(steps=200, **keys)
  told = lengthening.refusal(was, Train(steps=400, **keys))
  assert words in told
  found = {key: json.loads(value) for key, value in re.findall(
      r"--set 'train\.(\w+)=([^']*)'", told)}
  assert found == (mend or {})
  if mend:  # what it says is what works
    assert lengthening.refusal(
        was, Train(steps=400, **{**keys, **found})) is None


def test_the_blocks_that_were_looked_at_stay(file, tmp_path):
  few = 'run.look=3'
  loop.run(lab.load(file, [few, SHORT[1]]), tmp_path, quiet=True)
  before = jsonl.read_steps(tmp_path / 'blocks.jsonl')
  done = loop.run(lab.load(file, [few]), tmp_path, quiet=True)
  steps = [row['step'] for row in jsonl.read_steps(tmp_path / 'blocks.jsonl')]
  assert steps[:len(before)] == [row['step'] for row in before]
  assert (np.diff(steps) > 0).all() and steps[-1] == 60
  assert [step - 1 for step in done.look.steps] == steps
