"""What a result was made with: versions, revision, machine."""

import functools
import hashlib
import os
import pathlib
import platform
import subprocess
from importlib import metadata
from typing import Any

from gradnorm_optax.lab.support import process_wide

PACKAGES = ('gradnorm_optax', 'jax', 'jaxlib', 'flax', 'optax', 'numpy',
            'scipy', 'scikit-learn')
BLOCK = 1 << 24  # bytes that a digest takes at once
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
    rows = max(1, BLOCK // max(1, array[:1].nbytes))  # it may be a mapped file
    for first in range(0, len(array), rows):
      digest.update(array[first:first + rows].tobytes())
  return digest.hexdigest()[:16]


# JAX's settings that results rest on.
SETTINGS = ('jax_enable_x64', 'jax_default_matmul_precision',
            'jax_default_prng_impl', 'jax_threefry_partitionable')


@functools.cache
def arithmetic() -> dict[str, str]:
  """What rounding and random numbers rest on besides versions and code.

  Threads share the sums of a large product, and a device orders them its own
  way. Processors of one kind are not told apart: their last digits may differ.
  """
  import jax
  flags = os.environ.get('XLA_FLAGS', '')
  device = jax.devices()[0]
  cores = len(os.sched_getaffinity(0)) if hasattr(
      os, 'sched_getaffinity') else os.cpu_count()
  threads = ('' if device.platform != 'cpu' else
             '1' if process_wide.ONE_THREAD in flags else str(cores))
  return {'device': device.device_kind, 'processor': platform.machine(),
          'threads': threads, 'XLA_FLAGS': flags, **{
              name: str(getattr(jax.config, name)) for name in SETTINGS}}


def made_with() -> dict[str, str]:
  """What the bits of one run rest on besides configuration, data and model.

  Over how many devices it is spread is left out: it may go on over others,
  equal to rounding.
  """
  found = arithmetic()
  flags = [flag for flag in found['XLA_FLAGS'].split()
           if process_wide.DEVICES not in flag]
  return versions() | found | {
      'XLA_FLAGS': ' '.join(flags),
      'source of gradnorm_optax': source_digest(
          tuple(room for room in SHOW if room != 'run'))}


@functools.cache
def source_digest(without: tuple[str, ...] = SHOW) -> str:
  """A digest of the package's code: results of other code are not reused.

  Args:
    without: The rooms of the lab that are left out.
  """
  return _short(repr(source_files(without)).encode())


@functools.cache
def source_files(without: tuple[str, ...] = SHOW) -> dict[str, str]:
  """{file of the package: its digest}; see `source_digest`."""
  root = pathlib.Path(__file__).parents[2]
  found = {}
  for path in sorted(root.rglob('*.py')):
    inside = path.relative_to(root)
    if inside.parts[0] == 'lab' and (
        len(inside.parts) == 2 or inside.parts[1] in without):
      continue
    found[inside.as_posix()] = _short(path.read_bytes())
  return found


def _short(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()[:16]
