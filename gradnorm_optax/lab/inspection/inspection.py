"""What every method does to every block's gradient, step by step."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax

import gradnorm_optax as gn
from gradnorm_optax.check_chain import Finding
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.inspection import orders
from gradnorm_optax.lab.methods import checks
from gradnorm_optax.lab.methods.schedules import schedule
from gradnorm_optax.lab.reporting import block_figures, canvas, look_table
from gradnorm_optax.lab.results.look import Look, instants
from gradnorm_optax.lab.run import loop, processes
from gradnorm_optax.lab.schema import toml
from gradnorm_optax.lab.support import files
from gradnorm_optax.lab.support.json_safe import plain
from gradnorm_optax.lab.training import block_norms, looks, make_problem


@dataclasses.dataclass(frozen=True)
class Inspection:
  """What `inspect` found.

  Attributes:
    folder: Where it was written.
    explained: {model: the table of `gn.explain`}.
    looks: One for each method on each model.
    told: Which steps were looked at, of what run, and at what rate.
    orders: {'MODEL, METHOD': what undoes itself in the method's chain}, as
      `gn.check_chain` finds it; without those in which it finds nothing.
  """

  folder: pathlib.Path
  explained: dict[str, str]
  looks: list[Look]
  told: str = ''
  orders: dict[str, list[Finding]] = dataclasses.field(default_factory=dict)

  def table(self) -> Any:
    """The blocks and their norms, as rich shows them on a terminal."""
    return look_table.render(
        self.explained, self.looks, self.told, self.orders)

  def plot(self) -> dict[str, Any]:
    """The figures: {name: matplotlib figure}.

    Norms by step under the model's name, and `entries-MODEL`: how the sizes of
    the entries lie.
    """
    found: dict[str, Any] = {}
    for model in self.explained:
      own = [look for look in self.looks if look.model == model]
      found[model] = block_figures.norms(own)
      found[f'entries-{model}'] = block_figures.entries(own)
    return found


def run(config: schema.Config, out: str | pathlib.Path | None = None, *,
        batches: int = 10, whole: bool = False) -> Inspection:
  """Looks at steps of every method on every model, from the first on.

  Args:
    config: What to look at; `[run]` gives seed and learning rate.
    out: The folder; `runs/NAME-inspect` if None.
    batches: How many training steps to look at.
    whole: Whether they are spread over the run, dense at first, or are the
      first ones.

  Returns:
    The norms, with `.table()` and `.plot()`.
  """
  processes.alone_only('gradnorm inspect')
  folder = pathlib.Path(out or pathlib.Path('runs') / f'{config.name}-inspect')
  dataset = sources.load(config.data, config.train)
  marks = (instants(config.train.steps, batches) if whole
           else list(range(1, batches + 1)))
  explained, found, undone = {}, [], {}
  for name, model in config.models.items():
    problem = make_problem.join(model, dataset, config.train.dtype)
    start = jax.jit(problem.init)(config.run.seed)
    explained[name] = str(gn.explain(start[0], block_norms.blocks(problem)))
    for key, method in config.methods_on(name).items():
      found.append(looks.fresh(
          problem, config.train, name, key, method,
          rate=config.run.learning_rate, seed=config.run.seed, marks=marks,
          start=start))
      undone[f'{name}, {key}'] = orders.found(
          method, config.run.learning_rate, problem.context, start[0])
  return _saved(Inspection(
      folder, explained, found,
      f'From the start, seed {config.run.seed}, at '
      + _rates(config, config.run.learning_rate, marks), _some(undone)))


def at(path: pathlib.Path, overrides: Sequence[str] = (),
       out: pathlib.Path | None = None, batches: int = 10,
       whole: bool = False) -> Inspection:
  """Inspects a configuration, a run folder's newest checkpoint, or a given one.

  Of a checkpoint, the steps are those that `gradnorm train` would take next:
  with the optimizer's state, the other variables, the rate and the batches of
  its step.

  Args:
    path: The file, the folder of a run, or one of its `checkpoints/STEP`.
    overrides: Assignments such as `'run.seed=1'`.
    out: The folder to write in; `inspect` in that of the run.
    batches: How many training steps to look at.
    whole: As in `run`; of a checkpoint, over as many steps as the run has.
  """
  processes.alone_only('gradnorm inspect')
  if not path.is_dir():
    return run(_read(path, overrides), out, batches=batches, whole=whole)
  step = None
  if path.parent.name == 'checkpoints' and path.name.isdigit():
    path, step = path.parents[1], int(path.name)
  config = _read(path / toml.CONFIG, overrides)
  trainer, state = loop.restored(path, config, step)
  ahead: Iterable[int] = (instants(config.train.steps, batches) if whole
                          else range(1, batches + 1))
  observer = trainer.observer()
  at_step, last = int(state.step), config.train.steps
  marks = [at_step + count for count in ahead]
  found = looks.look(
      observer, *trainer.names, observer.resumed(state), trainer.seed, marks)
  ended = (f'The run has ended, at step {last}: these steps lie beyond it'
           if at_step >= last else f'Step {at_step} of {last}: the run goes on')
  told = f'{ended}, at {_rates(config, config.run.learning_rate, marks)}'
  params = trainer.built.unwrap(state.params)
  explained = gn.explain(params, block_norms.blocks(trainer.problem))
  model, name = trainer.names
  undone = orders.found(
      config.methods_on(model)[name], config.run.learning_rate,
      trainer.problem.context, params)
  return _saved(Inspection(
      out or path / 'inspect', {model: str(explained)}, [found], told,
      _some({f'{model}, {name}': undone})))


def _some(undone: dict[str, list[Finding]]) -> dict[str, list[Finding]]:
  return {name: findings for name, findings in undone.items() if findings}


def _rates(config: schema.Config, peak: float, marks: Sequence[int]) -> str:
  """The learning rates of the steps, in words."""
  rate = schedule(config.train, peak)
  first, last = (float(rate(step - 1)) if callable(rate) else float(rate)
                 for step in (marks[0], marks[-1]))
  shown = f'{first:.3g}' if first == last else f'{first:.3g} to {last:.3g}'
  return f'learning rate {shown} (run.learning_rate = {peak:g}).'


def _read(path: pathlib.Path, overrides: Sequence[str]) -> schema.Config:
  return checks.check_all(toml.read(path, overrides), str(path))


def _saved(found: Inspection) -> Inspection:
  """Writes inspect.json and the figures."""
  with files.disk(found.folder):
    found.folder.mkdir(parents=True, exist_ok=True)
  files.write(found.folder / 'inspect.json', json.dumps(plain({
      'told': found.told, 'blocks': found.explained,
      'looks': [look.record() for look in found.looks],
      'orders': {name: [finding._asdict() for finding in findings]
                 for name, findings in found.orders.items()}})) + '\n')
  for name, image in canvas.images(found.plot()):
    files.write(found.folder / name, image)
  return found
