"""What runs lie below a folder, how far they are, and what they found."""

import dataclasses
import datetime
import json
import os
import pathlib
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

from gradnorm_optax.lab.results import results_file, store
from gradnorm_optax.lab.results.findings import Summary, Verdict
from gradnorm_optax.lab.run import folder_guard
from gradnorm_optax.lab.support import files
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.support.jsonl import read_steps

_WITHIN = ('checkpoints', 'tensorboard', 'earlier')  # a run's own folders


@dataclasses.dataclass(frozen=True)
class Entry:
  """A run folder.

  Attributes:
    name: Its path below the folder that was asked for.
    kind: "comparison" or "training".
    state: "finished", "running", "stopped" or "damaged".
    done, planned: Trials of a comparison, steps of a training.
    steps: Of one run; None where it is not known.
    data: The data in words, or what the configuration calls them.
    found: The verdicts, the score, or what is wrong.
    date: When something was written last, in seconds since 1970.
  """

  name: str
  kind: str
  state: str
  done: int | None
  planned: int | None
  steps: int | None
  data: str
  found: str
  date: float

  @property
  def progress(self) -> str:
    """The state, and how far it is."""
    if self.state in ('finished', 'damaged') or self.done is None:
      return self.state
    return f'{self.state} at {self.done} of {self.planned}'

  @property
  def day(self) -> str:
    """The date as it is read here."""
    return datetime.datetime.fromtimestamp(self.date).strftime(
        '%Y-%m-%d %H:%M')


def find(top: pathlib.Path) -> list[Entry]:
  """The runs below a folder, the newest first; changes nothing there.

  What cannot be read is an entry too, and says why.

  Raises:
    LabError: There is no such folder.
  """
  if not top.is_dir():
    raise LabError(f'{top}: no such folder; give the one that holds the runs, '
                   'as in: gradnorm runs DIR')
  found = [_entry(top, folder, kind) for folder, kind in _folders(top)]
  return sorted(found, key=lambda entry: (-entry.date, entry.name))


def records(found: Sequence[Entry]) -> list[dict[str, Any]]:
  """What JSON holds of them."""
  return [dataclasses.asdict(entry) | {
      'date': datetime.datetime.fromtimestamp(
          entry.date, datetime.UTC).isoformat(timespec='seconds')}
          for entry in found]


def table(found: Sequence[Entry]) -> Any:
  """One line for each, as rich shows it."""
  from rich import table, text
  shown = table.Table(box=None, pad_edge=False)
  for name in ('name', 'kind', 'state', 'steps', 'data', 'found', 'date'):
    shown.add_column(name, justify='right' if name == 'steps' else 'left',
                     no_wrap=name == 'date',
                     overflow='fold' if name == 'name' else 'ellipsis')
  for entry in found:
    shown.add_row(*map(text.Text, (
        entry.name, entry.kind, entry.progress,
        '-' if entry.steps is None else str(entry.steps),
        entry.data.partition(';')[0], entry.found, entry.day)), style={
            'damaged': 'red', 'running': 'bold'}.get(entry.state))
  return shown


def _folders(top: pathlib.Path) -> Iterator[tuple[pathlib.Path, str]]:
  """Folders with the marks of a run, and whose they are."""
  for place, inside, names in os.walk(top):
    inside[:] = sorted(name for name in inside if name not in _WITHIN
                       and not name.startswith('.'))
    folder = pathlib.Path(place)
    held = {*names, *(name for name in _WITHIN if (folder / name).is_dir())}
    for command, marks in folder_guard.MARKS.items():
      if held & {*marks, *_MORE[command]}:
        yield folder, _KINDS[command]
        break


_KINDS = {'gradnorm train': 'training', 'gradnorm compare': 'comparison'}
_MORE = {'gradnorm train': (), 'gradnorm compare': (results_file.PLAN,)}


def _entry(top: pathlib.Path, folder: pathlib.Path, kind: str) -> Entry:
  name = str(folder.relative_to(top))
  name = folder.resolve().name if name == '.' else name
  date = _date(folder)
  try:
    busy = files.claimed(folder)
    found = (_comparison if kind == 'comparison' else _training)(folder)
  except (LabError, OSError, ValueError, KeyError, TypeError,
          AttributeError) as error:
    told = str(error).partition('\n')[0] if isinstance(error, LabError) else (
        f'cannot be read ({type(error).__name__}: {error})')
    return Entry(name, kind, 'damaged', None, None, None, '-', told, date)
  entry = Entry(name, kind, date=date, **found)
  return dataclasses.replace(entry, state='running') if busy else entry


def _date(folder: pathlib.Path) -> float:
  """When one of a run's own files was written last."""
  names = (store.TRIALS, results_file.FILE, results_file.PLAN,
           folder_guard.METRICS, folder_guard.DATA)
  times = [(folder / name).stat().st_mtime for name in names
           if (folder / name).exists()]
  return max(times, default=folder.stat().st_mtime)


def _comparison(folder: pathlib.Path) -> dict[str, Any]:
  """How far a comparison is; its verdicts where it has ended."""
  trials = results_file.begun(folder)
  ended = results_file.read(folder) if (
      folder / results_file.FILE).exists() else None
  if trials is None and ended is None:
    raise LabError(f'{folder}: trials, but neither {results_file.PLAN} nor '
                   f'{results_file.FILE}; run the comparison again')
  if trials is None:
    assert ended is not None
    trials = results_file.Trials(
        store.finished(folder), ended.config, ended.basis)
  done, planned = trials.count()
  whole = done == planned and ended is not None and (
      ended.config == trials.config)
  return {
      'state': 'finished' if whole else 'stopped', 'done': done,
      'planned': planned, 'steps': trials.config.train.steps,
      'data': trials.basis.description,
      'found': verdicts(ended.summary) if whole and ended else ''}


def verdicts(summary: Summary) -> str:
  """The recommendations of a comparison in one line."""
  def one(verdict: Verdict) -> str:
    if verdict.choice is None:
      return f'{verdict.model}: no recommendation'
    return (f'{verdict.model}: {"use" if verdict.kind == "gain" else "keep"} '
            f'{verdict.choice}')
  return '; '.join(map(one, summary.verdicts))


def _training(folder: pathlib.Path) -> dict[str, Any]:
  """How far a training is; its score where it has ended."""
  config = tomllib.loads(
      (folder / folder_guard.CONFIG).read_text(encoding='utf-8'))
  rows = read_steps(folder / folder_guard.METRICS)
  steps, done = config['train']['steps'], rows[-1]['step'] if rows else 0
  path = folder / folder_guard.RESULTS
  ended = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
  whole = done >= steps and bool(ended)
  score = ''
  if whole:
    score = (f'test {ended.get("measure", "score")} '
             f'{ended["test"]["score"]:.3g}, loss {ended["test"]["loss"]:.3g}')
  elif rows and rows[-1].get('validation_score') is not None:
    score = f'validation score {rows[-1]["validation_score"]:.3g}'
  data = config['data']
  run = config['run']
  made = [name for name in (run.get('method'), run.get('model')) if name]
  return {
      'state': 'finished' if whole else 'stopped', 'done': done,
      'planned': steps, 'steps': steps,
      'data': ended.get('data') or data.get('path') or data['source'],
      'found': ': '.join(filter(None, (' on '.join(made), score)))}
