"""No program holds the training part: it is an argument of each."""

import jax
import pytest

# A warning, which is an error here. The part is 320 kB, and initialization
# may hold the first batch, 32 kB.
LIMIT = 100_000


@pytest.fixture(autouse=True)
def _no_large_constants():
  before = jax.config.jax_captured_constants_warn_bytes
  jax.config.update('jax_captured_constants_warn_bytes', LIMIT)
  yield
  jax.config.update('jax_captured_constants_warn_bytes', before)


def test_a_constant_of_that_size_would_be_seen():
  with pytest.warns(UserWarning, match='constants were captured'):
    part = jax.numpy.ones(LIMIT)
    jax.jit(lambda a: a + part).lower(1.0)


@pytest.mark.parametrize('command, options, code', [
    ('inspect', ['--batches', '2'], 0),
    ('train', ['--set', 'run.learning_rate=1e37'], 3)])  # is diagnosed
def test_the_training_part_is_an_argument(
    tiny, gradnorm, command, options, code):
  found, _, err = gradnorm(
      command, tiny, '--out', tiny.parent / 'run', *options, '--set',
      'methods.clip_momentum.models=[]', '--set', 'run.method=momentum')
  assert found == code, err
