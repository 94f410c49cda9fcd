"""One run: checkpoints, figures, and going on after any interruption."""

import json
import pathlib
import time
from typing import Any

import jax
import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import stored
from gradnorm_optax.lab.results.look import Look
from gradnorm_optax.lab.run import (
  folder_guard as run_folder,
  journal as journals,
  processes,
  status,
)
from gradnorm_optax.lab.run.checkpoints import Checkpoints
from gradnorm_optax.lab.run.compiled_run import Trainer
from gradnorm_optax.lab.run.journal import Journal, Unwritten
from gradnorm_optax.lab.run.run_result import Trained
from gradnorm_optax.lab.support import files, provenance, user_code
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import diagnosis, steps


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
  guard = processes.alone(lambda: files.claim(folder))
  try:
    return _run(config, folder, fresh, quiet or not processes.first())
  finally:
    if guard is not None:
      guard.release()


def _run(config: schema.Config, folder: pathlib.Path, fresh: bool,
         quiet: bool) -> Trained:
  """Runs in a folder that is ours alone."""
  from gradnorm_optax.lab.support import progress
  processes.alone(lambda: run_folder.check_same(folder, config, fresh))
  # Before anything is written or deleted.
  trainer = processes.agree(lambda: Trainer(config))
  made, code, data = provenance.made_with(), user_code.digests(
      config.user_functions(*trainer.names)), provenance.data_digest(
          trainer.dataset[:3])
  processes.same({'data': data, 'your own code': '\n'.join(code), **made})
  state = trainer.start()

  def prepare() -> None:
    run_folder.prepare(folder, config, data, code, made, fresh)
    stored.write(folder, stored.Stored.of(trainer.dataset))

  processes.alone(prepare)
  checkpoints = Checkpoints(folder / 'checkpoints', config.run.keep)
  latest = checkpoints.latest()
  if latest is not None:
    state = checkpoints.restore(latest, state)
  # Before the journal is opened: all processes read it.
  watched = journals.watched(folder, latest or 0)
  journal = processes.alone(lambda: Journal(
      folder, latest or 0, chooses=trainer.built.chooses, timed=trainer.timed,
      watches=trainer.watcher is not None)) or Unwritten()
  try:
    with status.kept(folder, latest or 0, processes.first()) as caught:
      state = trainer.watching(state, watched)
      trainer.compile(state)
      with progress.training(
          config.train.steps, latest or 0, quiet) as show, \
          processes.noted() as halt:
        state = _loop(
            config, trainer, checkpoints, journal, state, show, halt)
      caught += halt.came
      best = checkpoints.best()
      judged = state if best in (None, int(state.step)) else (
          checkpoints.restore(best, _kept(state)))
      # What is used later is what is judged: the best.
      test = None if halt.came else _judge(
          folder, trainer, judged, journal.rows[-1])
  finally:
    journal.close()
    checkpoints.close()
  return Trained(folder, journal.rows, halt.came[0] if halt.came else None,
                 test, trainer.judged(state),
                 trainer.dataset.objective.measure, journal.profiles,
                 trainer.dataset.description,
                 Look.joined(journal.blocks) if journal.blocks else None,
                 int(judged.step))


def _judge(folder: pathlib.Path, trainer: Trainer, judged: steps.State,
           last: dict[str, Any]) -> dict[str, float]:
  """Reads the test part, once, and writes results.json."""
  test = {name: float(value) for name, value in trainer.evaluate(
      trainer.judged(judged), judged.extra,
      trainer.parts[2]).items()}
  processes.alone(lambda: files.write(folder / run_folder.RESULTS, json.dumps({
      'data': trainer.dataset.description,
      'measure': trainer.dataset.objective.measure.name, 'test': test,
      'last': last, 'best_checkpoint': int(judged.step),
      'versions': provenance.versions(),
      'revision': provenance.revision(),
      'machine': provenance.machine()}, indent=1) + '\n'))
  return test


def restored(folder: pathlib.Path, config: schema.Config,
             step: int | None = None) -> tuple[Trainer, steps.State]:
  """A run and the state of one of its checkpoints, the newest if None.

  The state goes on with all examples in memory.
  """
  trainer = Trainer(config)
  path = folder / 'checkpoints'
  checkpoints = Checkpoints(
      path, config.run.keep, read_only=True) if path.is_dir() else None
  if checkpoints is None or (
      step := checkpoints.latest() if step is None else step) is None:
    raise LabError(f'{folder}: no checkpoint here; gradnorm train writes them')
  state = checkpoints.restore(step, trainer.start())
  checkpoints.close()
  if trainer.stream:  # whose checkpoints keep no order
    state = state._replace(order=trainer.stream.order(int(state.step)))
  return trainer, state


def _loop(config: schema.Config, trainer: Trainer, checkpoints: Checkpoints,
          journal: Journal, state: steps.State, show: Any,
          halt: processes.Halt) -> steps.State:
  """Trains to the end or to the first signal."""
  every = config.train.eval_every
  journal.add_look(trainer.look(state))
  while int(state.step) < config.train.steps and not halt.came:
    before = state
    began = time.perf_counter()
    state, figures = jax.block_until_ready(trainer.chunk(state))
    seconds = time.perf_counter() - began
    row = trainer.row(state, figures, seconds)
    if config.run.non_finite == 'skip':
      diagnosis.check_skips(before, figures, config.run.max_skips)
    elif not np.isfinite(figures.loss).all():
      raise diagnosis.diagnose(
          trainer.problem, trainer.built, trainer.one,
          trainer.examples(before),
          before, every, trainer.layout.jit)
    elif row['validation_loss'] is None:
      raise diagnosis.Diverged(
          f'step {row["step"]}: the loss of the validation part is not finite, '
          'though that of every batch was. Look at its examples, at your own '
          'loss (a logarithm or a division?), or lower the learning rate')
    journal.add(row, figures, trainer.profile(state),
                trainer.watched(state))
    journal.add_look(trainer.look(state))
    show(row)
    last = row['step'] == config.train.steps
    halt.look(row['step'] // every)
    if last or halt.came or (
        row['step'] // every % config.run.checkpoint_every == 0):
      score = row['validation_score']
      checkpoints.save(
          row['step'], _kept(state), -1e30 if score is None else score)
  return state


def _kept(state: steps.State) -> steps.State:
  """What checkpoints hold: the watcher's state is in its journal."""
  return state._replace(watched=())
