"""The lab runs Flax and optax's own optimizers: ordinary promotion here."""

import os

import jax
import pytest

FLAGS = os.environ['XLA_FLAGS']  # before any command


@pytest.fixture(autouse=True)
def _ordinary_promotion(_strict_promotion):
  """Lifts the strict promotion of the other folders."""
  del _strict_promotion
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
  """Lets every test begin with the flags of a new process.

  A command asks XLA for what it needs, in the environment; what comes after it
  in this process would seem to be made with that.
  """
  os.environ['XLA_FLAGS'] = FLAGS


TINY = """
[models.small]
kind = "mlp"
depth = 1
width = 16

[train]
steps = 20
batch_size = 32
eval_every = 10

[compare]
learning_rates = [0.01, 0.1, 1.0]
tune_seeds = 1
seeds = 2
target = 0.3
workers = 1
timing_rounds = 3

[methods.momentum]
optimizer = "momentum"

[methods.clip_momentum]
optimizer = "momentum"
clip = 1.0
"""


@pytest.fixture(scope='session')
def tiny_text():
  """The text of a configuration that is compared in seconds."""
  return TINY


@pytest.fixture(scope='session')
def finished(tmp_path_factory, tiny_text):
  """Its finished run folder: (file, comparison)."""
  from gradnorm_optax import lab
  from gradnorm_optax.lab.comparison import comparison
  folder = tmp_path_factory.mktemp('finished')
  path = folder / 'tiny.toml'
  path.write_text(tiny_text)
  with jax.numpy_dtype_promotion('standard'):
    return path, comparison.run(lab.load(path), folder / 'run', quiet=True)


@pytest.fixture
def tiny(tmp_path, tiny_text):
  """The file of that configuration; `finished` alone looks at the blocks."""
  path = tmp_path / 'tiny.toml'
  path.write_text(tiny_text.replace('[methods.', 'look = 0\n\n[methods.', 1))
  return path


@pytest.fixture
def gradnorm(capsys):
  """Runs the command in this process: (exit code, stdout, stderr)."""
  from gradnorm_optax.lab import cli

  def call(*args):
    with pytest.raises(SystemExit) as stop:
      cli.main([str(arg) for arg in args])
    shown = capsys.readouterr()
    return stop.value.code, shown.out, shown.err

  return call
