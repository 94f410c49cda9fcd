"""The page of the study says what the kept results say."""

import json

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
      assert f'{100 * row["score"]["mean"]:.1f} [' in page


def test_figures_of_the_page_exist():
  for line in (sgr_study.DOCS / 'sgr_study.md').read_text().splitlines():
    if line.startswith('!['):
      file = line[line.index('(') + 1:-1]
      assert (sgr_study.DOCS / file).read_text().startswith('<?xml')
