"""A finished comparison on the disk: results.json and the trials beside it."""

import json
import pathlib
from typing import Any, NamedTuple

import pydantic

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.results import step_cost, store
from gradnorm_optax.lab.results.findings import Summary
from gradnorm_optax.lab.results.made_with import Basis
from gradnorm_optax.lab.results.trials import Trials
from gradnorm_optax.lab.support import files
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.support.json_safe import plain

FILE = 'results.json'
PLAN = 'plan.json'  # what is being compared, from the first trial on


class Finished(NamedTuple):
  """What results.json holds.

  Attributes:
    config: The resolved configuration.
    basis: What the trials rest on besides.
    summary: The rows and the verdicts.
    command: How to run it again.
  """

  config: schema.Config
  basis: Basis
  summary: Summary
  command: str


class Begun(NamedTuple):
  """What plan.json holds: the configuration, and what else trials rest on."""

  config: schema.Config
  basis: Basis


_SHAPE: Any = pydantic.TypeAdapter(Finished)
_BEGUN: Any = pydantic.TypeAdapter(Begun)


def write(folder: pathlib.Path, found: Finished) -> None:
  """Writes results.json; what is not finite becomes null."""
  basis = found.basis
  content = {
      'versions': basis.versions, 'revision': basis.revision,
      'machine': basis.machine, 'command': found.command,
      'config': found.config.model_dump(mode='json'),
      'summary': plain(found.summary), 'basis': plain(basis)}
  files.write(folder / FILE,
              json.dumps(content, indent=1, allow_nan=False) + '\n')


def write_plan(folder: pathlib.Path, config: schema.Config,
               basis: Basis) -> None:
  """Writes plan.json, by which others see how far a comparison is."""
  files.write(folder / PLAN, json.dumps({
      'config': config.model_dump(mode='json'), 'basis': plain(basis)},
      indent=1, allow_nan=False) + '\n')


def begun(folder: pathlib.Path) -> Trials | None:
  """The trials of a comparison that was begun here; None if none was.

  Raises:
    LabError: plan.json or the trials are damaged.
  """
  path = folder / PLAN
  if not path.exists():
    return None
  try:
    found = _BEGUN.validate_python(
        json.loads(path.read_text(encoding='utf-8')))
  except (OSError, ValueError, TypeError) as error:
    raise LabError(f'{path}: not as gradnorm compare of this version wrote it'
                   ) from error
  return Trials(store.finished(folder), *found)


def read(folder: pathlib.Path) -> Finished:
  """Reads results.json: the objects that were written.

  Raises:
    LabError: No such file, or none of a comparison of this version.
  """
  path = folder / FILE
  try:
    content = json.loads(path.read_text(encoding='utf-8'))
    return _SHAPE.validate_python(
        {name: content[name] for name in Finished._fields})
  except OSError as error:
    raise LabError(f'{folder}: no finished comparison here ({path.name}: '
                   f'{error.strerror}); gradnorm compare writes it') from error
  except (ValueError, KeyError, TypeError) as error:
    raise LabError(
        f'{path}: not written by gradnorm compare of this version; run the '
        'comparison again') from error


def configuration(folder: pathlib.Path) -> Any:
  """The configuration in results.json as it stands there; None if unread."""
  try:
    return json.loads(
        (folder / FILE).read_text(encoding='utf-8')).get('config')
  except (OSError, ValueError, AttributeError):
    return None


def trials(folder: pathlib.Path, found: Finished) -> Trials:
  """The trials of the folder, all of which must be there.

  Raises:
    LabError: One is missing.
  """
  asked = Trials(store.finished(folder), found.config, found.basis)
  done, planned = asked.count()
  if done < planned:
    raise LabError(f'{folder}: {planned - done} trials of results.json are '
                   f'missing in {store.TRIALS}; run the comparison again')
  untimed = [model for model in found.config.models
             if step_cost.key(asked, model) not in asked.records]
  if untimed:
    raise LabError(f'{folder}: the steps of {untimed[0]!r} are not timed in '
                   f'{store.TRIALS}; run the comparison again')
  return asked
