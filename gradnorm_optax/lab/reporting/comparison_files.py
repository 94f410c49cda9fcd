"""The files of a finished comparison."""

import hashlib
import os
import pathlib
from collections.abc import Sequence

from matplotlib import rc_context

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.reporting import canvas, figures, page
from gradnorm_optax.lab.results import results_file
from gradnorm_optax.lab.results.findings import Profiles
from gradnorm_optax.lab.results.look import Look
from gradnorm_optax.lab.results.results_file import Finished
from gradnorm_optax.lab.schema import toml
from gradnorm_optax.lab.support import files

EARLIER = 'earlier'  # reports of other configurations that stood here


def save(folder: pathlib.Path, found: Finished, looks: Sequence[Look],
         profiles: Profiles) -> pathlib.Path | None:
  """Writes results.json, config.toml, the figures and report.html.

  Returns:
    Where the report of another configuration that stood here was put, if one
    did.
  """
  earlier = put_aside(folder, found.config)
  results_file.write(folder, found)
  files.write(folder / toml.CONFIG, toml.resolved(found.config))
  with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'gradnorm'}):
    for name, image in canvas.images(
        figures.draw(found.summary, looks, profiles)):
      files.write(folder / name, image)
    files.write(folder / 'report.html', page.render(found, looks, profiles))
  return earlier


def put_aside(folder: pathlib.Path,
              config: schema.Config) -> pathlib.Path | None:
  """Moves the report of another configuration out of the way; says where."""
  text, old = toml.resolved(config), folder / toml.CONFIG
  was = old.read_bytes() if old.exists() else text.encode()
  if was == text.encode():
    return None
  there = folder / EARLIER / hashlib.sha256(was).hexdigest()[:8]
  with files.disk(there):
    there.mkdir(parents=True, exist_ok=True)
    # The configuration last: until then a kill leaves the move to be gone on.
    names = sorted(
        path for path in folder.iterdir() if path.suffix in (
            '.svg', '.png', '.html') or path.name == results_file.FILE)
    for path in (*names, old):
      os.replace(path, there / path.name)
  return there
