"""What a result was made with: versions, revision, machine."""

import functools
import hashlib
import os
import pathlib
import platform
import subprocess
from importlib import metadata
from typing import Any

PACKAGES = ('gradnorm_optax', 'jax', 'jaxlib', 'flax', 'optax', 'numpy',
            'scipy', 'scikit-learn')
# The lab's folders that shape no trial: they serve, judge and show.
SHOW = ('support', 'results', 'reporting', 'run', 'inspection')


@functools.cache
def versions() -> dict[str, str]:
  """Versions of Python and of the packages that shape a result."""
  found = {'python': platform.python_version()}
  for name in PACKAGES:
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      found[name] = 'not installed'
  return found


@functools.cache
def revision() -> dict[str, Any] | None:
  """The git revision of the package's source; None outside a checkout."""
  folder = pathlib.Path(__file__).parents[2]

  def git(*args: str) -> str:
    done = subprocess.run(
        ['git', '-C', str(folder), *args], capture_output=True, text=True,
        check=True, timeout=10)
    return done.stdout.strip()

  try:
    # A package installed below someone else's checkout is not part of it.
    git('ls-files', '--error-unmatch', '__init__.py')
    return {'commit': git('rev-parse', 'HEAD'),
            'modified': bool(git('status', '--porcelain', '--', '.'))}
  except (OSError, subprocess.SubprocessError):
    return None


@functools.cache
def machine() -> dict[str, Any]:
  """The processor, the devices that JAX sees, and XLA's flags."""
  import jax
  devices = jax.devices()
  return {'platform': platform.platform(), 'cores': os.cpu_count(),
          'devices': f'{len(devices)} x {devices[0].device_kind}',
          'xla_flags': os.environ.get('XLA_FLAGS', '')}


def data_digest(arrays: Any) -> str:
  """A digest of the examples: a file that changed gives new results."""
  import jax
  digest = hashlib.sha256()
  for array in jax.tree.leaves(arrays):
    digest.update(repr((array.shape, array.dtype)).encode())
    digest.update(array.tobytes())
  return digest.hexdigest()[:16]


@functools.cache
def source_digest() -> str:
  """A digest of the package's code: results of other code are not reused."""
  root = pathlib.Path(__file__).parents[2]
  digest = hashlib.sha256()
  for path in sorted(root.rglob('*.py')):
    inside = path.relative_to(root)
    if inside.parts[0] == 'lab' and (
        len(inside.parts) == 2 or inside.parts[1] in SHOW):
      continue
    digest.update(
        inside.as_posix().encode() + b'\0' + path.read_bytes() + b'\0')
  return digest.hexdigest()[:16]
