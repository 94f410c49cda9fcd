"""The page of evidence says what the results say, and all claims can be run."""

import json
import math

import pytest

from benchmarks import evidence_page
from benchmarks.evidence import (
  command,
  figures,
  keep,
  page,
  registry,
  results,
  verdicts,
)
from gradnorm_optax import lab

CLAIMS = registry.read()


def test_the_page_is_what_the_results_say():
  assert evidence_page.PAGE.read_text() == evidence_page.text()


def test_what_is_quoted_elsewhere_is_what_the_results_say():
  found = evidence_page.quotes()
  assert any('<!-- claim ' in text for text in found.values())
  for path, text in found.items():
    assert path.read_text() == text, path


def test_there_are_claims_and_each_can_be_run():
  assert len(CLAIMS) >= 25
  configs = {path.stem: lab.load(path)
             for path in command.CONFIGS.glob('*.toml')}
  for claim in CLAIMS:
    assert claim.study in command.known(), claim.id
    if claim.study in configs and claim.against != 'best baseline':
      config = configs[claim.study]
      assert not (set(_names(claim)) - {
          f'{model}/{method}' for model in config.models
          for method in config.methods_on(model)}), claim.id
      part = command.part(config, claim)
      # A part of the whole: its trials are the same.
      assert {f'{model}/{method}' for model in part.models
              for method in part.methods_on(model)} >= set(_names(claim))
    assert claim.measure != 'rates' or not configs[claim.study].compare.halving


def _names(claim):
  return [name for side in (claim.treated, claim.against)
          for name in ((side,) if isinstance(side, str) else side)]


def test_searches_of_a_comparison_are_equal_and_its_file_small():
  found = {name: study for name, study in results.read().items() if study.lab}
  assert found
  for name, study in found.items():
    assert (results.FOLDER / f'{name}.json').stat().st_size < 200_000, name
    for model in {row.split('/')[0] for row in study.rows}:
      assert len({row.kept['searched'] for key, row in study.rows.items()
                  if key.startswith(f'{model}/')}) == 1, name


CONFIG = {
    'name': 'tiny', 'models': {'mlp': {'kind': 'mlp', 'depth': 1, 'width': 8}},
    'train': {'steps': 20, 'eval_every': 10},
    'compare': {'learning_rates': [1e-3, 1e-2, 1e-1], 'seeds': 5, 'look': 0,
                'timing_rounds': 2},
    'methods': {'adam': {'optimizer': 'adam'},
                'bng': {'optimizer': 'adam', 'normalize': 'bng'}}}


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs')
  found = lab.compare(CONFIG, out=folder / 'tiny', quiet=True)
  path = folder / 'kept' / 'tiny.json'
  command.write(path, keep.study(folder / 'tiny'))
  return found.summary, results.read(path.parent)['tiny']


def test_what_is_kept_is_what_the_lab_found(tiny):
  summary, study = tiny
  row, = (row for row in summary.rows if row.method == 'bng')
  claim = registry.Claim(
      id='tiny', method='BNG', page='block_norm.md', words='helps', net='a net',
      what='BNG', setting='digits', study='tiny', treated='mlp/bng',
      against='best baseline', measure='test', claim='more', size=1)
  verdict = verdicts.judge(claim, study)
  assert verdict.effect.interval == pytest.approx(
      [100 * value for value in row.difference], rel=1e-3)
  assert study.rows['mlp/bng'].kept['test'] == pytest.approx(
      [run.test_score for run in row.runs], rel=1e-4)
  assert set(study.rows['mlp/bng'].kept['tuned']) == {'0.001', '0.01', '0.1'}
  text = page.page([claim], {'tiny': study})
  assert f'| **{verdict.kind}**' in text
  assert f'| mlp, bng | {row.rate:g} (3)' in text
  assert json.dumps(study.kept, allow_nan=False)


def test_what_is_not_run_is_said(tiny):
  claim = CLAIMS[0]
  text = page.page([claim], {})
  assert '**not decided**: not run' in text
  assert 'by how much:**\n\n- nothing\n' in text


def test_figures_show_the_rows(tiny, tmp_path, monkeypatch):
  _, study = tiny
  rows = ('mlp/adam', 'mlp/bng')
  kinds = sorted(figures.PANELS)
  monkeypatch.setattr(figures, 'FIGURES', (figures.Figure(
      'BNG', 'tiny.svg', 'a', 'c', tuple(
          ('tiny', kind, rows, kind) for kind in kinds)), figures.Figure(
              'BNG', 'other.svg', 'a', 'c', (('tiny', '', ('mlp/x',),
                                              'scores'),))))
  figures.draw({'tiny': study}, tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ['tiny.svg']
  text = (tmp_path / 'tiny.svg').read_text()
  assert all(word in text for word in (*kinds, 'bng', 'learning rate'))


def test_durations():
  assert [command.time_of(minutes) for minutes in (0.2, 7.4, math.nan)] == [
      '1 min', '7 min', '?']
