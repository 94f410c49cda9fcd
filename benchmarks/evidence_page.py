"""Writes docs/evidence.md and its figures from results/evidence/*.json."""

import argparse
import pathlib

from benchmarks.evidence import figures, page, registry, results
from gradnorm_optax.lab.support import files

DOCS = pathlib.Path(__file__).parents[1] / 'docs'
PAGE = DOCS / 'evidence.md'


def text() -> str:
  """The page that the results and the claims make."""
  return page.page(registry.read(), results.read())


def main(arguments: list[str] | None = None) -> None:
  """Writes page and figures."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--png', type=pathlib.Path,
                      help='a folder for the figures as pictures, too')
  given = parser.parse_args(arguments)
  files.write(PAGE, text())
  figures.draw(results.read(), DOCS / 'figures', given.png)
  print(f'written: {PAGE}')


if __name__ == '__main__':
  main()
