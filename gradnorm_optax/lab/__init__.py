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

from gradnorm_optax.lab.support import errors, user_code
from gradnorm_optax.lab.support.errors import LabError

if TYPE_CHECKING:
  from gradnorm_optax.lab.comparison.beside import SideBySide
  from gradnorm_optax.lab.comparison.check import Checked
  from gradnorm_optax.lab.comparison.comparison import Comparison
  from gradnorm_optax.lab.inspection.inspection import Inspection
  from gradnorm_optax.lab.run.run_result import Trained
  from gradnorm_optax.lab.schema import Config
  from gradnorm_optax.lab.serving.loaded_run import LoadedRun


def load(config: Any, overrides: Sequence[str] = ()) -> 'Config':
  """Reads a configuration: a path, a nested dictionary, or a `Config`.

  Args:
    config: A path of a TOML file, the same keys as a nested dictionary, or what
      `load` returned.
    overrides: Assignments such as `'train.steps=500'`.

  Returns:
    The configuration, every key checked and every default filled in.

  Raises:
    LabError: An unknown key, a value out of range, or another type.

  Examples:
    >>> from gradnorm_optax import lab
    >>> config = lab.load({
    ...     'models': {'mlp': {'kind': 'mlp'}},
    ...     'methods': {'bng': {'optimizer': 'sgd', 'normalize': 'bng'}}})
    >>> config.methods['bng'].normalize
    ('bng',)
    >>> try:
    ...   lab.load(config, ['train.step=500'])
    ... except lab.LabError as error:
    ...   print('train.step' in str(error))
    True
  """
  from gradnorm_optax.lab import schema
  from gradnorm_optax.lab.methods import checks
  from gradnorm_optax.lab.schema import toml
  if isinstance(config, schema.Config):
    config = config.model_dump(exclude_none=True)
  elif isinstance(config, Mapping):
    # Not where the configuration that was read before found its modules.
    user_code.search([os.getcwd()])
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
            minutes: float | None = None,
            scheduler: str | None = None) -> 'Comparison':
  """Compares methods over learning rates and seeds: `gradnorm compare`.

  Args:
    config: A path, a nested dictionary, or what `load` returned.
    overrides: Assignments such as `'train.steps=500'`.
    out: The run folder; `runs/NAME` if None.
    fresh: Forget the trials that are finished.
    quiet: No progress bar.
    minutes: A time in which it ends, with fewer rates and seeds where needed.
    scheduler: `'tcp://HOST:PORT'` of dask, whose workers run the trials, or
      `'local:N'` for N workers on this machine; None: this process.

  Returns:
    The comparison, with `.table()`, `.plot()` and `.summary`.

  Raises:
    LabError: A mistake in what was given, named in one line.

  Examples:
    >>> import tempfile
    >>> from gradnorm_optax import lab
    >>> config = {'models': {'mlp': {'kind': 'mlp', 'depth': 1, 'width': 8}},
    ...           'methods': {'adam': {'optimizer': 'adam'},
    ...                       'bng': {'optimizer': 'adam', 'normalize': 'bng'}},
    ...           'train': {'steps': 4, 'eval_every': 2},
    ...           'compare': {'learning_rates': [1e-3, 1e-2, 1e-1], 'seeds': 2}}
    >>> folder = tempfile.mkdtemp()
    >>> found = lab.compare(config, out=folder, quiet=True)
    >>> [row.method for row in found.summary.rows]
    ['adam', 'bng']
    >>> again = lab.report(folder)
    >>> try:
    ...   lab.side_by_side([folder, folder])
    ... except lab.LabError as error:
    ...   print('twice' in str(error))
    True
  """
  from gradnorm_optax.lab.comparison import comparison
  return comparison.run(
      load(config, overrides), out, fresh=fresh, quiet=quiet, minutes=minutes,
      scheduler=scheduler)


def check(config: Any, overrides: Sequence[str] = (), *,
          measure: bool = True) -> 'Checked':
  """Finds all mistakes of a configuration: `gradnorm check`.

  Writes nothing.

  Args:
    config: A path, a nested dictionary, or what `load` returned.
    overrides: Assignments such as `'train.steps=500'`.
    measure: Also compile one method of every model and time its steps.

  Returns:
    What a comparison would do and need, with `.table()` and `.plan`.

  Raises:
    LabError: All mistakes, a line for each.

  Examples:
    >>> from gradnorm_optax import lab
    >>> config = {'models': {'mlp': {'kind': 'mlp', 'depth': 1}},
    ...           'methods': {'adam': {'optimizer': 'adam'},
    ...                       'bng': {'optimizer': 'adam', 'normalize': 'bng'}}}
    >>> [(planned.method, planned.parameters) for planned
    ...  in lab.check(config, measure=False).plan.planned]
    [('adam', 7510), ('bng', 7510)]
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

  Args:
    folder: What `compare` wrote into.

  Returns:
    The comparison, as `compare` returns it (the example is there).

  Raises:
    LabError: No finished comparison is there, or some of its trials are gone.
  """
  from gradnorm_optax.lab.comparison import comparison
  return comparison.again(folder)


def side_by_side(folders: Sequence[str | pathlib.Path], *,
                 out: str | pathlib.Path | None = None) -> 'SideBySide':
  """Puts finished comparisons side by side: `gradnorm report A B`.

  Args:
    folders: What `compare` wrote into; two or more (the example is there).
    out: A page to write, .html; none if None.

  Returns:
    The comparisons, with `.table()`.

  Raises:
    LabError: One is not finished, or is given twice.
  """
  from gradnorm_optax.lab.comparison import beside
  return beside.put(folders, out)


def train(config: Any, overrides: Sequence[str] = (), *,
          out: str | pathlib.Path | None = None, fresh: bool = False,
          quiet: bool = False) -> 'Trained':
  """Trains one model with one method: `gradnorm train`.

  A signal, as of a notebook's stop button, saves and returns; the same call
  goes on from there.

  Args:
    config: A path, a nested dictionary, or what `load` returned.
    overrides: Assignments such as `'train.steps=500'`.
    out: The run folder; `runs/NAME-train` if None.
    fresh: Start anew where a run is there already.
    quiet: No progress bar.

  Returns:
    Figures and final parameters, with `.table()` and `.plot()`.

  Raises:
    LabError: A mistake in what was given, named in one line.
    diagnosis.Diverged: The first step and block that were not finite.

  Examples:
    >>> import tempfile
    >>> from gradnorm_optax import lab
    >>> folder = tempfile.mkdtemp()
    >>> trained = lab.train({
    ...     'models': {'mlp': {'kind': 'mlp', 'depth': 1, 'width': 8}},
    ...     'methods': {'adam': {'optimizer': 'adam'}},
    ...     'train': {'steps': 4, 'eval_every': 2}}, out=folder, quiet=True)
    >>> sorted(trained.params)
    ['layer01', 'output']
    >>> model = lab.load_run(folder)
    >>> model.step
    4
  """
  from gradnorm_optax.lab.run import loop
  return loop.run(load(config, overrides), out, fresh=fresh, quiet=quiet)


def load_run(folder: str | pathlib.Path,
             checkpoint: 'str | int' = 'best') -> 'LoadedRun':
  """Loads a trained model: `apply`, variables, preprocessing, `predict`.

  Args:
    folder: Of a `gradnorm train` run. Its data are not needed.
    checkpoint: `'best'` by validation score, `'last'`, or a step.

  Returns:
    The model; the example is `train`'s.

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

  Args:
    config: What `compare` takes, or the folder of a `train` run, or one of the
      `checkpoints/STEP` in it, whose run goes on from there.
    overrides: Assignments such as `'train.steps=500'`.
    out: The folder; `runs/NAME-inspect`, or `inspect` in the run's, if None.
    batches: How many steps are looked at.
    whole: Spread them over the whole run; else they are the first.

  Returns:
    Norms of the raw gradient, of what reaches the moments and of the update,
    in each of these steps, with `.table()` and `.plot()`.

  Raises:
    LabError: A mistake in what was given, named in one line.

  Examples:
    >>> import tempfile
    >>> from gradnorm_optax import lab
    >>> looked = lab.inspect({
    ...     'models': {'mlp': {'kind': 'mlp', 'depth': 1, 'width': 8}},
    ...     'methods': {'bng': {'optimizer': 'sgd', 'normalize': 'bng'}}},
    ...     batches=2, out=tempfile.mkdtemp())
    >>> [(look.model, look.method) for look in looked.looks]
    [('mlp', 'bng')]
  """
  from gradnorm_optax.lab.inspection import inspection
  if isinstance(config, str | pathlib.Path):
    return inspection.at(pathlib.Path(config), overrides,
                         None if out is None else pathlib.Path(out), batches,
                         whole)
  return inspection.run(
      load(config, overrides), out, batches=batches, whole=whole)
