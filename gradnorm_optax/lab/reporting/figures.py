"""The pictures of a comparison."""

from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context

from gradnorm_optax.lab.reporting import (
  block_figures,
  run_figures,
  score_panels,
  search_panels,
)
from gradnorm_optax.lab.reporting.canvas import Canvas, fonts
from gradnorm_optax.lab.reporting.sheet import LETTERS, Sheet
from gradnorm_optax.lab.results.findings import Profiles, Summary
from gradnorm_optax.lab.results.look import Look


def sheets(found: Summary, looks: Sequence[Look] = (),
           profiles: Profiles | None = None) -> dict[str, Sheet]:
  """What a comparison found, as figures; a model's own end in its name."""
  made = {'scores': score_panels.scores(found),
          'curves': score_panels.curves(found),
          'sensitivity': score_panels.sensitivity(found)}
  if (searched := search_panels.search(found)) is not None:
    made['search'] = searched
  for model in dict.fromkeys(look.model for look in looks):
    own = [look for look in looks if look.model == model]
    made[f'norms-{model}'] = block_figures.norm_sheet(own)
    made[f'entries-{model}'] = block_figures.entry_sheet(own)
  for model, moments in (profiles or {}).items():
    made[f'through_time-{model}'] = run_figures.time_sheet(model, moments)
  return made


def draw(found: Summary, looks: Sequence[Look] = (),
         profiles: Profiles | None = None) -> dict[str, Canvas]:
  """The same, each on one canvas."""
  with inked('black'):
    return {name: sheet.whole()
            for name, sheet in sheets(found, looks, profiles).items()}


def inked(ink: str) -> Any:
  """A context in which text and axes are drawn in one colour."""
  settings: Any = dict.fromkeys((
      'text.color', 'axes.labelcolor', 'axes.edgecolor', 'axes.titlecolor',
      'xtick.color', 'ytick.color'), ink)
  return rc_context(settings | {
      'font.family': fonts(), 'font.size': LETTERS})
