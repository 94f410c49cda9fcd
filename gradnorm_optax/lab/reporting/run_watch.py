"""A run on a terminal: figures, speed, blocks out of range, advice."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import table, text

from gradnorm_optax.lab.reporting.terminal import Page
from gradnorm_optax.lab.reporting.units import duration
from gradnorm_optax.lab.results.alerts import Alert

BARS = '\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588'
WIDTH = 40  # of a sparkline
MOST = 12  # lines of blocks
UNSEEN = ('blocks are not watched here: every = 0 in [run.watch], or a run of '
          'an earlier version')
STYLES = {'running': 'green', 'finished': 'bold green', 'diverged': 'red',
          'failed': 'red', 'killed': 'red', 'stopped': 'yellow'}


def spark(values: Sequence[float | None], width: int = WIDTH) -> str:
  """A line of bars, the lowest value to the highest; a dot where there is none.

  >>> spark([0.0, None, 7.0])
  '\u2581\u00b7\u2588'
  """
  count = min(width, len(values))
  parts = [[v for v in values[i * len(values) // count:
                              (i + 1) * len(values) // count]
            if v is not None and math.isfinite(v)] for i in range(count)]
  means = [sum(part) / len(part) if part else None for part in parts]
  known = [mean for mean in means if mean is not None]
  low, high = min(known, default=0.0), max(known, default=0.0)
  step = (high - low) / (len(BARS) - 1) or 1.0
  return ''.join('\u00b7' if mean is None else BARS[round((mean - low) / step)]
                 for mean in means)


def line(row: Mapping[str, Any], steps: int) -> str:
  """The figures of an evaluation in a line.

  >>> line({'step': 50, 'loss': 0.25, 'validation_score': None}, 100)
  'step 50/100 loss 0.25'
  """
  shown = (('loss', 'loss'), ('validation loss', 'validation_loss'),
           ('score', 'validation_score'), ('gradient', 'gradient_norm'))
  return f'step {row["step"]}/{steps} ' + ' '.join(
      f'{label} {row[name]:.4g}' for label, name in shown
      if row.get(name) is not None)


def clock(seconds: float | None, step: int, steps: int) -> str:
  """The speed, and what is left at it.

  >>> clock(0.002, 400, 1000)
  '2 ms a step, 1.2 s left'
  """
  if not seconds:
    return ''
  left = (steps - step) * seconds
  return f'{duration(seconds)} a step' + (
      f', {duration(left)} left' if left else '')


def shares(clipped: float | None, skipped: float | None, noise: float,
           batch: int) -> list[str]:
  """Steps clipped and skipped, and the noise scale, in words.

  >>> shares(0.25, None, 3200.0, 32)
  ['25% of the steps clipped', 'noise scale about 3200 examples, batch 32: \
mostly noise; a larger batch_size pays']
  """
  found = []
  if clipped is not None:
    found.append(f'{clipped:.2g} of the steps clipped' if 0 < clipped < 0.005
                 else f'{clipped:.0%} of the steps clipped')
  if clipped is not None and clipped > 0.5:
    found[-1] += ': clip acts as a learning rate; raise it, or lower the rate'
  if skipped is not None:
    found.append(f'{skipped:.2g} of the steps skipped (not finite)'
                 if 0 < skipped < 0.005 else
                 f'{skipped:.0%} of the steps skipped (not finite)')
  if not math.isnan(noise):
    size = (f'about {noise:.2g}' if noise < 100 else f'about {noise:.0f}')
    told = 'larger than these batches can tell' if math.isinf(noise) else (
        f'{size} examples')
    found.append(f'noise scale {told}, batch {batch}{_batch(noise / batch)}')
  return found


def _batch(ratio: float) -> str:
  """What the noise scale says of the batch."""
  if ratio > 10:
    return ': mostly noise; a larger batch_size pays'
  return ': little noise; a smaller batch_size would do' if ratio < 0.1 else ''


def advice(alerts: Sequence[Alert],
           flags: Mapping[str, str]) -> list[tuple[str, str, bool]]:
  """What is wrong with which block: (block, words, whether it is so now).

  What a look at single steps says is added where no alert names the block.
  """
  named = {alert.block for alert in alerts}
  return [*((alert.block, alert.text, alert.now) for alert in alerts),
          *((block, f'in the last look: {flag}', True)
            for block, flag in flags.items() if block not in named)]


def render(run: Any) -> Page:
  """The whole page.

  Args:
    run: A `run.reading.Reading`.
  """
  head = text.Text()
  head.append(f'{run.folder}', style='bold')
  head.append(f'  {run.title}  ')
  head.append(run.state, style=STYLES.get(run.state, ''))
  head.append(f' step {run.step}/{run.steps}')
  told = clock(None if run.ended else run.seconds_per_step, run.step, run.steps)
  if told:
    head.append(f'  {told}', style='dim')
  parts: list[Any] = [head]
  if run.told:
    parts.append(text.Text(run.told, style=STYLES.get(run.state, '')))
  if run.rows:
    parts.append(_figures(run.rows))
  else:
    parts.append(text.Text('no figures yet: the first come after train.'
                           'eval_every steps'))
  if run.test:
    parts.append(text.Text(f'test {run.test[0]} {run.test[1]:.4g}, of the best '
                           'checkpoint'))
  parts += [text.Text(told) for told in shares(
      run.clipped, run.skipped, run.noise, run.batch)]
  return Page(*parts, *_blocks(run))


def _figures(rows: Sequence[Mapping[str, Any]]) -> table.Table:
  """The course of loss and score."""
  shown = table.Table(box=None, pad_edge=False, show_header=False)
  for label, name in (('loss', 'loss'), ('validation loss', 'validation_loss'),
                      ('validation score', 'validation_score'),
                      ('gradient norm', 'gradient_norm')):
    values = [row[name] for row in rows]
    last = values[-1]
    shown.add_row(label, spark(values), '-' if last is None else f'{last:.4g}')
  return shown


def _calm(high: Sequence[float | None]) -> str:
  """Says that nothing is wrong, or that nothing can be said yet."""
  return f'{len(high)} blocks watched' + (
      ', none out of range' if any(end is not None for end in high) else
      '; no range is known yet')


def _blocks(run: Any) -> list[Any]:
  """What is wrong with which block."""
  found = advice(run.alerts, run.flags)
  unseen = [text.Text(UNSEEN, style='dim')] if (
      run.rows and run.watched is None) else []
  if not found:
    return unseen if run.watched is None else [
        text.Text(_calm(run.watched['gradient']['high']), style='dim')]
  shown = table.Table(box=None, pad_edge=False, show_header=False)
  for block, words, now in found[:MOST]:
    style = 'red' if now else 'yellow'
    shown.add_row(text.Text(block, style=style), text.Text(words))
  more = [text.Text(f'and {len(found) - MOST} more', style='dim')] if (
      len(found) > MOST) else []
  return [*unseen, shown, *more]
