"""What the process of a dask worker does of a comparison."""

import asyncio
import hashlib
import pathlib
import pickle
import socket
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import distributed
import jax

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison.computation import Computation
from gradnorm_optax.lab.data.dataset import Dataset
from gradnorm_optax.lab.support import (
  process_wide,
  provenance,
  travelling_code,
  user_code,
)
from gradnorm_optax.lab.support.errors import LabError


class Site(NamedTuple):
  """What results rest on in one process.

  Attributes:
    host: The machine's name.
    versions: Those of the packages.
    files: {file of this package: digest}.
    arithmetic: What rounding rests on.
    machine: Processor and devices.
    devices: How many.
    cpu: Whether they are processors.
  """

  host: str
  versions: dict[str, str]
  files: dict[str, str]
  arithmetic: dict[str, str]
  machine: dict[str, Any]
  devices: int
  cpu: bool


class Bundle(NamedTuple):
  """What travels to a worker, and what it must be there.

  Attributes:
    config: What is compared.
    code: The user's modules.
    names: The functions in them.
    files: Their digests.
    dataset: The examples, pickled, for the objective may hold the user's code.
    data: Their digest.
    batch: How many trials share a call.
  """

  config: schema.Config
  code: list[travelling_code.Folder]
  names: list[str]
  files: dict[str, str]
  dataset: bytes
  data: str
  batch: int


class Unfit(LabError):
  """A worker whose results would be others; one line says why."""


def site(flags: str, settings: dict[str, Any]) -> Site:
  """Says what results rest on here, in a process with these flags of XLA."""
  process_wide.settle(flags, settings)
  devices = jax.devices()
  return Site(
      socket.gethostname(), provenance.versions(), provenance.source_files(),
      provenance.arithmetic(), provenance.machine(), len(devices),
      devices[0].platform == 'cpu')


def difference(there: Site, here: Site) -> str | None:
  """The first thing in which a worker's results would be others, in words.

  The arithmetic is compared by whoever knows which of several is meant.
  """
  return (first_difference(there.versions, here.versions)
          or first_difference(there.files, here.files, 'gradnorm_optax/'))


def first_difference(there: Mapping[str, str], here: Mapping[str, str],
                     what: str = '') -> str | None:
  """The first entry that differs, in words."""
  for name in sorted({**there, **here}):
    was, now = there.get(name, 'none'), here.get(name, 'none')
    if was != now:
      return f'{what}{name} differs: {was} there, {now} here'
  return None


class Share(distributed.WorkerPlugin):
  """A comparison's share of a worker: built once, before the first trial.

  Every worker that joins gets one from the scheduler. A worker that is fit
  offers the resource by which trials are handed out: as many as it has threads,
  on an accelerator one.
  """

  def __init__(self, session: str, like: Site, flags: str,
               settings: dict[str, Any], content: bytes):
    """Takes what every worker must be like, and a pickled `Bundle`."""
    self.name = self.session = session
    self.like, self.flags, self.settings = like, flags, settings
    self.content = content

  async def setup(self, worker: Any) -> None:
    """Makes sure that the worker is fit; offers it."""
    self._lock = threading.Lock()
    self._computation: Computation | None = None
    slots = await asyncio.get_running_loop().run_in_executor(
        None, self._prepare, worker)
    await worker.set_resources(**{self.session: slots})
    # A resource that comes wakes no task that waits for it; this does.
    worker.status = distributed.Status.paused
    worker.status = distributed.Status.running

  async def teardown(self, worker: Any) -> None:
    """Forgets the comparison."""
    self._computation = None
    await worker.set_resources(**{self.session: 0})

  def _prepare(self, worker: Any) -> int:
    """Unpacks and checks what came; how many trials may run at a time."""
    here = site(self.flags, self.settings)
    who = f'worker {worker.address} on {here.host}'
    fault = difference(here, self.like) or first_difference(
        here.arithmetic, self.like.arithmetic)
    if fault:
      raise Unfit(f'{who}: {fault}')
    bundle: Bundle = pickle.loads(self.content)
    # A folder for each content: what was read of another is not asked again.
    self._place = pathlib.Path(worker.local_directory) / self.session / (
        hashlib.sha256(self.content).hexdigest()[:12])
    self._code = bundle.code
    self._places = travelling_code.unpack(self._code, self._place)
    try:
      dataset: Dataset = pickle.loads(bundle.dataset)
      for name in bundle.names:
        user_code.resolve(name)
    except (LabError, ImportError) as error:
      raise Unfit(f'{who}: {error}') from error
    fault = first_difference(
        travelling_code.digests(bundle.names), bundle.files)
    if fault is None and provenance.data_digest(dataset[:3]) != bundle.data:
      fault = 'the examples differ from those that were sent'
    if fault:
      raise Unfit(f'{who}: {fault}')
    self._computation = Computation(bundle.config, dataset, bundle.batch)
    return worker.state.nthreads if here.cpu else 1

  def do(self, what: str, args: tuple[Any, ...]) -> Any:
    """Calls a method of the computation."""
    with self._lock:
      assert self._computation is not None, 'not fit, and was given work'
      if user_code.searched() != self._places:  # another comparison's by now
        travelling_code.unpack(self._code, self._place)
      assert self._computation.benches  # built by one thread
    return getattr(self._computation, what)(*args)


def work(session: str, what: str,
         args: tuple[Any, ...]) -> tuple[str, str, Any]:
  """A task: worker, machine, and what a method of the computation gives."""
  worker = distributed.get_worker()
  share: Any = worker.plugins[session]
  return str(worker.name), socket.gethostname(), share.do(what, args)
