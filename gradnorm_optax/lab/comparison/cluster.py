"""Trials on the workers of a dask scheduler; all that is kept stays here.

Dask hands the calls out, sees that workers die and tries again. Folder, lock,
store and progress are this process's.
"""

import collections
import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import pickle
import socket
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import jax

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison import errands, on_worker, scheduler as lib
from gradnorm_optax.lab.comparison.computation import Computation
from gradnorm_optax.lab.comparison.errands import Errands, Killed
from gradnorm_optax.lab.comparison.missing import Call
from gradnorm_optax.lab.comparison.model_programs import Outcome
from gradnorm_optax.lab.comparison.parallelism import together
from gradnorm_optax.lab.results import step_cost
from gradnorm_optax.lab.results.made_with import Basis
from gradnorm_optax.lab.results.step_cost import Rounds
from gradnorm_optax.lab.support import provenance, travelling_code
from gradnorm_optax.lab.support.errors import LabError


@contextlib.contextmanager
def open(scheduler: str, folder: pathlib.Path) -> Iterator['Cluster']:
  """The workers of a scheduler, as a place where a comparison is computed."""
  with lib.connect(scheduler) as link:
    cluster = Cluster(scheduler, link, folder)
    try:
      yield cluster
    finally:
      cluster.close()


class Cluster:
  """A place of which `place.Place` says what the runner asks."""

  here: bool = False
  threads: int | None = 256  # that wait for a worker or for what it does

  def __init__(self, address: str, link: lib.Link, folder: pathlib.Path):
    """Takes a client of the scheduler at an address, for a run folder.

    The folder's name is the comparison's among the workers: what was left there
    of a command that was killed is replaced.
    """
    self.address = address
    self._session = 'gradnorm-' + hashlib.sha256(
        f'{socket.gethostname()}:{folder.resolve()}'.encode()).hexdigest()[:12]
    self._client = link.client
    self._settings = {name: getattr(jax.config, name)
                      for name in provenance.SETTINGS} | link.settings
    self._flags = provenance.arithmetic()['XLA_FLAGS']
    self._errands: Errands | None = None

  def close(self) -> None:
    """Ends what was asked; the workers forget the comparison."""
    if self._errands is None:
      return
    self._errands.close()
    if self._client.status == 'running':
      with contextlib.suppress(OSError, TimeoutError):  # it is gone just now
        self._client.unregister_worker_plugin(self._session)

  def placement(self, compare: schema.Compare, trials: int) -> tuple[int, int]:
    """Looks at the workers that are there.

    Raises:
      LabError: None within a minute, or one whose results would be others.
    """
    self._sites = self._survey()
    site = self._like()
    batch = together(compare, trials, site.devices, site.cpu)
    return len(self._sites), batch

  def _survey(self) -> dict[str, on_worker.Site]:
    """What the workers' results would rest on."""
    found: dict[str, Any] = {}
    for _ in range(lib.DEATHS):
      try:
        self._client.wait_for_workers(1, timeout=errands.WAIT)
      except TimeoutError as error:
        raise LabError(errands.nobody(self.address)) from error
      found = self._client.run(
          on_worker.site, self._flags, self._settings, on_error='return')
      if found and not any(
          isinstance(site, OSError) for site in found.values()):
        break  # none died of late
    here = on_worker.site(self._flags, {})
    faults = []
    for address, site in found.items():
      if isinstance(site, on_worker.Site):
        fault = on_worker.difference(site, here)
        name = f'worker {address} on {site.host}'
      else:
        fault, name = f'{site}', f'worker {address}'
      if fault:
        faults.append(f'{name}: {fault}')
    if faults:
      raise LabError('\n'.join(faults))
    return found

  def _like(self) -> on_worker.Site:
    """The worker that all must be like: as this process, if one is.

    Raises:
      LabError: Another one is of another kind.
    """
    here = provenance.arithmetic()
    first = min(self._sites, key=lambda address: (
        self._sites[address].arithmetic != here, address))
    like = self._sites[first]
    faults = [f'worker {address} on {site.host}: {fault} ({first} on '
              f'{like.host})' for address, site in self._sites.items()
              if (fault := on_worker.first_difference(
                  site.arithmetic, like.arithmetic))]
    if faults:
      raise LabError('\n'.join(faults))
    return like

  def take(self, computation: Computation, basis: Basis) -> Basis:
    """Packs the models, the data and the user's modules."""
    self._computation = computation
    like = self._like()
    self._times_here = like.arithmetic == provenance.arithmetic()
    self._share = on_worker.Share(
        self._session, like, self._flags, self._settings,
        _bundle(computation, basis))
    return basis._replace(
        arithmetic=like.arithmetic, workers=_machines(self._sites),
        machine=basis.machine if self._times_here else like.machine)

  def begin(self) -> None:
    """Sends them to all workers; the scheduler does to those that join.

    Raises:
      LabError: They are not the same there.
    """
    for left in reversed(range(lib.DEATHS)):
      try:
        self._client.register_plugin(self._share)
        break
      except OSError as error:  # one dies while they are told
        if not left or self._client.status != 'running':
          raise LabError(errands.gone(self.address)) from error
    self._errands = Errands(self._client, self.address, self._session)

  def order(self, calls: list[Call]) -> list[Call]:
    """Those of all programs in turns: workers begin with different ones.

    Each compiles what it is asked for first; the others may find it compiled.
    """
    seen: collections.Counter[Any] = collections.Counter()
    turns = []
    for call in calls:
      turns.append(seen[call.pair])
      seen[call.pair] += 1
    return [calls[at] for at in sorted(
        range(len(calls)), key=turns.__getitem__)]

  def trials(self, call: Call) -> list[Outcome]:
    """Runs the trials of a call; those that kill workers count as diverged."""
    try:
      return self._run('trials', call, trials=len(call.seeds))[1]
    except Killed as error:
      return [Outcome({'train_loss': [], 'loss': [], 'score': []}, True, 0.0,
                      None, reason=f'left out: {error}')] * len(call.seeds)

  def do(self, what: str, *args: Any) -> Any:
    """Calls a method of the computation on a worker."""
    try:
      return self._run(what, *args)[1]
    except Killed as error:
      raise LabError(f'{what} of {args[0]}: {error}') from error

  def rounds(self, model: str, allowed: float,
             tick: Callable[[], None]) -> tuple[Rounds, str | None]:
    """Times steps here, or on the machine whose name is returned.

    On another one where the trials ran on another kind of device.
    """
    if not self._times_here:
      host, found = self._run('rounds', model, allowed)
      return found, host
    bench = self._computation.benches[model].alone
    tables = step_cost.programs(self._computation.config, model)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      list(pool.map(bench.compile, tables.values()))
    return self._computation.rounds(model, allowed, tick), None

  def passes(self, model: str) -> tuple[list[dict[str, Any]], str | None]:
    """Times a model's forward pass where steps are timed."""
    if self._times_here:
      return self._computation.passes(model), None
    host, found = self._run('passes', model)
    return found, host

  def told(self) -> str:
    """What the workers have done so far."""
    return self._errands.told() if self._errands else ''

  def _run(self, what: str, *args: Any, trials: int = 0) -> tuple[str, Any]:
    assert self._errands is not None, 'nothing was taken'
    return self._errands.run(what, *args, trials=trials)


def _bundle(computation: Computation, basis: Basis) -> bytes:
  """What travels, pickled."""
  config = computation.config
  names = sorted({name for model in config.models
                  for method in config.methods_on(model)
                  for name in config.user_functions(model, method)})
  dataset = computation.dataset._replace(preprocessing=None)
  # Modules without a private name are not found on the other side.
  modules = travelling_code.public(names)
  for module in modules:
    cloudpickle.register_pickle_by_value(module)
  try:
    pickled = cloudpickle.dumps(dataset)
  finally:
    for module in modules:
      cloudpickle.unregister_pickle_by_value(module)
  return pickle.dumps(on_worker.Bundle(
      config, travelling_code.pack(names), names,
      travelling_code.digests(names), pickled, basis.data,
      computation.batch))


def _machines(sites: dict[str, on_worker.Site]) -> tuple[str, ...]:
  """The machines of the workers, a line for each."""
  counts = collections.Counter(
      f'{site.host} ({site.machine["devices"]})' for site in sites.values())
  return tuple(f'{count} x {name}' for name, count in sorted(counts.items()))
