"""The files of a finished comparison."""

import json
import pathlib
from collections.abc import Sequence

from matplotlib import rc_context

from gradnorm_optax.lab import (
    canvas,
    config as config_lib,
    figures,
    provenance,
    report,
    results,
    run_folder,
    schema,
)
from gradnorm_optax.lab.findings import Look, Profiles, Summary, plain


def save(folder: pathlib.Path, config: schema.Config, found: Summary,
         looks: Sequence[Look], profiles: Profiles, command: str) -> None:
  """Writes results.json, config.toml, the figures and report.html."""
  content = {
      'versions': provenance.versions(), 'revision': provenance.revision(),
      'machine': provenance.machine(), 'command': command,
      'config': config.model_dump(mode='json'), 'summary': plain(found)}
  results.write(folder / 'results.json',
                json.dumps(content, indent=1, allow_nan=False) + '\n')
  results.write(folder / run_folder.CONFIG, config_lib.resolved(config))
  run_folder.keep_modules(folder, config)
  with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'gradnorm'}):
    for name, figure in figures.draw(found, looks, profiles).items():
      for suffix in ('svg', 'png'):
        results.write(
            folder / canvas.file(name, suffix), canvas.image(figure, suffix))
    results.write(folder / 'report.html', report.build(
        config, found, looks, profiles, command))
