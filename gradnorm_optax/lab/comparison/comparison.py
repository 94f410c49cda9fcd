"""Methods x learning rates x seeds on the same footing."""

import pathlib
from typing import Any, NamedTuple

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison import place as places, time_budget
from gradnorm_optax.lab.comparison.runner import Runner
from gradnorm_optax.lab.reporting import comparison_files, figures, terminal
from gradnorm_optax.lab.results import results_file, summary as summary_lib
from gradnorm_optax.lab.results.findings import Profiles, Summary
from gradnorm_optax.lab.results.look import Look
from gradnorm_optax.lab.results.results_file import Finished
from gradnorm_optax.lab.results.store import Store
from gradnorm_optax.lab.results.trials import Trials
from gradnorm_optax.lab.run import folder_guard as run_folder, processes
from gradnorm_optax.lab.support import progress
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.support.remaining import Remaining


class Comparison(NamedTuple):
  """A finished comparison.

  Attributes:
    folder: Where everything was written.
    summary: The rows of the table and what they rest on.
    config: The resolved configuration.
    looks: What every method does to the blocks, over a run.
    profiles: {model: {method: {training step: log10 norms}}}, the gradient
      through time where the model is recurrent.
    earlier: Where the report of another configuration was put that stood in
      the folder, if one did.
  """

  folder: pathlib.Path
  summary: Summary
  config: schema.Config
  looks: tuple[Look, ...] = ()
  profiles: Profiles = {}
  earlier: pathlib.Path | None = None

  def table(self) -> Any:
    """The table, as rich shows it on a terminal."""
    return terminal.render(self.summary)

  def written(self) -> str:
    """Where the report is, and one that stood there before."""
    told = (f'\nReport: {self.folder}/report.html (beside it results.json, '
            'config.toml and the figures)')
    if self.earlier:
      told += ('\nThe report of another configuration that stood here is '
               f'kept: {self.earlier}')
    return told

  def plot(self) -> dict[str, Any]:
    """The figures: {name: matplotlib figure}."""
    return figures.draw(self.summary, self.looks, self.profiles)


def run(config: schema.Config, out: str | pathlib.Path | None = None, *,
        fresh: bool = False, quiet: bool = False,
        command: str | None = None,
        minutes: float | None = None,
        scheduler: str | None = None) -> Comparison:
  """Runs a comparison, or what is missing of it, and writes its folder.

  Args:
    config: What to compare.
    out: The run folder; `runs/NAME` if None. Finished trials found there are
      used again if data, model, method, training and code are the same.
    fresh: Forget the finished trials.
    quiet: No progress bar.
    command: How to run it again, for the report.
    minutes: A time in which it ends, with fewer rates and seeds where the
      configuration's do not fit; what fits is printed unless `quiet`.
    scheduler: Of dask, whose workers run the trials: `tcp://HOST:PORT`, or
      `local:N` for N workers on this machine. None: this process.

  Returns:
    The comparison, with `.table()` and `.plot()`.

  Raises:
    LabError: A folder of `gradnorm train`, a disk that is full, a method
      that refuses a model, or `minutes` that allow no decision.
  """
  processes.alone_only('gradnorm compare')
  folder = pathlib.Path(out or pathlib.Path('runs') / config.name)
  run_folder.check(folder, 'gradnorm compare')
  if minutes is not None and scheduler is not None:
    raise LabError('--minutes measures this machine; leave it or --scheduler '
                   'out')
  plan = Remaining()  # its clock begins
  with places.open(scheduler, folder) as place:
    runner = Runner(config, place)  # before --fresh forgets anything
    with Store(folder, fresh=fresh) as store, progress.bar(plan, quiet):
      runner.use(store, plan)
      if minutes is None:
        runner.run()
      else:
        time_budget.run(
            runner, minutes, (lambda text: None) if quiet else print)
  run_folder.keep_modules(folder, config)
  return _judged(folder, runner.trials,
                 command or f'gradnorm compare {folder}/config.toml')


def again(folder: str | pathlib.Path) -> Comparison:
  """Judges a finished folder's trials again, and draws it again.

  Neither data nor models are needed: the folder may come from another machine.

  Raises:
    LabError: No finished comparison is there.
  """
  folder = pathlib.Path(folder)
  found = results_file.read(folder)
  return _judged(folder, results_file.trials(folder, found), found.command)


def _judged(folder: pathlib.Path, trials: Trials, command: str) -> Comparison:
  """Judges finished trials and writes what is to be read."""
  found = Finished(trials.config, trials.basis,
                   summary_lib.summarize(trials), command)
  done = Comparison(folder, found.summary, trials.config, trials.looks(),
                    trials.profiles())
  earlier = comparison_files.save(folder, found, done.looks, done.profiles)
  return done._replace(earlier=earlier)
