"""The norm of every block's gradient before and after every method."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import gradnorm_optax as gn
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.methods import checks
from gradnorm_optax.lab.reporting import canvas, heatmap
from gradnorm_optax.lab.results.first_batch_norms import Look
from gradnorm_optax.lab.run import loop
from gradnorm_optax.lab.schema import toml
from gradnorm_optax.lab.support import files
from gradnorm_optax.lab.support.json_safe import plain
from gradnorm_optax.lab.training import make_problem, norms_of_first_batches


@dataclasses.dataclass(frozen=True)
class Inspection:
  """What `inspect` found.

  Attributes:
    folder: Where it was written.
    explained: {model: the table of `gn.explain`}.
    looks: One for each method on each model.
  """

  folder: pathlib.Path
  explained: dict[str, str]
  looks: list[Look]

  def table(self) -> Any:
    """The blocks and their norms, as rich shows them on a terminal."""
    from rich import text

    from gradnorm_optax.lab.reporting.terminal import Page
    parts: list[Any] = []
    for model, explained in self.explained.items():
      parts += [text.Text(f'\n{model}', style='bold'), text.Text(explained)]
    for look in self.looks:
      parts += [text.Text(f'\n{look.model}, {look.method}: median norms over '
                          f'{len(look.gradient)} batches', style='italic'),
                _table(look)]
    return Page(*parts)

  def plot(self) -> dict[str, Any]:
    """Heat maps: {model: matplotlib figure}."""
    return {model: heatmap.draw(
        [look for look in self.looks if look.model == model])
            for model in self.explained}


def run(config: schema.Config, out: str | pathlib.Path | None = None, *,
        batches: int = 10, params: Any = None) -> Inspection:
  """Looks at the first batches of every method on every model.

  Args:
    config: What to look at; `[run]` gives seed and learning rate.
    out: The folder; `runs/NAME-inspect` if None.
    batches: How many training steps to look at.
    params: Parameters to start from, of the only model; drawn if None.

  Returns:
    The norms, with `.table()` and `.plot()`.
  """
  folder = pathlib.Path(out or pathlib.Path('runs') / f'{config.name}-inspect')
  dataset = sources.load(config.data, config.train)
  explained, looks = {}, []
  for name, model in config.models.items():
    made = make_problem.join(model, dataset, config.train.dtype)
    drawn, extra = jax.jit(made.init)(config.run.seed)
    start = drawn if params is None else params
    explained[name] = str(gn.explain(
        start, gn.Blocks(stacked=dict(made.context.stacked))))
    for key, method in config.methods_on(name).items():
      looks.append(norms_of_first_batches.look(
          made, config.train, name, key, method, rate=config.run.learning_rate,
          seed=config.run.seed, batches=batches, start=(start, extra)))
  found = Inspection(folder, explained, looks)
  _save(found)
  return found


def at(path: pathlib.Path, overrides: Sequence[str] = (),
       out: pathlib.Path | None = None, batches: int = 10) -> Inspection:
  """Inspects a configuration, a run folder's newest checkpoint, or a given one.

  Args:
    path: The file, the folder of a run, or one of its `checkpoints/STEP`.
    overrides: Assignments such as `'run.seed=1'`.
    out: The folder to write in; `inspect` in that of the run.
    batches: How many training steps to look at.
  """
  if not path.is_dir():
    return run(_read(path, overrides), out, batches=batches)
  step = None
  if path.parent.name == 'checkpoints' and path.name.isdigit():
    path, step = path.parents[1], int(path.name)
  config = _read(path / toml.CONFIG, overrides)
  model, params = loop.restored(path, config, step)
  one = config.model_copy(update={'models': {model: config.models[model]}})
  return run(one, out or path / 'inspect', batches=batches, params=params)


def _read(path: pathlib.Path, overrides: Sequence[str]) -> schema.Config:
  return checks.check_all(toml.read(path, overrides), str(path))


def _table(look: Look) -> Any:
  """The norms of one method on one model."""
  from rich import table, text
  shown = table.Table(box=None, pad_edge=False)
  shown.add_column('block', no_wrap=True)
  for name in ('gradient', 'after', 'step / params'):
    shown.add_column(name, justify='right')
  shown.add_column('')
  for i, name in enumerate(look.blocks):
    shown.add_row(text.Text(name), *(
        f'{np.median(part[:, i]):.3g}' for part in (
            look.gradient, look.after, look.ratio)),
        text.Text(look.flags.get(name, '')))
  return shown


def _save(found: Inspection) -> None:
  """Writes inspect.json and the heat maps."""
  with files.disk(found.folder):
    found.folder.mkdir(parents=True, exist_ok=True)
  files.write(found.folder / 'inspect.json', json.dumps(plain({
      'blocks': found.explained,
      'looks': [look.record() for look in found.looks]})) + '\n')
  for name, image in canvas.images(found.plot()):
    files.write(found.folder / name, image)
