"""A dask scheduler: one that runs somewhere, or one of this command's own."""

import contextlib
import glob
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import distributed
import jax

from gradnorm_optax.lab.support.errors import LabError

CONNECT = 10.0  # seconds in which a scheduler should answer
DEATHS = 3  # of workers, after which a trial is left out


class Link(NamedTuple):
  """A client of a scheduler.

  Attributes:
    client: Dask's.
    settings: What is to be set of `jax.config` in its workers besides.
  """

  client: distributed.Client
  settings: dict[str, Any]


@contextlib.contextmanager
def connect(address: str) -> Iterator[Link]:
  """Connects to `tcp://HOST:PORT`, or starts `local:N` workers until the end.

  Raises:
    LabError: Nobody answers there, or the address is none.
  """
  if address.partition(':')[0] == 'local':
    with _local(address) as link:
      yield link
    return
  with _hushed():
    client = _client(address)
    try:
      yield Link(client, {})
    finally:
      client.close(timeout=10 if client.status == 'running' else 1)


def _client(address: str) -> distributed.Client:
  """Finds the scheduler."""
  try:
    return distributed.Client(address, timeout=CONNECT, set_as_default=False)
  except (OSError, TimeoutError) as error:
    raise LabError(
        f'--scheduler {address}: no scheduler answers there; start one with: '
        'dask scheduler (it prints its address)') from error
  except (ValueError, TypeError) as error:
    raise LabError(f'--scheduler {address}: {error}; write tcp://HOST:PORT, '
                   'or local:N for N workers on this machine') from error


@contextlib.contextmanager
def _local(address: str) -> Iterator[Link]:
  """Workers of one thread each, as processes; those that die are replaced."""
  found = re.fullmatch(r'local:([1-9]\d*)', address)
  if not found:
    raise LabError(f'--scheduler {address}: write local:N for N workers on '
                   'this machine, such as local:2')
  shown = _devices(int(found[1]), address)
  with tempfile.TemporaryDirectory(
      prefix='gradnorm-', ignore_cleanup_errors=True) as place, _hushed():
    with _started(address, place, shown) as cluster:
      with distributed.Client(cluster, set_as_default=False) as client:
        # What one worker has compiled the others read.
        known = getattr(jax.config, 'jax_compilation_cache_dir')
        yield Link(client, {} if known else {
            'jax_compilation_cache_dir': f'{place}/compiled',
            'jax_persistent_cache_min_compile_time_secs': 0.0})


def _started(address: str, place: str,
             shown: list[dict[str, str]]) -> distributed.SpecCluster:
  """Starts a scheduler in this process, and workers; again if they die."""
  for left in reversed(range(DEATHS)):
    try:
      return distributed.SpecCluster(
          scheduler={'cls': distributed.Scheduler, 'options': {
              'host': '127.0.0.1', 'allowed_failures': DEATHS - 1,
              'dashboard': False, 'dashboard_address': '127.0.0.1:0'}},
          workers={number: {'cls': distributed.Nanny, 'options': {
              'nthreads': 1, 'memory_limit': 0, 'local_directory': place,
              'silence_logs': logging.CRITICAL, 'dashboard': False,
              'env': env}} for number, env in enumerate(shown)})
    except RuntimeError as error:
      if not left:
        raise LabError(f'--scheduler {address}: its workers die as they start '
                       f'({error}); what was finished is kept') from error
  raise AssertionError('it returned or raised')


def _devices(workers: int, address: str) -> list[dict[str, str]]:
  """What each worker is shown of this machine's GPUs: one, where there are."""
  if os.environ.get('JAX_PLATFORMS') == 'cpu':
    return [{}] * workers
  given = os.environ.get('CUDA_VISIBLE_DEVICES')
  names = (re.findall(r'[^,\s]+', given) if given is not None else
           [str(at) for at in range(len(glob.glob('/dev/nvidia[0-9]*')))])
  if not names:
    return [{}] * workers
  if workers > len(names):
    raise LabError(f'--scheduler {address}: there are {len(names)} GPUs, and '
                   'each worker takes one')
  return [{'CUDA_VISIBLE_DEVICES': name} for name in names[:workers]]


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
  """Keeps dask from telling on the terminal of every worker that dies."""
  names = [name for name in logging.root.manager.loggerDict
           if name.partition('.')[0] == 'distributed']
  before = {logger: logger.level for logger in map(logging.getLogger, names)}
  for logger in before:
    logger.setLevel(logging.CRITICAL + 1)
  try:
    yield
  finally:
    for logger, level in before.items():
      logger.setLevel(level)
