"""The files of a finished comparison."""

import hashlib
import json
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
  """Moves the report of another configuration out of the way; says where.

  A folder without results.json holds no report: what lies there is the user's.
  """
  found = folder / results_file.FILE
  was = results_file.configuration(folder) if found.exists() else None
  if not found.exists() or was == config.model_dump(mode='json'):
    return None
  digest = hashlib.sha256(json.dumps(was, sort_keys=True).encode()).hexdigest()
  there = folder / EARLIER / digest[:8]
  with files.disk(there):
    there.mkdir(parents=True, exist_ok=True)
    # The results last: until then a kill leaves the move to be gone on.
    names = sorted(path for path in folder.iterdir() if path.suffix in (
        '.svg', '.png', '.html') or path.name == toml.CONFIG)
    for path in (*names, found):
      os.replace(path, there / path.name)
  return there
