"""The norm of every block's gradient before and after every method."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import gradnorm_optax as gn
from gradnorm_optax.lab import (
    advice,
    canvas,
    data,
    diagnosis,
    heatmap,
    methods,
    problem as problem_lib,
    results,
    schema,
    trial,
)
from gradnorm_optax.lab.findings import Look, plain
from gradnorm_optax.lab.schedules import schedule


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

    from gradnorm_optax.lab.table import Page
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
  dataset = data.load(config.data, config.train)
  explained, looks = {}, []
  for name, model in config.models.items():
    made = problem_lib.build(model, dataset, config.train.dtype)
    drawn, extra = jax.jit(made.init)(config.run.seed)
    start = drawn if params is None else params
    explained[name] = str(gn.explain(
        start, gn.Blocks(stacked=dict(made.context.stacked))))
    for key, method in config.methods_on(name).items():
      looks.append(look(
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
  from gradnorm_optax.lab import config as config_lib, training
  if not path.is_dir():
    return run(config_lib.load(path, overrides), out, batches=batches)
  step = None
  if path.parent.name == 'checkpoints' and path.name.isdigit():
    path, step = path.parents[1], int(path.name)
  config = config_lib.load(path / 'config.toml', overrides)
  model, params = training.restored(path, config, step)
  one = config.model_copy(update={'models': {model: config.models[model]}})
  return run(one, out or path / 'inspect', batches=batches, params=params)


def look(made: problem_lib.Problem, train: schema.Train, model: str, key: str,
         method: schema.Method, *, rate: float, seed: int, batches: int,
         start: Any = None) -> Look:
  """Trains a few steps and keeps every block's norms.

  Args:
    made: The model with its data.
    train: How it is trained.
    model: Its name.
    key: The name of the method.
    method: The method.
    rate: Its learning rate.
    seed: Of the order of the examples, and of the start.
    batches: How many steps to take.
    start: Parameters and other variables; drawn from the seed if None.

  Returns:
    The norms of the first batches.
  """
  params, extra = start or jax.jit(made.init)(seed)
  built = methods.build(method, schedule(train, rate), made.context)
  front = methods.front(method, made.context)
  examples = jax.device_put(made.dataset.train)

  def one(state: trial.State, _: None) -> Any:
    before = built.unwrap(state.params)
    new, _figures, gradient = trial.open_step(
        made, built, train, examples, seed, state)
    after, _ = front.update(gradient, front.init(before), before)
    moved = optax.tree.sub(built.unwrap(new.params), before)
    return new, [diagnosis.block_norms(made, tree)
                 for tree in (gradient, after, moved, before)]

  with methods.refusing(method, made.context, made.init,
                        f'[methods.{key}] on [models.{model}]'):
    state = trial.start(made, built, params, extra)
    _, norms = jax.jit(lambda s: lax.scan(one, s, length=batches))(state)
  gradient, after, moved, size = (_columns(norm) for norm in norms)
  names = [name for name, values in norms[0].items()
           for name in _names(name, values)]
  with np.errstate(all='ignore'):
    ratio = np.where(size > 0, moved / np.where(size > 0, size, 1), np.nan)
  return Look(model, key, names, gradient, after, ratio,
              advice.flags(names, gradient, after, ratio))


def _names(name: str, values: jax.Array) -> list[str]:
  """A block's name, or those of a stack of blocks."""
  if values.ndim == 1:
    return [name]
  return [f'{name}[{i}]' for i in range(values[0].size)]


def _columns(norms: dict[str, Any]) -> np.ndarray:
  """Norms of all blocks side by side; shape (batches, blocks)."""
  return np.concatenate([
      np.asarray(jnp.reshape(v, (len(v), -1)), np.float64)
      for v in norms.values()], axis=1)


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
  with results.disk(found.folder):
    found.folder.mkdir(parents=True, exist_ok=True)
  results.write(found.folder / 'inspect.json', json.dumps(plain({
      'blocks': found.explained,
      'looks': [look.record() for look in found.looks]})) + '\n')
  for name, picture in found.plot().items():
    for suffix in ('svg', 'png'):
      results.write(
          found.folder / canvas.file(name, suffix),
          canvas.image(picture, suffix))
