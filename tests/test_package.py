"""What is said of the package in several files is the same in all of them."""

import pathlib
import tomllib

import yaml

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']


def test_citation_and_changelog_know_the_version():
  citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
  assert citation['version'] == PROJECT['version']
  assert citation['repository-code'] == PROJECT['urls']['Repository']
  changes = (ROOT / 'CHANGELOG.md').read_text()
  assert f'## {PROJECT["version"]} - ' in changes


def test_every_paper_is_cited_in_both_forms():
  citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
  bibtex = (ROOT / 'docs' / 'citing.md').read_text()
  readme = (ROOT / 'README.md').read_text()
  assert len(citation['references']) == 5
  for paper in citation['references']:
    number = paper['url'].removeprefix('https://arxiv.org/abs/')
    assert number in readme
    entry = next(part for part in bibtex.split('@')
                 if f'year = {{{paper["year"]}}}' in part
                 and paper['authors'][0]['family-names'] in part)
    assert all(author['family-names'] in entry for author in paper['authors'])


def test_the_badges_of_pythons_are_those_that_run():
  told = [word.rpartition(' ')[2] for word in PROJECT['classifiers']
          if word.startswith('Programming Language :: Python :: 3.')]
  assert PROJECT['requires-python'] == f'>={told[0]}'
