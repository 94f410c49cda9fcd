"""The report holds everything itself: tables, figures, no address to load."""

import collections
import dataclasses
import html.parser
import io
import math
import re
import shlex
import tomllib

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.text import Text
from rich import console

from gradnorm_optax.lab.objective.quality import ACCURACY
from gradnorm_optax.lab.reporting import (
  alt_texts,
  block_figures,
  canvas,
  columns,
  figures,
  page as report,
  run_figures,
  score_panels,
  terminal,
)
from gradnorm_optax.lab.results import results_file as finished_lib
from gradnorm_optax.lab.results.findings import Point
from gradnorm_optax.lab.results.stats import Interval
from gradnorm_optax.lab.schema import toml


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
  # Of the one model the scores, then curves, sensitivity, norms and entries of
  # two methods, and two scales of colours.
  assert read.tags['svg'] == 1 + 2 * 4 + 2 and read.tags['table'] in (5, 6)
  assert read.open == []
  assert len(read.ids) == len(set(read.ids))
  labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
  assert len(labels) == read.tags['svg']
  for row in finished[1].summary.rows:
    assert ACCURACY.show(row.score.mean) in ''.join(read.text)
    assert f'{row.method} {ACCURACY.figure(row.score.mean)}' in labels[0]
    curves, rates, *_ = own = [
        label for label in labels[1:] if f' {row.method}. ' in label]
    assert len(own) == 4
    assert f'accuracy {ACCURACY.figure(row.validation)} at the end' in curves
    # At every rate, not only at the one that was chosen.
    for point in row.sensitivity:
      assert f'{ACCURACY.figure(point.score)} at {point.rate:g}' in rates
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
  # All steps were looked at, so that what was clipped is known.
  assert first.clipped is None and second.clipped == pytest.approx(
      np.mean(np.sqrt((second.gradient ** 2).sum(axis=1)) > 1))
  picture = block_figures.norms(finished[1].looks)
  # Two methods in three panels each, and two scales.
  assert len(picture.axes) == 2 * 3 + 2
  assert [axis.get_title() for axis in picture.axes[2:]] == [
      'gradient', 'at moments', 'update'] * 2
  assert [text.get_text() for text in picture.texts[2:]] == [
      'momentum', 'clip_momentum']
  assert f'gradient {alt_texts.spread(first.gradient)}' in alt_texts.norms(
      first)


def _lines(axis, style):
  return [line for line in axis.lines if line.get_linestyle() == style]


def test_curves_show_every_run_and_both_losses(finished):
  found = finished[1].summary
  row = found.rows[0]
  panel = score_panels.curves(found).panels[0]
  above, below = panel.alone().axes
  own = [line for line in above.lines
         if line.get_color() == score_panels.OWN]
  assert [list(line.get_ydata()) for line in own[:-1]] == [
      [100 * score for score in run.curve] for run in row.runs]
  np.testing.assert_allclose(own[-1].get_ydata(), 100 * np.mean(
      [run.curve for run in row.runs], axis=0))
  dashed, = _lines(below, '--')
  assert dashed.get_ydata()[-1] == pytest.approx(row.train_loss)
  validation = below.lines[-1].get_ydata()
  assert validation[-1] == pytest.approx(
      np.mean([run.final_loss for run in row.runs]))
  # The other method is seen behind, on both axes.
  for axis in (above, below):
    assert [line.get_color() for line in axis.lines][0] == score_panels.OTHERS


@pytest.mark.parametrize(('ends', 'low', 'high'), [
    ((0.88, 0.93), 80, 97), ((0.15, 0.9), 5, 100)])
def test_axes_show_how_scores_differ(finished, ends, low, high):
  """Not from 0 to 100 where all lie between 88 and 93; guessing is told."""
  found = finished[1].summary
  rows = tuple(dataclasses.replace(
      row, trains=True, score=Interval(end, end - 0.01, end + 0.01),
      runs=tuple(run._replace(
          curve=(0.1, *[end] * 19), test_score=end, losses=(2.0, *[end] * 19))
                 for run in row.runs), sensitivity=(Point(0.1, end, 0),))
      for row, end in zip(found.rows, ends, strict=True))
  found = dataclasses.replace(found, rows=rows, every=1, chance=0.1)
  for sheet in (score_panels.scores(found), score_panels.curves(found),
                score_panels.sensitivity(found)):
    axis = sheet.panels[0].alone().axes[0]
    shown = axis.get_xlim() if 'Final' in sheet.heading else axis.get_ylim()
    assert low <= shown[0] < 100 * ends[0] < 100 * ends[1] < shown[1] <= high
    told = sheet.caption + ' '.join(sheet.notes.values())
    assert ('10.0%, lies below' in told) == (shown[0] > 10)


def test_letters_are_large_enough_on_a_telephone(finished):
  """Panels fit 358 pixels, one or two side by side, with 11 pixels or more."""
  done = finished[1]
  for sheet in figures.sheets(done.summary, done.looks).values():
    for panel in (*sheet.scales, *sheet.panels):
      assert 96 * panel.width <= 350
      with figures.inked('black'):
        picture = panel.alone()
      picture.draw_without_rendering()
      letters = [text for text in picture.findobj(Text)
                 if text.get_text() and text.get_visible()]
      assert letters
      assert min(text.get_fontsize() for text in letters) * 96 / 72 >= 11
      for axis in picture.axes:
        box = axis.get_tightbbox()
        assert box.x0 > -1 and box.x1 < picture.bbox.width + 1, panel.title


def test_columns_have_one_number_of_decimals(finished):
  found = finished[1].summary
  row = found.rows[0]
  rows = [dataclasses.replace(
      row, method=name, trains=True, rate=rate, steps=steps, seconds=seconds,
      reached=1, seeds=2, score=Interval(score, score - 0.01, score + 0.05))
      for name, rate, steps, seconds, score in (
          ('a', 0.0005, 350.0, 0.166, 0.09), ('b', 0.05, 50.0, 0.0338, 0.9))]
  made = {column.name: column for column in columns.columns(found, rows)}
  shown = {name: [cell.text for cell in column.cells]
           for name, column in made.items()}
  assert shown['rate'] == ['0.0005', '0.0500']
  assert shown['in s'] == ['0.166', '0.034']
  assert shown['test accuracy %'] == ['\u20079.0', '90.0']
  assert made['test accuracy %'].cells[0].soft == ' [\u20078.0, 14.0]'
  assert made['30% at step'].room == ' (1/2)'


def test_own_keys_make_the_same_configuration(finished):
  config = finished[1].config
  text = toml.own(config)
  assert toml.parse(tomllib.loads(text)) == config
  assert 'steps = 20' in text and 'look' not in text and 'null' not in text


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
  assert ('adam. after step 20: 10^-1 at step 2 of the sequence, 10^0.5 at '
          'step 3') in text
  assert 'bng&lt;. after step 10' in text and 'The gradient through' in text


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
