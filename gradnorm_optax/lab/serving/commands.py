"""What `gradnorm predict` and `gradnorm export` do, and what they say of it."""

import pathlib
from typing import Any

from gradnorm_optax.lab.serving import (
  answers_file,
  export as export_lib,
  loaded_run,
  new_examples,
)
from gradnorm_optax.lab.support.errors import LabError


def predict(run: pathlib.Path, data: pathlib.Path, out: pathlib.Path,
            checkpoint: str) -> list[str]:
  """Writes answers for new examples; says what was done, the file last."""
  loaded = loaded_run.load(run, _which(checkpoint))
  found = new_examples.read(data, loaded.data, loaded.config.data)
  answers_file.write(out, loaded, found)
  return [*found.notes, f'{len(found.x)} answers by the checkpoint of step '
          f'{loaded.step}, each with its {found.title}: {out}']


def export(run: pathlib.Path, folder: pathlib.Path, checkpoint: str) -> str:
  """Writes a trained model for other programs."""
  loaded = loaded_run.load(run, _which(checkpoint))
  export_lib.write(loaded, folder)
  return (f'Step {loaded.step} of {run}: {folder}/MODEL_CARD.md says how to '
          'use it')


def _which(given: str) -> Any:
  """best, last or the number of a step."""
  if given in ('best', 'last'):
    return given
  if not given.isdigit():
    raise LabError(f'--checkpoint: best, last or a step, not {given!r}')
  return int(given)
