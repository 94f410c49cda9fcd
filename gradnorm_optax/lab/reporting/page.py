"""One self-contained HTML file for the manager on top, the engineer below."""

import datetime
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jinja2
import markupsafe

from gradnorm_optax.lab.reporting import (
  alt_texts,
  canvas,
  class_tables,
  figures,
)
from gradnorm_optax.lab.results.findings import Profiles
from gradnorm_optax.lab.results.look import Look
from gradnorm_optax.lab.results.results_file import Finished
from gradnorm_optax.lab.schema import toml

# Figures are drawn in this ink and the page puts its own text colour there.
INK = '#010203'
CAPTIONS = {
    'curves': (
        'Learning curves',
        'Validation score by step at each method\'s chosen rate: mean over '
        'the fresh seeds, the band from the worst to the best. Dotted: '
        'guessing.'),
    'sensitivity': (
        'Sensitivity to the learning rate',
        'Final validation score at every rate tried, mean over the tuning '
        'seeds. A wide plateau is easy to tune.'),
    'norms': (
        'Norms of the blocks: ',
        'Each row is a block of parameters, each column a step of the first '
        'fresh run, close together at first and wider apart later. The raw '
        'gradient, what reaches the optimizer\'s moments (under a wrapper in '
        'its parts, as direction and length), and the share of its own size '
        'by which a step moves the block. Rows of one colour train at one '
        'speed.'),
    'entries': (
        'Sizes of the gradient\'s entries: ',
        'The distribution of the magnitudes within each block, raw and where '
        'it reaches the moments, at the first, a middle and the last step. '
        'Thin: from the 1st to the 99th percentile; thick: from the 25th to '
        'the 75th; mark: the median. Zeros are left out, and counted where '
        'they are many.'),
    'through_time': (
        'The gradient through time: ',
        'Norm of the loss\'s gradient at every step of a sequence, at four '
        'moments of the first fresh run. A line that falls to the left '
        'vanishes on its way back, one that rises explodes.'),
}


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
  environment = jinja2.Environment(
      loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
      autoescape=True, trim_blocks=True, lstrip_blocks=True,
      undefined=jinja2.StrictUndefined)
  environment.filters |= {
      'percent': found.measure.show, 'signed': found.measure.signed,
      'figure': number}
  models = dict.fromkeys(row.model for row in found.rows)
  drawn = figures.draw(found, looks, profiles, INK)
  return environment.get_template('page.html.j2').render(
      found=found, models={model: [row for row in found.rows
                                   if row.model == model] for model in models},
      verdicts={v.model: v for v in found.verdicts},
      pictures=[_picture(name, picture, alt_texts.describe(
          name, found, looks, profiles or {}), stem)
                for (name, picture), stem in zip(
                    drawn.items(), canvas.stems(drawn).values(), strict=True)],
      flags=[(look.model, look.method, block, flag) for look in looks
             for block, flag in look.flags.items()],
      classes=class_tables.tables(found),
      config=toml.resolved(done.config), versions=basis.versions,
      machine=basis.machine, revision=basis.revision, workers=basis.workers,
      command=done.command, today=datetime.date.today().isoformat(),
      isfinite=math.isfinite)


def _picture(name: str, picture: Any, alt: str,
             anchor: str) -> tuple[str, str, str]:
  """Heading, caption and SVG of a picture."""
  kind, _, model = name.partition('-')
  heading, caption = CAPTIONS[kind]
  return heading + model, caption, inline(
      picture, f'{heading}{model}. {alt}', anchor)


def inline(picture: Any, alt: str, name: str) -> str:
  """A figure as SVG text that takes the colour of the text around it."""
  text = canvas.image(picture, 'svg', transparent=True, metadata={
      'Date': None, 'Creator': None}).decode()
  text = text[text.index('<svg'):].replace(INK, 'currentColor')
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
