"""One self-contained HTML file for the manager on top, the engineer below."""

import datetime
import itertools
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import markupsafe
from matplotlib import rc_context

from gradnorm_optax.lab.reporting import (
  canvas,
  class_tables,
  columns,
  figures,
  run_watch,
)
from gradnorm_optax.lab.reporting.sheet import Panel, Sheet
from gradnorm_optax.lab.results.findings import Profiles
from gradnorm_optax.lab.results.look import Look
from gradnorm_optax.lab.results.results_file import Finished
from gradnorm_optax.lab.schema import toml

# Figures are drawn in this ink and the page puts its own text colour there.
INK = '#010203'


class Drawn(NamedTuple):
  """A panel on the page."""

  title: str
  strong: bool
  width: int  # pixels at its own size
  svg: str


def render(done: Finished, looks: Sequence[Look] = (),
           profiles: Profiles | None = None) -> str:
  """Renders the report of a comparison.

  Args:
    done: The rows and the verdicts, and what they rest on.
    looks: What every method does to the blocks, over a run.
    profiles: The gradient through time, where the model is recurrent.

  Returns:
    An HTML page that loads nothing from anywhere.
  """
  found, basis = done.summary, done.basis
  templates = environment()
  templates.filters |= {
      'percent': found.measure.show, 'figure': number}
  models = {model: [row for row in found.rows if row.model == model]
            for model in dict.fromkeys(row.model for row in found.rows)}
  own, whole = toml.own(done.config), toml.resolved(done.config)
  return templates.get_template('page.html.j2').render(
      found=found, models=models, tables={
          model: columns.columns(found, rows)
          for model, rows in models.items()},
      verdicts={v.model: v for v in found.verdicts},
      sheets=drawn(figures.sheets(found, looks, profiles)),
      flags=[(look.model, look.method, block, flag) for look in looks
             for block, flag in look.flags.items()],
      shares=[(look.model, look.method, '; '.join(told)) for look in looks
              if (told := run_watch.shares(
                  look.clipped, None, look.noise_scale,
                  done.config.train.batch_size))],
      classes=class_tables.tables(found),
      own=own, whole=whole, versions=basis.versions,
      machine=basis.machine, revision=basis.revision, workers=basis.workers,
      command=done.command, today=datetime.date.today().isoformat())


def environment() -> jinja2.Environment:
  """The templates beside this file."""
  return jinja2.Environment(
      loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
      autoescape=True, trim_blocks=True, lstrip_blocks=True,
      undefined=jinja2.StrictUndefined)


def drawn(made: Mapping[str, Sheet]
          ) -> list[tuple[Sheet, list[Drawn], dict[str, list[Drawn]]]]:
  """Every figure with its scales and its groups of panels, drawn."""
  found = []
  with figures.inked(INK), rc_context({'svg.fonttype': 'none'}):
    for stem, sheet in zip(
        canvas.stems(made).values(), made.values(), strict=True):
      count = itertools.count()
      scales, *groups = [
          [_drawn(sheet, panel, f'{stem}-{next(count)}') for panel in panels]
          for panels in (sheet.scales, *sheet.groups().values())]
      found.append((sheet, scales, dict(
          zip(sheet.groups(), groups, strict=True))))
  return found


def _drawn(sheet: Sheet, panel: Panel, anchor: str) -> Drawn:
  """A panel as SVG, told for those who do not see it."""
  where = ', '.join(filter(None, (panel.group, panel.title)))
  return Drawn(panel.title, panel.strong, round(96 * panel.width), inline(
      panel.alone(), f'{sheet.heading}: {where}. {panel.alt}', anchor))


def inline(picture: Any, alt: str, name: str) -> str:
  """A figure as SVG text that takes the colour of the text around it."""
  text = canvas.image(picture, 'svg', transparent=True, metadata={
      'Date': None, 'Creator': None}).decode()
  text = text[text.index('<svg'):].replace(INK, 'currentColor')
  text = re.sub(r'\s*<metadata>.*?</metadata>', '', text, flags=re.S)
  # Two figures on one page must not share identifiers.
  text = re.sub(r'(id="|href="#|url\(#)', rf'\g<1>{name}-', text)
  label = markupsafe.escape(alt)
  return text.replace('<svg', f'<svg role="img" aria-label="{label}"', 1)


def number(value: float) -> str:
  """A figure with three digits, a dash where there is none.

  >>> number(0.012345), number(float('inf'))
  ('0.0123', '-')
  """
  return f'{value:.3g}' if math.isfinite(value) else '-'
