"""Methods that run on some of the models alone."""

import io

import pytest
from rich import console

from gradnorm_optax import lab
from gradnorm_optax.lab.schema import toml
from gradnorm_optax.lab.support.errors import LabError

TABLES = {
    'name': 'some',
    'models': {
        'wide': {'kind': 'mlp', 'depth': 1, 'width': 16},
        'wide_deep': {'kind': 'mlp', 'depth': 2, 'width': 8},
        'other': {'kind': 'mlp', 'depth': 1, 'width': 4}},
    'methods': {
        'momentum': {'optimizer': 'momentum'},
        'bng': {'optimizer': 'momentum', 'normalize': 'bng',
                'models': ['wide*']},
        'adam': {'optimizer': 'adam', 'models': ['other']}},
    'train': {'steps': 4, 'eval_every': 2, 'batch_size': 16},
    'compare': {'learning_rates': [0.01, 0.1, 0.3], 'tune_seeds': 1,
                'seeds': 2, 'target': 0.1, 'workers': 1, 'timing_rounds': 2}}


def test_names_and_globs():
  found = toml.parse(TABLES)
  assert {name: list(found.methods_on(name)) for name in found.models} == {
      'wide': ['momentum', 'bng'], 'wide_deep': ['momentum', 'bng'],
      'other': ['momentum', 'adam']}


def changed(**methods):
  return {**TABLES, 'methods': methods}


def test_mistakes_are_named():
  with pytest.raises(LabError, match="'wide_dep'.*wide_deep"):
    toml.parse(changed(momentum={
        'optimizer': 'momentum', 'models': ['wide_dep']}))
  with pytest.raises(LabError, match='models.other: no method runs on it'):
    toml.parse(changed(momentum={
        'optimizer': 'momentum', 'models': ['w*']}))


def test_a_comparison_runs_them_there_alone(tmp_path):
  models = {name: TABLES['models'][name] for name in ('wide', 'other')}
  tables = {**TABLES, 'models': models,
            'compare': {**TABLES['compare'], 'baseline': 'adam'}}
  found = lab.compare(toml.parse(tables), out=tmp_path / 'run', quiet=True)
  rows = [(row.model, row.method) for row in found.summary.rows]
  assert rows == [('wide', 'momentum'), ('wide', 'bng'),
                  ('other', 'momentum'), ('other', 'adam')]
  # The named baseline is missing on one of them, which says so.
  assert [(v.model, v.kind) for v in found.summary.verdicts] == [
      ('wide', 'void'), ('other', 'void')]
  assert (tmp_path / 'run' / 'report.html').exists()
  pictures = found.plot()
  assert set(pictures) == {
      'curves', 'scores', 'sensitivity', *(f'{kind}-{model}' for kind in (
          'norms', 'entries') for model in ('wide', 'other'))}
  shown = console.Console(width=200, record=True, file=io.StringIO())
  shown.print(found.table())
  assert [line.split()[0] for line in shown.export_text().splitlines()
          if line.partition(' ')[0] in TABLES['methods']] == [
              'momentum', 'bng', 'momentum', 'adam']
  # Widening `models` keeps the finished trials.
  lines = (tmp_path / 'run' / 'trials.jsonl').read_text().count('\n')
  tables['methods'] = {**TABLES['methods'], 'adam': {'optimizer': 'adam'}}
  lab.compare(toml.parse(tables), out=tmp_path / 'run', quiet=True)
  more = (tmp_path / 'run' / 'trials.jsonl').read_text().count('\n')
  # Trials and a look of one model, and its new timing.
  assert more == lines + (3 + 2 + 1) + 1
