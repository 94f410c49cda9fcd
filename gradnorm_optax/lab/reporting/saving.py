"""The files of a finished comparison."""

import json
import pathlib
from collections.abc import Sequence

from matplotlib import rc_context

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.reporting import canvas, figures, page
from gradnorm_optax.lab.results.looks import Look
from gradnorm_optax.lab.results.records import Profiles, Summary
from gradnorm_optax.lab.schema import toml
from gradnorm_optax.lab.support import files, provenance
from gradnorm_optax.lab.support.json_safe import plain


def save(folder: pathlib.Path, config: schema.Config, found: Summary,
         looks: Sequence[Look], profiles: Profiles, command: str) -> None:
  """Writes results.json, config.toml, the figures and report.html."""
  content = {
      'versions': provenance.versions(), 'revision': provenance.revision(),
      'machine': provenance.machine(), 'command': command,
      'config': config.model_dump(mode='json'), 'summary': plain(found)}
  files.write(folder / 'results.json',
              json.dumps(content, indent=1, allow_nan=False) + '\n')
  files.write(folder / toml.CONFIG, toml.resolved(config))
  with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'gradnorm'}):
    for name, figure in figures.draw(found, looks, profiles).items():
      for suffix in ('svg', 'png'):
        files.write(
            folder / canvas.file(name, suffix), canvas.image(figure, suffix))
    files.write(folder / 'report.html', page.render(
        config, found, looks, profiles, command))
