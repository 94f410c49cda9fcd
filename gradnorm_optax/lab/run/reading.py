"""What the files of a run say, running or finished; nothing is touched."""

import json
import pathlib
import statistics
import time
import tomllib
from typing import Any, NamedTuple

from gradnorm_optax.lab.results import alerts, block_flags
from gradnorm_optax.lab.results.alerts import Alert
from gradnorm_optax.lab.results.look import noise_scale
from gradnorm_optax.lab.results.store import TRIALS
from gradnorm_optax.lab.run import status
from gradnorm_optax.lab.run.folder_guard import BLOCKS, METRICS, RESULTS, WATCH
from gradnorm_optax.lab.schema.toml import CONFIG
from gradnorm_optax.lab.support import files, jsonl
from gradnorm_optax.lab.support.errors import LabError

RECENT = 5  # evaluations that tell the speed


class Reading(NamedTuple):
  """A run as its files tell it.

  Attributes:
    folder: Its folder.
    title: Model and method.
    state: "running", "finished", "stopped", "diverged", "failed" or "killed".
    told: More about the end.
    rows: The figures of its evaluations, as in metrics.jsonl.
    steps: How many it has in all.
    batch: Examples of a step.
    seconds_per_step: By the clock, evaluations included; None if unknown.
    watched: The last row of watch.jsonl; None if blocks are not watched.
    alerts: What left its safe range, the present ones first.
    flags: {block: advice} of the last look at the blocks.
    noise: The gradient noise scale in examples; NaN if unknown.
    test: The test part's score once it has ended.
  """

  folder: pathlib.Path
  title: str
  state: str
  told: str
  rows: list[dict[str, Any]]
  steps: int
  batch: int
  seconds_per_step: float | None
  watched: dict[str, Any] | None
  alerts: list[Alert]
  flags: dict[str, str]
  noise: float
  test: tuple[str, float] | None

  @property
  def step(self) -> int:
    """The last step that was evaluated."""
    return self.rows[-1]['step'] if self.rows else 0

  @property
  def clipped(self) -> float | None:
    """The share of the steps whose gradient was clipped, if any is."""
    shares = [row['clipped'] for row in self.rows if 'clipped' in row]
    return statistics.fmean(shares) if shares else None

  @property
  def skipped(self) -> float | None:
    """The share of the steps that were left out, if any may be."""
    last = self.rows[-1] if self.rows else {}
    return last['skipped'] / last['step'] if 'skipped' in last else None

  @property
  def ended(self) -> bool:
    """Whether no more is to come."""
    return self.state != 'running'


def read(folder: pathlib.Path) -> Reading:
  """Reads a run's folder.

  Raises:
    LabError: It is none, or that of another command.
  """
  config = _config(folder)
  found = status.read(folder)
  rows = _lines(folder / METRICS)
  watched = _lines(folder / WATCH)
  looks = _lines(folder / BLOCKS)
  name, method = _chosen(config, 'method')
  results = _json(folder / RESULTS)
  state = 'finished' if results else found.get('state') or (
      'running' if files.claimed(folder) else 'stopped')  # an earlier version's
  # A run that goes on after its end begins with another status.
  if found.get('state') == 'running':
    state, results = 'running', None
  return Reading(
      folder, f'{_chosen(config, "model")[0]}, {name}', state,
      found.get('told', ''), rows, config['train']['steps'],
      config['train']['batch_size'], _speed(watched, rows),
      watched[-1] if watched else None,
      alerts.find(watched[-1], block_flags.scales(
          method.get('normalize'), method['optimizer'])) if watched else [],
      looks[-1]['flags'] if looks else {},
      noise_scale([pair for look in looks for pair in look.get('noise', ())]),
      (results['measure'], results['test']['score']) if results else None)


def _config(folder: pathlib.Path) -> dict[str, Any]:
  """The run's configuration, as it was resolved."""
  if not folder.is_dir():
    raise LabError(f'{folder}: no such folder; give that of a gradnorm train '
                   'run, such as runs/demo-train')
  if (folder / TRIALS).exists():
    raise LabError(f'{folder}: holds a comparison, which has no single run to '
                   'watch; its report.html shows the blocks, and gradnorm '
                   'train makes a run')
  try:
    config = tomllib.loads((folder / CONFIG).read_text(encoding='utf-8'))
    config['train']['steps'], config['models'], config['methods']
  except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
    raise LabError(f'{folder}: no run of gradnorm train here, or one that is '
                   'only just starting') from error
  return config


def _chosen(config: dict[str, Any], key: str) -> tuple[str, dict[str, Any]]:
  """Name and table of the run's model or method."""
  tables = config[f'{key}s']
  name = config.get('run', {}).get(key) or next(iter(tables))
  return name, tables[name]


def _speed(watched: list[dict[str, Any]],
           rows: list[dict[str, Any]]) -> float | None:
  """Seconds of a step by the clock, or without evaluations."""
  recent = watched[-RECENT - 1:]
  paces = [(b['time'] - a['time']) / (b['step'] - a['step'])
           for a, b in zip(recent, recent[1:], strict=False)]
  paces = paces or [row['seconds_per_step'] for row in rows[-RECENT:]]
  return statistics.median(paces) if paces else None


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """A file's rows; between two starts of a run it may be written anew."""
  for _ in range(3):
    try:
      return jsonl.read_steps(path)
    except OSError:
      time.sleep(0.05)
  return []


def _json(path: pathlib.Path) -> dict[str, Any] | None:
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError):
    return None
