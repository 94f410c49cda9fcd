"""The page of costs says what the results say."""

import json

from benchmarks import cost_page


def test_the_page_is_what_the_results_say():
  assert cost_page.PAGE.read_text() == cost_page.page(
      json.loads(cost_page.RESULTS.read_text()))


MADE = {'date': '2026-01-01', 'processor': 'one', 'machine': {'cores': 2},
        'versions': {'jax': '1', 'optax': '2'}}


def test_each_figure_stands_by_its_floor():
  row = lambda m: {'median': m, 'low': m - 0.1, 'high': m + 0.1}  # noqa: E731
  part = lambda rows, **made: {  # noqa: E731
      'rows': rows, 'made': MADE | made}
  text = cost_page.page({
      'mlp': part({
          'adamw': {'time': row(1.0), 'words': 10.0},
          'bng + adamw': {'time': row(1.3), 'words': 12.0},
          cost_page.ONE: {'time': row(1.2), 'words': 11.0}}),
      'training': part({'adamw': {'time': row(1.0), 'scratch MiB': 20.4}}),
      '400': part({'adamw': {'compile seconds': 2.0},
                   'sing': {'compile seconds': 5.0}}, processor='another')})
  assert ('| bng + adamw | 1.30 (1.20, 1.40) | 1.20 (1.10, 1.30) | 12.0 | 8 |'
          in text)
  assert '| adamw | 1.00 (0.90, 1.10) |  | 20 |' in text
  assert '| sing | 5.0 | 2.50 |' in text
  assert text.count('Measured 2026-01-01') == 2  # the second elsewhere
