"""The lab: the `gradnorm` command and the same functions from Python.

A configuration (TOML) names the data, the models and the methods; the lab
trains every method at every learning rate over several seeds and says how they
compare. The library itself never imports this package, and this package
imports Flax and the rest only when a function needs them.

In a notebook, `compare`, `train` and `inspect` take the path of a configuration
or a nested dictionary, and return results with `.table()` and `.plot()`:

>>> from gradnorm_optax import lab
>>> config = lab.load({
...     'models': {'mlp': {'kind': 'mlp', 'depth': 2}},
...     'methods': {'adam': {'optimizer': 'adam'}}}, ['train.steps=100'])
>>> config.train.steps
100
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradnorm_optax.lab.support import errors
from gradnorm_optax.lab.support.errors import LabError

if TYPE_CHECKING:
  from gradnorm_optax.lab.comparison.check import Checked
  from gradnorm_optax.lab.comparison.comparison import Comparison
  from gradnorm_optax.lab.inspection.inspection import Inspection
  from gradnorm_optax.lab.run.run_result import Trained
  from gradnorm_optax.lab.schema import Config
  from gradnorm_optax.lab.serving.loaded_run import LoadedRun


def load(config: Any, overrides: Sequence[str] = ()) -> 'Config':
  """Reads a configuration: a path, a nested dictionary, or a `Config`.

  Raises:
    LabError: An unknown key, a value out of range, or another type.
  """
  from gradnorm_optax.lab import schema
  from gradnorm_optax.lab.methods import checks
  from gradnorm_optax.lab.schema import toml
  if isinstance(config, schema.Config):
    config = config.model_dump(exclude_none=True)
  if isinstance(config, Mapping):
    return checks.check_all(toml.parse(
        toml.overridden({'name': 'comparison', **config}, overrides),
        overrides=overrides))
  if not isinstance(config, str | os.PathLike):
    raise LabError(f'a configuration is a path or a dictionary, not {config!r}')
  return checks.check_all(toml.read(config, overrides), str(config))


def compare(config: Any, overrides: Sequence[str] = (), *,
            out: str | pathlib.Path | None = None, fresh: bool = False,
            quiet: bool = False,
            scheduler: str | None = None) -> 'Comparison':
  """Compares methods over learning rates and seeds: `gradnorm compare`.

  Args:
    config: A path, a nested dictionary, or what `load` returned.
    overrides: Assignments such as `'train.steps=500'`.
    out: The run folder; `runs/NAME` if None.
    fresh: Forget the trials that are finished.
    quiet: No progress bar.
    scheduler: `'tcp://HOST:PORT'` of dask, whose workers run the trials, or
      `'local:N'` for N workers on this machine; None: this process.

  Returns:
    The comparison, with `.table()`, `.plot()` and `.summary`.

  Raises:
    LabError: A mistake in what was given, named in one line.
  """
  from gradnorm_optax.lab.comparison import comparison
  return comparison.run(
      load(config, overrides), out, fresh=fresh, quiet=quiet,
      scheduler=scheduler)


def check(config: Any, overrides: Sequence[str] = (), *,
          measure: bool = True) -> 'Checked':
  """Finds all mistakes of a configuration: `gradnorm check`.

  Takes what `compare` takes; writes nothing. Returns what a comparison would do
  and need, with `.table()` and `.plan`.

  Args:
    config: A path, a nested dictionary, or what `load` returned.
    overrides: Assignments such as `'train.steps=500'`.
    measure: Also compile one method of every model and time its steps.

  Raises:
    LabError: All mistakes, a line for each.
  """
  from gradnorm_optax.lab.comparison import check as lib
  try:
    loaded = load(config, overrides)
  except LabError as error:
    raise LabError('\n'.join(errors.lines(error))) from error
  return lib.run(loaded, measure)


def report(folder: str | pathlib.Path) -> 'Comparison':
  """Judges a finished comparison again, and draws it: `gradnorm report`.

  Needs neither data nor models: the folder may come from another machine.

  Raises:
    LabError: No finished comparison is there, or some of its trials are gone.
  """
  from gradnorm_optax.lab.comparison import comparison
  return comparison.again(folder)


def train(config: Any, overrides: Sequence[str] = (), *,
          out: str | pathlib.Path | None = None, fresh: bool = False,
          quiet: bool = False) -> 'Trained':
  """Trains one model with one method: `gradnorm train`.

  Takes what `compare` takes; returns figures and final parameters, with
  `.table()` and `.plot()`. A signal, as of a notebook's stop button, saves and
  returns; the same call goes on from there.

  Raises:
    LabError: A mistake in what was given, named in one line.
    diagnosis.Diverged: The first step and block that were not finite.
  """
  from gradnorm_optax.lab.run import loop
  return loop.run(load(config, overrides), out, fresh=fresh, quiet=quiet)


def load_run(folder: str | pathlib.Path,
             checkpoint: 'str | int' = 'best') -> 'LoadedRun':
  """Loads a trained model: `apply`, variables, preprocessing, `predict`.

  Args:
    folder: Of a `gradnorm train` run. Its data are not needed.
    checkpoint: `'best'` by validation score, `'last'`, or a step.

  Raises:
    LabError: No run is there, or no such checkpoint.
  """
  from gradnorm_optax.lab.serving import loaded_run
  which: Any = checkpoint
  return loaded_run.load(folder, which)


def inspect(config: Any, overrides: Sequence[str] = (), *,
            out: str | pathlib.Path | None = None,
            batches: int = 10, whole: bool = False) -> 'Inspection':
  """Looks at what methods do to every block's gradient: `gradnorm inspect`.

  Takes what `compare` takes, or the folder of a `train` run, or one of the
  `checkpoints/STEP` in it, whose run goes on from there; returns the raw
  gradient, what reaches the moments and the update, in the first `batches`
  steps or, `whole`, in so many spread over the run; with `.table()` and
  `.plot()`.

  Raises:
    LabError: A mistake in what was given, named in one line.
  """
  from gradnorm_optax.lab.inspection import inspection
  if isinstance(config, str | pathlib.Path):
    return inspection.at(pathlib.Path(config), overrides,
                         None if out is None else pathlib.Path(out), batches,
                         whole)
  return inspection.run(
      load(config, overrides), out, batches=batches, whole=whole)
