"""Where a comparison is computed: in this process, or on a cluster."""

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any, Protocol

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison.computation import Computation
from gradnorm_optax.lab.comparison.missing import Call
from gradnorm_optax.lab.comparison.model_programs import Outcome
from gradnorm_optax.lab.comparison.parallelism import placement
from gradnorm_optax.lab.results.made_with import Basis
from gradnorm_optax.lab.results.step_cost import Rounds
from gradnorm_optax.lab.support.errors import LabError

INSTALL = ('--scheduler needs dask, which is not installed; run: '
           'pip install "gradnorm_optax[cluster]"')


class Place(Protocol):
  """What the runner asks; its threads wait for the answers.

  Attributes:
    here: Whether programs are compiled in this process, before any trial.
    threads: How many threads ask at a time; None: one for each worker.
  """

  here: bool
  threads: int | None

  def placement(self, compare: schema.Compare, trials: int) -> tuple[int, int]:
    """How many workers there are, and how many trials share a call."""

  def take(self, computation: Computation, basis: Basis) -> Basis:
    """Takes what is computed; says what the trials rest on there."""

  def begin(self) -> None:
    """Begins, once the folder is this process's."""

  def order(self, calls: list[Call]) -> list[Call]:
    """In which order they are asked for."""

  def trials(self, call: Call) -> list[Outcome]:
    """Runs the trials of a call."""

  def do(self, what: str, *args: Any) -> Any:
    """Calls a method of the computation."""

  def rounds(self, model: str, allowed: float,
             tick: Callable[[], None]) -> tuple[Rounds, str | None]:
    """Times the steps of a model's methods; on which machine if not here."""

  def passes(self, model: str) -> tuple[list[dict[str, Any]], str | None]:
    """Times a model's forward pass; on which machine if not here."""

  def told(self) -> str:
    """What the progress bar says of it."""


class Here:
  """This process."""

  here: bool = True
  threads: int | None = None

  def placement(self, compare: schema.Compare, trials: int) -> tuple[int, int]:
    """As this machine has cores and devices."""
    return placement(compare, trials)

  def take(self, computation: Computation, basis: Basis) -> Basis:
    """Takes what is computed."""
    self._computation = computation
    return basis

  def begin(self) -> None:
    """Nothing is to be sent."""

  def order(self, calls: list[Call]) -> list[Call]:
    """As they are."""
    return calls

  def trials(self, call: Call) -> list[Outcome]:
    """Runs the trials of a call."""
    return self._computation.trials(call)

  def do(self, what: str, *args: Any) -> Any:
    """Calls a method of the computation."""
    return getattr(self._computation, what)(*args)

  def rounds(self, model: str, allowed: float,
             tick: Callable[[], None]) -> tuple[Rounds, str | None]:
    """Times the steps of a model's methods."""
    return self._computation.rounds(model, allowed, tick), None

  def passes(self, model: str) -> tuple[list[dict[str, Any]], str | None]:
    """Times a model's forward pass."""
    return self._computation.passes(model), None

  def told(self) -> str:
    """Nothing."""
    return ''


def open(scheduler: str | None, folder: pathlib.Path
         ) -> contextlib.AbstractContextManager[Place]:
  """This process, or the workers of a dask scheduler.

  Args:
    scheduler: `tcp://HOST:PORT`, or `local:N` for N workers on this machine.
    folder: The comparison's.

  Raises:
    LabError: No dask, or no scheduler there.
  """
  if scheduler is None:
    return contextlib.nullcontext(Here())
  try:
    from gradnorm_optax.lab.comparison import cluster
  except ModuleNotFoundError as error:
    if error.name not in ('cloudpickle', 'dask', 'distributed'):
      raise
    raise LabError(INSTALL) from error
  return cluster.open(scheduler, folder)
