"""The files of a finished comparison."""

import pathlib
from collections.abc import Sequence

from matplotlib import rc_context

from gradnorm_optax.lab.reporting import canvas, figures, page
from gradnorm_optax.lab.results import results_file
from gradnorm_optax.lab.results.findings import Profiles
from gradnorm_optax.lab.results.first_batch_norms import Look
from gradnorm_optax.lab.results.results_file import Finished
from gradnorm_optax.lab.schema import toml
from gradnorm_optax.lab.support import files


def save(folder: pathlib.Path, found: Finished, looks: Sequence[Look],
         profiles: Profiles) -> None:
  """Writes results.json, config.toml, the figures and report.html."""
  results_file.write(folder, found)
  files.write(folder / toml.CONFIG, toml.resolved(found.config))
  with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'gradnorm'}):
    for name, figure in figures.draw(found.summary, looks, profiles).items():
      for suffix in ('svg', 'png'):
        files.write(
            folder / canvas.file(name, suffix), canvas.image(figure, suffix))
    files.write(folder / 'report.html', page.render(found, looks, profiles))
