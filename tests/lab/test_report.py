"""The report holds everything itself: tables, figures, no address to load."""

import collections
import dataclasses
import html.parser
import math
import re

import pytest

from gradnorm_optax.lab import report
from gradnorm_optax.lab.objective import ACCURACY


class Page(html.parser.HTMLParser):
  """Tags, identifiers, references and text of a page."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.ids, self.refs = collections.Counter(), [], []
    self.open, self.text = [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags[tag] += 1
    if tag not in ('meta', 'link', 'br', 'input', 'path', 'use'):
      self.open.append(tag)
    for name, value in attrs:
      if name == 'id':
        self.ids.append(value)
      if name in ('src', 'href', 'xlink:href', 'srcset', 'action'):
        self.refs.append(value)

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    if self.open and self.open[-1] == tag:
      self.open.pop()

  def handle_endtag(self, tag):
    if tag in self.open:
      while self.open.pop() != tag:
        pass

  def handle_data(self, data):
    self.text.append(data)


@pytest.fixture(scope='module')
def page(finished):
  return (finished[1].folder / 'report.html').read_text()


def test_loads_nothing(page):
  read = Page(page)
  assert read.refs and all(
      ref.startswith('#') or ref == 'data:,' for ref in read.refs)
  assert not re.search(r'@import|url\((?!#)', page)
  assert set(re.findall(r'https?://[\w./#-]+', page)) <= {
      'http://www.w3.org/2000/svg', 'http://www.w3.org/1999/xlink',
      'http://www.w3.org/1999/02/22-rdf-syntax-ns#',
      'http://purl.org/dc/elements/1.1/', 'http://creativecommons.org/ns#',
      'http://purl.org/dc/dcmitype/StillImage'}


def test_holds_tables_figures_and_their_words(page, finished):
  read = Page(page)
  assert read.tags['table'] == 2 and read.tags['svg'] == 2
  assert read.open == []
  assert len(read.ids) == len(set(read.ids))
  labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
  assert len(labels) == 2
  for row in finished[1].summary.rows:
    assert all(row.method in label for label in labels)
    assert ACCURACY.show(row.score.mean) in ''.join(read.text)
  assert 'prefers-color-scheme: dark' in page and '@media print' in page
  assert report.INK not in page and 'currentColor' in page
  assert 'gradnorm compare run/config.toml' in page


def test_rows_that_do_not_train_and_names_that_need_escaping(finished):
  done = finished[1]
  first, second = done.summary.rows
  lost = dataclasses.replace(
      first, method='a<b&c', trains=False, steps=math.inf, edge=False)
  summary = dataclasses.replace(
      done.summary, title='x < y', rows=(lost, second))
  text = report.build(done._replace(summary=summary))
  assert 'does not train' in text and 'x &lt; y' in text
  assert 'a&lt;b&amp;c' in text and 'a<b' not in text
