"""One strict environment for every test.

Eight virtual devices, a compilation cache shared by the workers and by what
they start, machine code that XLA does not polish (compiling is what the tests
wait for; `.ci/run` runs them on the newest Python with its own level, 3),
warnings as errors (pyproject.toml), and strict dtype and rank promotion: our
own code never relies on implicit promotion. Code that does (Flax, optax's own
optimizers) is called inside `jax.numpy_dtype_promotion("standard")`; a folder
of tests that is about such code lifts the rule in a conftest of its own.
"""

import gc
import os
import pathlib
import tempfile

os.environ['XLA_FLAGS'] = (  # of two values of a flag the later one holds
    '--xla_backend_optimization_level=0 '
    + os.environ.get('XLA_FLAGS', '')
    + ' --xla_force_host_platform_device_count=8'
)
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax
import pytest

CACHE = os.environ.get('GRADNORM_TEST_CACHE') or str(
    pathlib.Path(tempfile.gettempdir()) / f'gradnorm-jax-{jax.__version__}')
SHORTEST = 0.2
jax.config.update('jax_compilation_cache_dir', CACHE)
jax.config.update('jax_persistent_cache_min_compile_time_secs', SHORTEST)
os.environ.update({  # for the processes that tests start
    'JAX_COMPILATION_CACHE_DIR': CACHE,
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': str(SHORTEST)})

gc.freeze()  # looking through all imports again and again finds nothing


@pytest.fixture(autouse=True)
def _strict_promotion():
  """Runs the test under strict dtype promotion and no rank promotion."""
  with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
    yield
