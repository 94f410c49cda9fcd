"""What `gradnorm inspect` shows is what the gradients are."""

import json

import jax
import numpy as np
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.inspection import inspection
from gradnorm_optax.lab.results import block_flags
from gradnorm_optax.lab.run import loop
from gradnorm_optax.lab.training import make_problem

CONFIG = """
[data]
source = "characters"
length = 16
size = 100
[models.net]
kind = "transformer"
depth = 2
width = 8
heads = 2
axis = 1
[train]
batch_size = 10
steps = 10
eval_every = 10
[methods.adam]
optimizer = "adam"
[methods.bng]
optimizer = "sgd"
normalize = "bng"
"""


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'look.toml'
  path.write_text(CONFIG)
  return path


def test_norms_of_scanned_layers(file, gradnorm):
  code, out, _ = gradnorm('inspect', file, '--out', file.parent / 'look',
                          '--batches', '3')
  assert code == 0
  assert 'layers/mlp_in[1]' in out and 'stacked axis' in out
  content = json.loads((file.parent / 'look' / 'inspect.json').read_text())
  adam, bng = content['looks']
  assert np.shape(adam['gradient']) == (3, len(adam['blocks']))
  assert adam['gradient'] == adam['after']
  np.testing.assert_allclose(bng['after'], 1.0, rtol=1e-5)
  # The first batch is the same for all methods; its norm, recomputed.
  assert adam['gradient'][0] == pytest.approx(bng['gradient'][0])
  read = lab.load(file)
  made = make_problem.join(read.models['net'], sources.load(read.data))
  params, extra = jax.jit(made.init)(0)
  key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 0)
  rows = jax.random.permutation(key, 70)[:10]
  x, y = (part[rows] for part in made.dataset.train[:2])
  grads = jax.jit(jax.grad(
      lambda p: made.loss(p, extra, x, y)[0]))(params)
  for layer in range(2):
    block = jax.tree.leaves(jax.tree.map(
        lambda a: a[:, layer], grads['layers']['mlp_in']))  # noqa: B023
    want = np.sqrt(sum((np.asarray(a, np.float64) ** 2).sum() for a in block))
    at = adam['blocks'].index(f'layers/mlp_in[{layer}]')
    assert adam['gradient'][0][at] == pytest.approx(want, rel=1e-4)
  assert (file.parent / 'look' / 'net.svg').stat().st_size > 1000


@pytest.mark.parametrize('skip', [False, True])
def test_a_checkpoint_goes_on(tmp_path, skip):
  """As `train` would: rate, moments, batch statistics and batches."""
  config = lab.load({
      'models': {'net': {'kind': 'target', 'target': 'own_models:Net'},
                 'other': {'kind': 'mlp', 'depth': 1}},
      'methods': {'adam': {'optimizer': 'adam'}, 'sgd': {'optimizer': 'sgd'}},
      'train': {'steps': 20, 'eval_every': 10, 'batch_size': 500,
                'schedule': 'cosine'},
      'run': {'non_finite': 'skip' if skip else 'stop', 'look': 0}})
  folder = loop.run(config, tmp_path, quiet=True).folder
  found = inspection.at(folder / 'checkpoints' / '10', batches=4)
  assert found.folder == folder / 'inspect'
  seen, = found.looks  # of the run's own method on its own model
  assert (seen.model, seen.method, seen.steps) == (
      'net', 'adam', [11, 12, 13, 14])
  trainer, state = loop.restored(folder, config, 10)
  one = jax.jit(trainer.one)
  for n in range(4):
    before = state
    state, figures = one(state, trainer.parts[0])
    moved = np.concatenate([np.ravel(a - b) for a, b in zip(
        *map(jax.tree.leaves, (state.params, before.params)), strict=True)])
    assert seen.loss[n] == pytest.approx(float(figures.loss), rel=1e-5)
    for whole, parts in ((float(figures.gradient), seen.gradient),
                         (np.linalg.norm(moved), seen.update)):
      assert np.linalg.norm(parts[n]) == pytest.approx(whole, rel=1e-3)
  # At the end of a cosine the steps are over.
  last, = inspection.at(folder, batches=1).looks
  assert last.steps == [21] and last.ratio.max() < 1e-6 < seen.ratio.min()


def test_a_chain_that_undoes_itself_is_told_with_its_mend(tmp_path, gradnorm):
  """Of the configuration and of a checkpoint; a sound one is not mentioned."""
  file = tmp_path / 'digits.toml'
  file.write_text("""
[models.net]
kind = "mlp"
depth = 1
width = 8
[train]
steps = 10
eval_every = 10
[methods.adam]
optimizer = "adam"
[methods.bng]
optimizer = "sgd"
normalize = "bng"
clip = 1.0
lookahead = 5
""")
  folder = tmp_path / 'look'
  code, out, _ = gradnorm('inspect', file, '--out', folder, '--batches', '1')
  assert code == 0
  assert 'net, bng: this chain undoes itself' in out and 'mend: leave' in out
  assert 'net, adam: this chain' not in out
  found = json.loads((folder / 'inspect.json').read_text())['orders']
  assert list(found) == ['net, bng']
  finding, = found['net, bng']
  assert 'in front of normalize_by_block_norm' in finding['where']
  config = lab.load(file, ['run.method="bng"', 'run.learning_rate=0.01'])
  run = loop.run(config, tmp_path / 'run', quiet=True).folder
  again = inspection.at(run, batches=1).orders
  assert {name: [one._asdict() for one in findings]
          for name, findings in again.items()} == found


def test_a_folder_without_checkpoints(tmp_path, gradnorm):
  code, _, err = gradnorm('inspect', tmp_path)
  assert code == 2 and 'config.toml' in err


def test_flags():
  names = ['gone', 'dead', 'tiny', 'huge', 'wild', 'fine', 'also', 'well']
  norms = np.array([[np.nan, 0, 1e-9, 1e4, 1, 1, 1, 1.0]] * 2)
  ratio = np.full((2, 8), 0.01)
  ratio[1, 4] = 2.0
  rest = [7, 9], np.ones(2)
  found = block_flags.flags(names, *rest, norms, norms, ratio, norms)
  for name, words in {'gone': 'not finite from step 7', 'dead': 'zero',
                      'tiny': 'vanishing', 'huge': 'exploding',
                      'wild': 'more than its own size'}.items():
    assert words in found.pop(name)
  assert not found
  # Once normalized, a small gradient is no cause for worry.
  after = np.ones((2, 8))
  assert 'tiny' not in block_flags.flags(
      names, *rest, norms, after, ratio * 0, norms)


def test_no_rate_is_blamed_for_the_first_step():
  names, ones = ['a', 'b'], np.ones((1, 2))

  def of_b(loss, gradient, size):
    found = block_flags.flags(
        names, [1], np.array([loss]), np.array([gradient]), ones, ones,
        np.array([size]))['b']
    assert 'rate' not in found and 'step 1, before any update' in found
    return found

  lost = [np.nan, np.nan]
  assert "a's parameters are not; look at the initialization" in of_b(
      np.nan, lost, [np.nan, 1.0])
  assert 'the loss is nan though all parameters are finite' in of_b(
      np.nan, lost, [1.0, 1.0])
  assert 'the loss is 2, but its slope has no number here;' in of_b(
      2.0, [1.0, np.nan], [1.0, 1.0])


def test_the_rate_and_whether_the_run_has_ended(file, tmp_path, gradnorm):
  """The rates are the schedule's at the steps that are looked at."""
  keys = ['data={source = "digits"}',
          'models={net = {kind = "mlp", depth = 1, width = 8}}',
          'train.schedule=linear', 'run.learning_rate=0.5', 'run.look=0']
  fresh = lab.inspect(file, keys, out=tmp_path / 'fresh')
  assert fresh.told == ('From the start, seed 0, at learning rate 0.5 to 0.1 '
                        '(run.learning_rate = 0.5).')
  run = lab.train(file, [*keys, 'run.checkpoint_every=1',
                         'train.eval_every=5'], out=tmp_path / 'run',
                  quiet=True)
  code, out, err = gradnorm(
      'inspect', run.folder / 'checkpoints' / '5', '--batches', 2,
      '--out', tmp_path / 'look')
  assert code == 0 and 'Step 5 of 10: the run goes on' in out, err
  assert 'run.learning_rate = 0.5' in ' '.join(out.split())
  code, out, err = gradnorm('inspect', run.folder, '--batches', 1)
  assert code == 0 and 'The run has ended, at step 10' in ' '.join(
      out.split()), err
