"""The page of costs says what the results say."""

import json

from benchmarks import cost_page


def test_the_page_is_what_the_results_say():
  assert cost_page.PAGE.read_text() == cost_page.page(
      json.loads(cost_page.RESULTS.read_text()))


def test_each_figure_stands_by_its_floor():
  row = lambda m: {'median': m, 'low': m - 0.1, 'high': m + 0.1}  # noqa: E731
  text = cost_page.page({
      'date': '2026-01-01', 'jax': '1', 'optax': '2',
      'mlp': {'adamw': {'time': row(1.0), 'words': 10.0},
              'bng + adamw': {'time': row(1.3), 'words': 12.0},
              cost_page.ONE: {'time': row(1.2), 'words': 11.0}},
      'compile seconds': {'400': {'adamw': 2.0, 'sing': 5.0}}})
  assert ('| bng + adamw | 1.30 (1.20, 1.40) | 1.20 (1.10, 1.30) | 12.0 |'
          in text)
  assert '| sing | 5.0 | 2.50 |' in text
