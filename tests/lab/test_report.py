"""The report holds everything itself: tables, figures, no address to load."""

import collections
import dataclasses
import html.parser
import io
import math
import re
import shlex

import numpy as np
import pytest
from matplotlib import rc_context
from rich import console

from gradnorm_optax.lab.objective.quality import ACCURACY
from gradnorm_optax.lab.reporting import (
  alt_texts,
  block_figures,
  canvas,
  figures,
  page as report,
  run_figures,
  terminal,
)
from gradnorm_optax.lab.results import results_file as finished_lib


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
      ref.startswith(('#', 'data:image/png;base64,')) or ref == 'data:,'
      for ref in read.refs)
  assert not re.search(r'@import|url\((?!#)', page)
  assert set(re.findall(r'https?://[\w./#-]+', page)) <= {
      'http://www.w3.org/2000/svg', 'http://www.w3.org/1999/xlink',
      'http://www.w3.org/1999/02/22-rdf-syntax-ns#',
      'http://purl.org/dc/elements/1.1/', 'http://creativecommons.org/ns#',
      'http://purl.org/dc/dcmitype/StillImage'}


def test_holds_tables_figures_and_their_words(page, finished):
  read = Page(page)
  # Curves, sensitivity, norms and entries of the one model.
  assert read.tags['svg'] == 4 and read.tags['table'] in (5, 6)
  assert read.open == []
  assert len(read.ids) == len(set(read.ids))
  labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
  assert len(labels) == 4
  for row in finished[1].summary.rows:
    assert all(row.method in label for label in labels)
    assert ACCURACY.show(row.score.mean) in ''.join(read.text)
  # A picture's own figures: at every rate, not only at the one that was chosen.
  _, sensitivity, *_ = labels
  for row in finished[1].summary.rows:
    for point in row.sensitivity:
      assert f'{ACCURACY.figure(point.score)} at {point.rate:g}' in sensitivity
  assert 'prefers-color-scheme: dark' in page and '@media print' in page
  assert report.INK not in page and 'currentColor' in page
  assert f'gradnorm compare {finished[1].folder}/config.toml --out' in page


def test_rows_that_do_not_train_and_names_that_need_escaping(finished):
  done = finished[1]
  first, second = done.summary.rows
  lost = dataclasses.replace(
      first, method='a<b&c', trains=False, steps=math.inf, edge=False)
  summary = dataclasses.replace(
      done.summary, title='x < y', rows=(lost, second))
  text = report.render(
      finished_lib.read(done.folder)._replace(summary=summary), done.looks)
  assert 'does not train' in text and 'x &lt; y' in text
  assert 'a&lt;b&amp;c' in text and 'a<b' not in text


def test_brackets_are_no_markup(finished):
  done = finished[1]
  lost = done.summary.rows[0].runs[0]._replace(diverged=True)
  rows = tuple(dataclasses.replace(
      row, model='net [kg]', method='adam [b1]', runs=(lost,))
      for row in done.summary.rows)
  summary = dataclasses.replace(done.summary, rows=rows)
  screen = console.Console(width=200, file=io.StringIO())
  screen.print(terminal.render(summary))
  shown = screen.file.getvalue()
  assert 'net [kg]' in shown and 'adam [b1]' in shown and '[95%]' in shown
  # What it says can be pasted into a shell.
  words = shlex.split(summary.diagnosis)
  assert 'run.method=adam [b1]' in words and 'run.model=net [kg]' in words
  assert canvas.stems(['deep/net [kg]']) == {
      'deep/net [kg]': 'deep_net__kg_'}


def test_norms_are_kept_and_shown(finished):
  first, second = finished[1].looks
  assert (first.method, second.method) == ('momentum', 'clip_momentum')
  np.testing.assert_array_equal(first.gradient, first.after)
  # Clipped to norm 1 over both blocks, at the rate that was chosen.
  whole = np.sqrt((second.after ** 2).sum(axis=1))
  want = np.minimum(1, np.sqrt((second.gradient ** 2).sum(axis=1)))
  np.testing.assert_allclose(whole, want, rtol=1e-4)
  assert first.gradient.shape == (20, 2) and first.steps[-1] == 20
  picture = block_figures.norms(finished[1].looks)
  # Two methods in three panels each, and two scales.
  assert len(picture.axes) == 2 * 3 + 2
  titles = [axis.get_title() for axis in picture.axes]
  assert 'clip_momentum: update / parameters' in titles
  assert alt_texts.spread(first.gradient) in alt_texts.describe(
      'norms-small', finished[1].summary, finished[1].looks, {})


def test_gradient_through_time(finished):
  done = finished[1]
  profiles = {'srn': {'adam': {10: [-6.0, -3.0, 0.0], 20: [None, -1.0, 0.5]},
                      'bng<': {10: [-1.0, -0.5, 0.0]}}}
  picture = run_figures.through_time(profiles['srn'])
  adam, bng = picture.axes
  assert [len(axis.lines) for axis in (adam, bng)] == [2, 1]
  np.testing.assert_array_equal(adam.lines[1].get_ydata(), [np.nan, -1.0, 0.5])
  np.testing.assert_array_equal(adam.lines[0].get_xdata(), [1, 2, 3])
  # One moment, one colour, in every panel.
  assert adam.lines[0].get_color() is not None and np.array_equal(
      adam.lines[0].get_color(), bng.lines[0].get_color())
  text = report.render(finished_lib.read(done.folder), (), profiles)
  assert ('adam, after step 20: 10^-1 at step 2 of the sequence, 10^0.5 at '
          'step 3') in text
  assert 'bng&lt;, after step 10' in text and 'The gradient through' in text


def test_names_of_any_script_keep_their_figures_apart(finished):
  """Warnings are errors here: no font that lacks a glyph is complained of."""
  done = finished[1]
  names = ['net 1', 'net_1', '\u7f51\u7edc']
  rows = tuple(dataclasses.replace(row, model=name)
               for name in names for row in done.summary.rows)
  looks = [dataclasses.replace(look, model=name)
           for name in names for look in done.looks]
  summary = dataclasses.replace(done.summary, rows=rows)
  with rc_context({'svg.fonttype': 'none'}):
    found = dict(canvas.images(figures.draw(summary, looks)))
    text = report.render(finished_lib.read(done.folder)._replace(
        summary=summary), looks)
  assert {'norms-net_1.svg', 'norms-net_1-2.svg', 'norms-\u7f51\u7edc.png'} <= (
      set(found))
  assert names[2].encode() in found['curves.svg']
  page = Page(text)
  assert len(page.ids) == len(set(page.ids))
