"""Methods x learning rates x seeds on the same footing.

First every method's learning rate is chosen on the tuning seeds, by validation
score; then fresh seeds, the same for all methods, are run at the chosen
rate, and only these read the test part.
"""

import pathlib
from typing import Any, NamedTuple

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison import summary as summary_lib, timing
from gradnorm_optax.lab.comparison.runner import Runner
from gradnorm_optax.lab.reporting import figures, saving, terminal
from gradnorm_optax.lab.results import store as store_lib
from gradnorm_optax.lab.results.looks import Look
from gradnorm_optax.lab.results.records import Profiles, Summary
from gradnorm_optax.lab.run import folder as run_folder
from gradnorm_optax.lab.support import progress


class Comparison(NamedTuple):
  """A finished comparison.

  Attributes:
    folder: Where everything was written.
    summary: The rows of the table and what they rest on.
    config: The resolved configuration.
    looks: The block norms of every method's first batches.
    profiles: {model: {method: {training step: log10 norms}}}, the gradient
      through time where the model is recurrent.
  """

  folder: pathlib.Path
  summary: Summary
  config: schema.Config
  looks: tuple[Look, ...] = ()
  profiles: Profiles = {}

  def table(self) -> Any:
    """The table, as rich shows it on a terminal."""
    return terminal.render(self.summary)

  def plot(self) -> dict[str, Any]:
    """The figures: {name: matplotlib figure}."""
    return figures.draw(self.summary, self.looks, self.profiles)


def run(config: schema.Config, out: str | pathlib.Path | None = None, *,
        fresh: bool = False, quiet: bool = False,
        command: str | None = None) -> Comparison:
  """Runs a comparison, or what is missing of it, and writes its folder.

  Args:
    config: What to compare.
    out: The run folder; `runs/NAME` if None. Finished trials found there are
      used again if data, model, method, training and code are the same.
    fresh: Forget the finished trials.
    quiet: No progress bar.
    command: How to run it again, for the report.

  Returns:
    The comparison, with `.table()` and `.plot()`.

  Raises:
    LabError: A folder of `gradnorm train`, a disk that is full, or a method
      that refuses a model.
  """
  folder = pathlib.Path(out or pathlib.Path('runs') / config.name)
  run_folder.check(folder, 'gradnorm compare')
  total = sum(
      len(method.learning_rates or config.compare.learning_rates)
      * config.compare.tune_seeds + config.compare.seeds
      for model in config.models
      for method in config.methods_on(model).values())
  runner = Runner(config)  # before --fresh forgets anything
  with store_lib.Store(folder, fresh=fresh) as store, \
      progress.bar(total, quiet) as tick:
    runner.use(store, tick)
    runner.run()
    tick('measuring the cost of a step', 0)
    found = summary_lib.summarize(runner, timing.measure(runner))
    done = Comparison(
        folder, found, config, runner.looks(), runner.profiles())
  run_folder.keep_modules(folder, config)
  saving.save(folder, config, found, done.looks, done.profiles,
              command or f'gradnorm compare {folder}/config.toml')
  return done
