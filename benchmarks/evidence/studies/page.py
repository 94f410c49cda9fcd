"""docs/studies.md and its figures: `python -m benchmarks studies_page`."""

import importlib
import json
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from matplotlib import figure

from benchmarks import common
from benchmarks.evidence.studies import figures, tables
from gradnorm_optax.lab.reporting import canvas
from gradnorm_optax.lab.support import files

DOCS = pathlib.Path(__file__).parents[3] / 'docs'
PAGE = DOCS / 'studies.md'
RESULTS = common.RESULTS / 'evidence'
Kept = dict[str, Any]

HEAD = """# Studies of single questions

<!-- Written by `python -m benchmarks studies_page`; do not edit. -->

What is no comparison of nets that learn from labelled examples: value learning,
a variational autoencoder, narrow minima, and choices inside one method. Each
text below was committed before its results were. `python -m benchmarks evidence
NAME` runs one again, or what is missing of it. Gains are paired by seed, their
intervals Student's. Ten or twenty seeds at one rate say how starts differ, not
how well the rate was chosen."""


class Section(NamedTuple):
  """What the page shows of a study, each made from what it kept."""

  parts: tuple[Callable[[Kept], str], ...]
  pictures: Mapping[str, Callable[[Kept], figure.Figure]]


SCORES = {'rates': figures.rates, 'seeds': figures.seeds}
SEARCHED = (tables.searched, tables.judged)
LEARNED = Section(
    (*SEARCHED, tables.learned, lambda kept: tables.extras(kept, ['acted'])),
    SCORES)
SECTIONS = {
    'dqn': Section(SEARCHED, SCORES),
    'vae': Section(
        (*SEARCHED, lambda kept: tables.extras(kept, ['early', 'train'])),
        {'rates': figures.rates}),
    'wn_inference': Section((tables.folding,), {}),
    'narrow_minima': Section((tables.thresholds,),
                             {'shares': figures.narrow_minima}),
    'path_refresh': Section(
        (*SEARCHED, lambda kept: tables.extras(
            kept, ['early', 'flops_of_a_step'])), {'rates': figures.rates}),
    'bng_equal_loss': Section(
        (*SEARCHED, lambda kept: tables.extras(kept, ['step'])),
        {'rates': figures.rates}),
    'sgr': LEARNED, 'sgr_100': LEARNED, 'sgr_150': LEARNED,
    'sgr_multiplication': LEARNED}


def kept(folder: pathlib.Path = RESULTS) -> dict[str, Kept]:
  """The results that are complete."""
  found = {name: json.loads((folder / f'{name}.json').read_text())
           for name in SECTIONS if (folder / f'{name}.json').exists()}
  return {name: one for name, one in found.items() if one.get('complete')}


def page(studies: dict[str, Kept]) -> str:
  """Returns the page."""
  parts = [HEAD]
  for name, section in SECTIONS.items():
    module = importlib.import_module(f'benchmarks.evidence.studies.{name}')
    title, _, text = str(module.__doc__).partition('\n')
    parts += [f'## {title.rstrip(".")}', text.strip()]
    if name not in studies:
      parts.append(
          f'Not run to its end: `python -m benchmarks evidence {name}`.')
      continue
    parts += [part(studies[name]) for part in section.parts]
    parts += [f'![{name}: {label}](figures/{_file(name, label)})'
              for label in section.pictures]
  return '\n\n'.join(parts) + '\n'


def _file(name: str, label: str) -> str:
  return f'study_{name}_{label}.svg'


def main() -> None:
  """Writes the page and the figures."""
  studies = kept()
  files.write(PAGE, page(studies))
  for name, found in studies.items():
    for label, draw in SECTIONS[name].pictures.items():
      image = canvas.image(draw(found), 'svg').decode()
      files.write(DOCS / 'figures' / _file(name, label),
                  re.sub(r'[ \t]+\n', '\n', image))
  print(f'written: {PAGE}')


if __name__ == '__main__':
  main()
