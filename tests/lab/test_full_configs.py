"""The configurations of full size: their shapes, and two steps of each."""

import math
import pathlib

import cifar_files
import jax
import numpy as np
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.data import sources, text
from gradnorm_optax.lab.training import make_problem

FULL = pathlib.Path(__file__).parents[2] / 'configs' / 'full'
RNG = np.random.default_rng(0)
SHORT = ['train.steps=2', 'train.eval_every=1', 'run.checkpoint_every=2',
         'run.look=0', 'train.batch_size=8']


def idx(values):
  return bytes([0, 0, 8, values.ndim]) + b''.join(
      size.to_bytes(4, 'big') for size in values.shape) + values.tobytes()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """What stands in the place of each source's files, of the right shape."""
  path = tmp_path_factory.mktemp('data')
  cifar_files.write(path / 'cifar', RNG, 100, 20)
  (path / 'mnist').mkdir()
  for part, count in (('train', 100), ('t10k', 20)):
    x = RNG.integers(256, size=(count, 28, 28)).astype(np.uint8)
    y = (np.arange(count) % 10).astype(np.uint8)
    (path / 'mnist' / f'{part}-images-idx3-ubyte').write_bytes(idx(x))
    (path / 'mnist' / f'{part}-labels-idx1-ubyte').write_bytes(idx(y))
  for name, length in (('train', 1024), ('short', 8)):
    tokens = RNG.integers(0, 50257, size=30 * length + 1).astype('<u2')
    tokens[5] = 50256
    tokens.tofile(path / f'{name}.bin')
  return path


CIFAR, MNIST = ['data.path=DATA/cifar'], ['data.path=DATA/mnist']
TOKENS = ['data.path=DATA/train.bin', 'data.validation=0.2', 'data.test=0.2']
PARAMETERS = {  # millions: the papers', or counted by hand
    ('cifar10_bng', 'resnet20'): 0.27, ('cifar10_bng', 'resnet110'): 1.73,
    ('cifar10_weight_norm', 'plain'): 1.407,
    ('sequential_mnist', 'irnn'): 0.0112, ('sequential_mnist', 'lstm'): 0.0418,
    ('gpt2_small', 'decoder'): 124.4}


@pytest.fixture(scope='module')
def full(data):
  """Configurations and examples, at full size."""
  made = {}
  for name, given in (('cifar10_bng', CIFAR), ('cifar10_weight_norm', CIFAR),
                      ('sequential_mnist', MNIST), ('gpt2_small', TOKENS)):
    config = lab.load(FULL / f'{name}.toml', [
        one.replace('DATA', str(data)) for one in given])
    made[name] = config, sources.load(config.data)
  return made


@pytest.mark.parametrize('name, model', PARAMETERS)
def test_models_are_as_large_as_they_should_be(full, name, model):
  config, found = full[name]
  problem = make_problem.join(config.models[model], found)
  params, _ = jax.eval_shape(problem.init, 0)
  count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
  assert count / 1e6 == pytest.approx(PARAMETERS[name, model], rel=0.03)


def test_examples_have_their_full_shape(full):
  shapes = {name: found.train.x.shape[1:] for name, (_, found) in full.items()}
  assert shapes == {'cifar10_bng': (32, 32, 3),
                    'cifar10_weight_norm': (32, 32, 3),
                    'sequential_mnist': (784, 1), 'gpt2_small': (1024,)}
  assert full['gpt2_small'][1].outputs == 50257


# Narrower and shorter than at full size, for memory and time alone.
@pytest.mark.parametrize('name, given', [
    ('cifar10_bng', [
        *CIFAR, 'models.resnet20.options={blocks=1, width=2}']),
    ('cifar10_weight_norm', [
        *CIFAR, 'models.weight_mean_only.width=2',
        'run.model=weight_mean_only', 'run.method=adam']),
    ('sequential_mnist', [*MNIST, 'models.srn.width=4',
                          'methods.sgr.sampling.size=4']),
    ('gpt2_small', [
        *TOKENS, 'data.path=DATA/short.bin', 'data.length=8',
        'models.decoder.depth=1', 'models.decoder.width=12',
        'train.accumulate=2'])])
def test_two_steps(data, tmp_path, name, given):
  found = lab.train(
      FULL / f'{name}.toml', [*SHORT, *(
          one.replace('DATA', str(data)) for one in given)],
      out=tmp_path / 'run', quiet=True)
  assert [row['step'] for row in found.rows] == [1, 2]
  assert all(np.isfinite(row['validation_loss']) for row in found.rows)


@pytest.mark.parametrize('content, words', [
    (b'\1\0\2', '3 bytes are no whole count of two-byte numbers'),
    (b'', 'too few for three parts')])
def test_numbers_of_a_tokenizer(tmp_path, content, words):
  codes = RNG.integers(0, 3000, 200).astype('<u2')
  (tmp_path / 'a').mkdir()
  codes[:120].tofile(tmp_path / 'a' / '1.bin')
  codes[120:].tofile(tmp_path / 'a' / '2.bin')
  keys = {'source': 'text', 'alphabet': 'uint16', 'length': 4}
  found = sources.load(lab.schema.Data(path=str(tmp_path / 'a'), **keys))
  np.testing.assert_array_equal(
      np.concatenate([part.x for part in found[:3]]).ravel(), codes[:196])
  assert found.outputs == found.symbols == codes.max() + 1
  (tmp_path / 'b').write_bytes(content)
  with pytest.raises(lab.LabError, match=words):
    text.windows(lab.schema.Data(path=str(tmp_path / 'b'), **keys))
