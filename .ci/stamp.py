"""Stamps where the project lives on every notebook: `.ci/stamp.py [ADDRESS]`.

A repository's owner runs it once with the address; it is kept in pyproject.toml
(`[project.urls]`), and every notebook gets the badge that opens it in Colab and
the line from which its first cell installs the library there. Without an
address it stamps the one that is kept: after a notebook was added.
"""

import argparse
import pathlib
import re
import tomllib

import jupytext
import nbformat

ROOT = pathlib.Path(__file__).parents[1]
COLAB = 'https://colab.research.google.com'
BADGE = re.compile(r'^# \[!\[Open in Colab\].*\n#\n', re.MULTILINE)
SOURCE = re.compile(r"^SOURCE = .*$", re.MULTILINE)
TITLE = re.compile(r'^# # ', re.MULTILINE)


def repository() -> str:
  """The address that pyproject.toml keeps."""
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  return project['urls']['Repository']


def keep(address: str) -> None:
  """Puts another address in the place of the one that is kept."""
  old = repository()
  for name in ('pyproject.toml', 'CITATION.cff'):
    file = ROOT / name
    file.write_text(file.read_text().replace(old, address.rstrip('/')))


def stamped(text: str, name: str, address: str) -> str:
  """A percent script with badge and source; stamping it again changes nothing.

  Args:
    text: The script.
    name: Its name without the suffix.
    address: Of the repository.
  """
  place = address.removeprefix('https://github.com/')
  badge = (f'# [![Open in Colab]({COLAB}/assets/colab-badge.svg)]'
           f'({COLAB}/github/{place}/blob/main/notebooks/{name}.ipynb)\n#\n')
  text = TITLE.sub(badge + '# # ', BADGE.sub('', text), count=1)
  if not SOURCE.search(text):
    raise SystemExit(f'{name}: no cell says SOURCE = ...')
  source = f"SOURCE = 'gradnorm_optax[lab] @ git+{address}'"
  return SOURCE.sub(source, text, count=1)


def pair(script: pathlib.Path, notebook: pathlib.Path) -> None:
  """Gives a notebook the cells of its script; outputs stay with their cells."""
  cells = jupytext.read(script)
  kept = nbformat.read(notebook, as_version=4) if notebook.exists() else cells
  if len(kept.cells) != len(cells.cells):
    kept = cells
  for i, (cell, told) in enumerate(zip(kept.cells, cells.cells, strict=True)):
    cell.source, cell.id = told.source, f'cell-{i:02d}'
  notebook.write_text(nbformat.writes(kept) + '\n')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('repository', nargs='?',
                      help='such as https://github.com/me/gradnorm_optax')
  address = parser.parse_args().repository
  if address:
    if not address.startswith('https://github.com/'):
      raise SystemExit(f'{address}: Colab opens https://github.com/OWNER/NAME')
    keep(address)
  for script in sorted((ROOT / 'notebooks').glob('*.py')):
    script.write_text(stamped(
        script.read_text(), script.stem, repository()))
    pair(script, script.with_suffix('.ipynb'))


if __name__ == '__main__':
  main()
