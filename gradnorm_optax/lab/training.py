"""One run: checkpoints, figures, and going on after any interruption."""

import dataclasses
import json
import math
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from gradnorm_optax.lab import (
    data,
    diagnosis,
    methods,
    problem as problem_lib,
    provenance,
    results,
    run_folder,
    sampling,
    schema,
    signals,
    through_time,
    trial,
)
from gradnorm_optax.lab.checkpoints import Checkpoints
from gradnorm_optax.lab.errors import LabError, nearest
from gradnorm_optax.lab.journal import Journal
from gradnorm_optax.lab.lines import finite
from gradnorm_optax.lab.objective import ACCURACY, Measure
from gradnorm_optax.lab.schedules import schedule


@dataclasses.dataclass(frozen=True)
class Trained:
  """A run that ended or was stopped.

  Attributes:
    folder: Where everything was written.
    rows: The figures, as in metrics.jsonl.
    stopped: The signal that stopped it; None if it went to its end.
    test: Loss and score on the test part, read once at the end.
    params: The final parameters.
    measure: What the score is.
    profiles: Of recurrent models: `step` and `log_norms`, log10 of the
      gradient's norm at every step of the sequences.
    data: The data in words: parts, classes, what was filled or dropped.
  """

  folder: pathlib.Path
  rows: list[dict[str, Any]]
  stopped: int | None
  test: dict[str, float] | None
  params: Any
  measure: Measure = ACCURACY
  profiles: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  data: str = ''

  def table(self) -> Any:
    """The last figures, as rich shows them on a terminal."""
    from rich import table
    shown = table.Table(box=None, pad_edge=False)
    for name in self.rows[-1] if self.rows else ():
      shown.add_column(name.replace('_', ' '), justify='right')
    for row in self.rows[-10:]:
      shown.add_row(*('-' if v is None else f'{v:.4g}' for v in row.values()))
    return shown

  def plot(self) -> dict[str, Any]:
    """The figures: {name: matplotlib figure}; `through_time` of recurrent ones.
    """
    from gradnorm_optax.lab import figures
    found = {'training': figures.training(self.rows)}
    if self.profiles:
      places = np.linspace(0, len(self.profiles) - 1, 4).round().astype(int)
      kept = [self.profiles[place] for place in np.unique(places)]
      found['through_time'] = figures.through_time(
          {'gradient': {row['step']: row['log_norms'] for row in kept}})
    return found


class Trainer:
  """The compiled pieces of one run."""

  def __init__(self, config: schema.Config):
    """Builds model and optimizer as `[run]` names them."""
    run, self.train = config.run, config.train
    model = _named(config.models, run.model, 'run.model')
    name = _named(config.methods, run.method, 'run.method')
    method = config.methods[name]
    self.names = model, name
    self.dataset = data.load(config.data, config.train)
    self.problem = problem_lib.build(
        config.models[model], self.dataset, config.train.dtype)
    self.rate = schedule(config.train, run.learning_rate)
    self.skips = run.non_finite == 'skip'
    self.built = methods.build(
        method, self.rate, self.problem.context,
        run.max_skips if self.skips else None)
    self.refusing = lambda: methods.refusing(
        method, self.problem.context, self.problem.init,
        f'[methods.{name}] on [models.{model}]')
    self.seed = run.seed
    self.timed = through_time.has_time(self.problem)
    self.parts = jax.device_put(self.dataset[:3])
    self.evaluate = jax.jit(self.problem.evaluate)
    self._stretch: Any = jax.jit(self.stretch)
    self._profile = jax.jit(
        lambda params, part: through_time.profile(self.problem, params, part))

  def compile(self, state: trial.State) -> None:
    """Compiles a chunk, so that the first one is timed like the others."""
    with self.refusing():
      self._stretch = self._stretch.lower(state, self.parts[0]).compile()

  def chunk(self, state: trial.State) -> tuple[trial.State, trial.Figures]:
    """Takes `eval_every` steps, compiled; their figures are stacked."""
    return self._stretch(state, self.parts[0])

  def one(self, state: trial.State,
          examples: Any = None) -> tuple[trial.State, trial.Figures]:
    """Takes one step; on the training part unless told otherwise."""
    new, figures = trial.step(
        self.problem, self.built, self.train,
        self.parts[0] if examples is None else examples,
        jnp.int32(self.seed), state)
    if self.skips:  # batch statistics of what is left out are left out, too
      taken = _skipped(new) == _skipped(state)
      new = new._replace(extra=jax.tree.map(
          lambda a, b: jnp.where(taken, a, b), new.extra, state.extra))
      figures = figures._replace(skipped=optax.tree.get(
          new.opt_state, 'notfinite_count'))
    return new, figures

  def stretch(self, state: trial.State,
              examples: Any = None) -> tuple[trial.State, trial.Figures]:
    """Takes `eval_every` steps.

    To be compiled with `examples` as an argument: as a constant, a large
    training part would be copied into the program.
    """
    return lax.scan(lambda state, _: self.one(state, examples), state,
                    length=self.train.eval_every)

  def start(self) -> trial.State:
    """The state before the first step."""
    with self.refusing():
      return jax.jit(lambda seed: trial.start(
          self.problem, self.built, *self.problem.init(seed)))(self.seed)

  def row(self, state: trial.State, figures: trial.Figures,
          seconds: float) -> dict[str, Any]:
    """The figures of a chunk."""
    score = self.evaluate(
        self.built.unwrap(state.params), state.extra, self.parts[1])
    step = int(state.step)
    rate = self.rate(step - 1) if callable(self.rate) else self.rate
    row = {'step': step, 'loss': finite(_mean(figures.loss)),
           'validation_loss': finite(score['loss']),
           'validation_score': finite(score['score']),
           'gradient_norm': finite(_mean(figures.gradient)),
           'learning_rate': float(rate),
           'seconds_per_step': round(seconds / self.train.eval_every, 6)}
    if self.skips:
      row['skipped'] = int(_skipped(state))
    if figures.choice is not None:
      row['acted'] = float(sampling.acted(figures.choice).mean())
    return row

  def profile(self, state: trial.State) -> list[float | None] | None:
    """The gradient's log10 norm at every step of a sequence, if it is one."""
    if not self.timed:
      return None
    return through_time.plain(self._profile(
        self.built.unwrap(state.params), self.parts[1]))


def run(config: schema.Config, out: str | pathlib.Path | None = None, *,
        fresh: bool = False, quiet: bool = False) -> Trained:
  """Trains one model with one method, going on where it stopped.

  Args:
    config: Its `[run]` names the model, the method and the learning rate.
    out: The run folder; `runs/NAME-train` if None.
    fresh: Begin again, forgetting checkpoints and figures.
    quiet: No progress bar.

  Returns:
    The figures and the final parameters, with `.table()` and `.plot()`.

  Raises:
    LabError: A folder of another configuration, or a disk that is full.
    diagnosis.Diverged: A loss that is no number, with the first bad block.
  """
  folder = pathlib.Path(out or pathlib.Path('runs') / f'{config.name}-train')
  guard = results.claim(folder)
  try:
    return _run(config, folder, fresh, quiet)
  finally:
    guard.release()


def _run(config: schema.Config, folder: pathlib.Path, fresh: bool,
         quiet: bool) -> Trained:
  """Runs in a folder that is ours alone."""
  from gradnorm_optax.lab import progress
  run_folder.look(folder, config, fresh)
  trainer = Trainer(config)  # before anything is written or deleted
  state = trainer.start()
  run_folder.prepare(
      folder, config, provenance.data_digest(trainer.dataset[:3]),
      provenance.own_code(config, *trainer.names), fresh)
  checkpoints = Checkpoints(folder / 'checkpoints', config.run.keep)
  latest = checkpoints.latest()
  if latest is not None:
    state = checkpoints.restore(latest, state)
  trainer.compile(state)
  journal = Journal(
      folder, latest or 0, chooses=trainer.built.chooses,
      timed=trainer.timed)
  try:
    with progress.training(config.train.steps, latest or 0, quiet) as show, \
        signals.noted() as caught:
      state = _loop(config, trainer, checkpoints, journal, state, show, caught)
  finally:
    journal.close()
    checkpoints.close()
  stopped = caught[0] if caught else None
  test = None
  params = trainer.built.unwrap(state.params)
  if stopped is None:
    test = {name: float(value) for name, value in trainer.evaluate(
        params, state.extra, trainer.parts[2]).items()}
    results.write(folder / 'results.json', json.dumps({
        'data': trainer.dataset.description,
        'test': test, 'last': journal.rows[-1],
        'best_checkpoint': checkpoints.best(),
        'versions': provenance.versions(),
        'revision': provenance.revision(),
        'machine': provenance.machine()}, indent=1) + '\n')
  return Trained(folder, journal.rows, stopped, test, params,
                 trainer.dataset.objective.measure, journal.profiles,
                 trainer.dataset.description)


def restored(folder: pathlib.Path, config: schema.Config,
             step: int | None = None) -> tuple[str, Any]:
  """The model and the parameters of a run's checkpoint, the newest if None."""
  trainer = Trainer(config)
  path = folder / 'checkpoints'
  checkpoints = Checkpoints(
      path, config.run.keep, read_only=True) if path.is_dir() else None
  if checkpoints is None or (
      step := checkpoints.latest() if step is None else step) is None:
    raise LabError(f'{folder}: no checkpoint here; gradnorm train writes them')
  state = checkpoints.restore(step, trainer.start())
  checkpoints.close()
  return (_named(config.models, config.run.model, 'run.model'),
          trainer.built.unwrap(state.params))


def _loop(config: schema.Config, trainer: Trainer, checkpoints: Checkpoints,
          journal: Journal, state: trial.State, show: Any,
          caught: list[int]) -> trial.State:
  """Trains to the end or to the first signal."""
  every = config.train.eval_every
  chunks = 0
  while int(state.step) < config.train.steps and not caught:
    before = state
    began = time.perf_counter()
    state, figures = jax.block_until_ready(trainer.chunk(state))
    seconds = time.perf_counter() - began
    row = trainer.row(state, figures, seconds)
    if config.run.non_finite == 'skip':
      diagnosis.check_skips(before, figures, config.run.max_skips)
    elif not np.isfinite(figures.loss).all():
      raise diagnosis.diagnose(
          trainer.problem, trainer.built, trainer.one, before, every)
    elif row['validation_loss'] is None:
      raise diagnosis.Diverged(
          f'step {row["step"]}: the loss of the validation part is not finite, '
          'though that of every batch was. Look at its examples, at your own '
          'loss (a logarithm or a division?), or lower the learning rate')
    journal.add(row, figures, trainer.profile(state))
    show(row)
    chunks += 1
    last = row['step'] == config.train.steps
    if last or caught or chunks % config.run.checkpoint_every == 0:
      score = row['validation_score']
      checkpoints.save(row['step'], state, -1e30 if score is None else score)
  return state


def _mean(values: Any) -> float:
  """The mean over the steps that were not left out; NaN if all were."""
  known = np.asarray(values)[np.isfinite(values)]
  return float(known.mean()) if len(known) else math.nan


def _skipped(state: trial.State) -> Any:
  """How many gradients were not finite and left out."""
  return optax.tree.get(state.opt_state, 'total_notfinite')


def _named(tables: dict[str, Any], name: str | None, key: str) -> str:
  """The named table, or the first."""
  if name is None:
    return next(iter(tables))
  if name not in tables:
    raise LabError(f'{key}: unknown name {name!r}{nearest(name, tables)}')
  return name
