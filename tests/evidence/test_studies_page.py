"""docs/studies.md says what the results say."""

import numpy as np
import pytest

from benchmarks.evidence.studies import page, tables


def test_the_page_is_what_the_results_say():
  studies = page.kept()
  assert page.PAGE.read_text() == page.page(studies)
  for name, section in page.SECTIONS.items():
    for label in section.pictures:
      path = page.DOCS / 'figures' / page._file(name, label)
      assert path.exists() == (name in studies), path


def study(values, higher=True, name='dqn', **settings):
  return {
      'study': name, 'higher': higher, 'settings': settings, 'trials': [
          {'arm': arm, 'phase': 'final', 'seed': 1000 + i, 'rate': 0.1,
           'value': value, 'extra': {}}
          for arm, row in values.items() for i, value in enumerate(row)]}


def test_gains_are_paired_and_a_diverged_run_is_the_worst():
  kept = study({'plain': [1.0, 2.0, 4.0], 'a': [2.0, 3.0, None]})
  np.testing.assert_array_equal(tables.values(kept, 'a'), [2, 3, 1])
  found = tables.gain(kept, 'a', 'plain')
  assert found.mean == pytest.approx((1 + 1 - 3) / 3)
  # Student's, with two degrees of freedom.
  half = 4.302653 * np.std([1, 1, -3], ddof=1) / np.sqrt(3)
  assert found.high - found.mean == pytest.approx(half, rel=1e-5)
  assert tables.word(found) == 'no difference shown'
  fewer = study({'every_1': [1.0, 2.0, 3.0], 'b': [0.5, 1.5, 2.4]}, False,
                'path_refresh')
  assert tables.word(tables.gain(fewer, 'b', 'every_1')) == 'better'
  assert tables.word(tables.gain(fewer, 'every_1', 'b')) == 'worse'


@pytest.mark.parametrize(('ours', 'word'), [
    ([0.45, 0.46, 0.44], 'is reached'),
    ([0.26, 0.25, 0.26], 'is not reached'),
    ([0.25, 0.25, 0.95], 'is neither reached nor excluded')])
def test_the_gain_of_the_paper_is_judged_by_its_interval(ours, word):
  kept = study({'random': [0.25, 0.25, 0.25], 'low_2.5': ours}, name='sgr',
               task='temporal_order', held_out=500)
  text = tables.learned(kept)
  assert f'reports {word} here' in text
  assert f'low_2.5: {sum(v > 0.31 for v in ours)} of 3 starts' in text
