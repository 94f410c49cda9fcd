"""The page of the study says what the kept results say."""

import json

import numpy as np

from benchmarks import sgr_study


def test_page_is_written_from_the_results():
  page = (sgr_study.DOCS / 'sgr_study.md').read_text()
  assert page == sgr_study.page()
  for name in sgr_study.STUDIES:
    path = sgr_study.RESULTS / f'sgr_{name}.json'
    summary = json.loads(path.read_text())['summary']
    assert summary['seeds'] == 10
    for row in summary['rows']:
      assert f'| {row["method"]} | {row["rate"]:g}' in page
      scores = [run['score'] for run in row['runs']]
      assert f'{100 * np.mean(scores):.1f} [' in page


def test_figures_of_the_page_exist():
  for line in (sgr_study.DOCS / 'sgr_study.md').read_text().splitlines():
    if line.startswith('!['):
      file = line[line.index('(') + 1:-1]
      assert (sgr_study.DOCS / file).read_text().startswith('<?xml')


def test_table_of_held_runs():
  found = json.loads((sgr_study.RESULTS / 'sgr_holding.json').read_text())
  page = (sgr_study.DOCS / 'sgr.md').read_text()
  for scale in (0.7, 1.5):
    for rule in ('sgr', 'random'):
      held = [str(row['held']) for row in found['rows']
              if (row['scale'], row['rule']) == (scale, rule)]
      assert len(held) == 4 and f'| {rule} | {" | ".join(held)} |' in page
