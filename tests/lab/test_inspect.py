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


def test_the_folder_of_a_run(file, gradnorm):
  file.write_text(
      '[models.net]\nkind = "mlp"\ndepth = 1\nwidth = 8\n'
      '[train]\nsteps = 10\neval_every = 10\n'
      '[methods.adam]\noptimizer = "adam"\n')
  read = lab.load(file)
  done = loop.run(read, file.parent / 'run', quiet=True)
  found = inspection.at(done.folder, batches=2)
  assert found.folder == done.folder / 'inspect'
  # The first look is at the trained parameters: its gradient, recomputed.
  made = make_problem.join(read.models['net'], sources.load(read.data))
  key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 0)
  rows = jax.random.permutation(key, 1257)[:100]
  x, y = (part[rows] for part in made.dataset.train[:2])
  kernel = jax.grad(lambda p: made.loss(p, {}, x, y)[0])(done.params)['output']
  want = np.sqrt(sum((np.asarray(a, np.float64) ** 2).sum()
                     for a in jax.tree.leaves(kernel)))
  at = found.looks[0].blocks.index('output')
  assert found.looks[0].gradient[0, at] == pytest.approx(want, rel=1e-4)
  (file.parent / 'empty').mkdir()
  code, _, err = gradnorm('inspect', file.parent / 'empty')
  assert code == 2 and 'config.toml' in err


def test_flags():
  names = ['gone', 'dead', 'tiny', 'huge', 'wild', 'fine', 'also', 'well']
  norms = np.array([[np.nan, 0, 1e-9, 1e4, 1, 1, 1, 1.0]] * 2)
  ratio = np.full((2, 8), 0.01)
  ratio[1, 4] = 2.0
  found = block_flags.flags(names, norms, norms, ratio)
  for name, words in {'gone': 'not finite from batch 1', 'dead': 'zero',
                      'tiny': 'vanishing', 'huge': 'exploding',
                      'wild': 'more than its own size'}.items():
    assert words in found.pop(name)
  assert not found
  # Once normalized, a small gradient is no cause for worry.
  after = np.ones((2, 8))
  assert 'tiny' not in block_flags.flags(names, norms, after, ratio * 0)
