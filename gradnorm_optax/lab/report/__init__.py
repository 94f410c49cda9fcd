"""One self-contained HTML file for the manager on top, the engineer below."""

import datetime
import io
import math
import pathlib
import re
from typing import TYPE_CHECKING, Any

import jinja2

from gradnorm_optax.lab import artifacts, figures, provenance
from gradnorm_optax.lab.summary import Row, Summary

if TYPE_CHECKING:
  from gradnorm_optax.lab.comparison import Comparison

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
}


def build(comparison: 'Comparison') -> str:
  """Renders the report of a comparison.

  Args:
    comparison: A finished comparison.

  Returns:
    An HTML page that loads nothing from anywhere.
  """
  found = comparison.summary
  environment = jinja2.Environment(
      loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
      autoescape=True, trim_blocks=True, lstrip_blocks=True,
      undefined=jinja2.StrictUndefined)
  environment.filters |= {
      'percent': found.measure.show, 'signed': found.measure.signed,
      'figure': number}
  models = dict.fromkeys(row.model for row in found.rows)
  return environment.get_template('template.html.j2').render(
      found=found, models={model: [row for row in found.rows
                                   if row.model == model] for model in models},
      verdicts={v.model: v for v in found.verdicts}, best=_best,
      pictures=[(*CAPTIONS[name], inline(picture, f'{CAPTIONS[name][0]}. '
                                         f'{_told(found)}', name))
                for name, picture in figures.draw(found, INK).items()],
      config=artifacts.resolved(comparison.config),
      versions=provenance.versions(), machine=provenance.machine(),
      revision=provenance.revision(), folder=comparison.folder.name,
      today=datetime.date.today().isoformat(), isfinite=math.isfinite)


def inline(picture: Any, alt: str, name: str) -> str:
  """A figure as SVG text that takes the colour of the text around it."""
  out = io.StringIO()
  picture.savefig(out, format='svg', transparent=True,
                  metadata={'Date': None, 'Creator': None})
  text = out.getvalue()
  text = text[text.index('<svg'):].replace(INK, 'currentColor')
  # Two figures on one page must not share identifiers.
  text = re.sub(r'(id="|href="#|url\(#)', rf'\g<1>{name}-', text)
  label = jinja2.utils.markupsafe.escape(alt)
  return text.replace('<svg', f'<svg role="img" aria-label="{label}"', 1)


def _told(found: Summary) -> str:
  """The figures of a picture in words."""
  return '; '.join(
      f'{row.model}, {row.method}: '
      + (f'{found.measure.name} {found.measure.figure(row.score.mean)}'
         if row.trains else 'does not train') for row in found.rows)


def _best(rows: list[Row]) -> float:
  """The best mean score among the methods that train."""
  return max((row.score.mean for row in rows if row.trains),
             default=math.inf)


def number(value: float) -> str:
  """A figure with three digits, a dash where there is none.

  >>> number(0.012345), number(float('inf'))
  ('0.0123', '-')
  """
  return f'{value:.3g}' if math.isfinite(value) else '-'
