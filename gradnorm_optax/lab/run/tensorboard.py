"""TensorBoard's event files, whole whenever a run was killed."""

import contextlib
import os
import pathlib
import time
from typing import Any

import numpy as np

from gradnorm_optax.lab.results.look import QUANTILES, Look
from gradnorm_optax.lab.support import files
from gradnorm_optax.lab.support.jsonl import KEPT


class Board:
  """TensorBoard's events, one for each row; none without tensorboardX.

  tensorboardX's own `SummaryWriter` hands events to a thread, which loses the
  last of them to a kill and, once its disk is full, blocks the run for good.
  Here every row is on the disk before the checkpoint that follows it. Each
  start opens a file whose first event tells TensorBoard to forget the steps
  that are trained again.
  """

  def __init__(self, folder: pathlib.Path, step: int):
    """Opens a new file of events after `step`."""
    self._folder = folder
    self._writer: Any = None
    try:
      from tensorboardX import event_file_writer
      from tensorboardX.proto import event_pb2
    except ImportError:
      return
    self._event = event_pb2.Event
    with files.disk(folder, KEPT):
      folder.mkdir(parents=True, exist_ok=True)
      # Two starts within a second must not share a name.
      self._writer = event_file_writer.EventsWriter(
          str(folder / 'events'), f'.{step:09d}.{os.getpid()}')
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._write(step=step + 1 if step else 0, session_log=start)

  def add(self, row: dict[str, Any]) -> None:
    """Writes the figures of a row, under one step."""
    if self._writer is None:
      return
    from tensorboardX.proto import summary_pb2
    values = [summary_pb2.Summary.Value(tag=name, simple_value=value)
              for name, value in row.items()
              if name != 'step' and value is not None]
    with files.disk(self._folder, KEPT):
      self._write(step=row['step'], summary=summary_pb2.Summary(value=values))

  def add_look(self, step: int, look: Look) -> None:
    """Writes norms of the blocks and histograms of their entries' sizes.

    The histograms are of log10 of what is not zero, from the quantiles that a
    look keeps: TensorBoard's "distributions" shows these very quantiles.
    """
    if self._writer is None:
      return
    from tensorboardX.proto import summary_pb2
    values = []
    for i, block in enumerate(look.blocks):
      for tag, norms in (('gradient', look.gradient),
                         ('at_moments', look.after),
                         ('update_over_parameters', look.ratio)):
        if np.isfinite(norms[-1, i]):
          values.append(summary_pb2.Summary.Value(
              tag=f'{tag}/{block}', simple_value=norms[-1, i]))
      for tag, sizes in (('entries_of_gradient', look.before),
                         ('entries_at_moments', look.reached)):
        if (found := _histogram(sizes[-1, i, :-1])) is not None:
          values.append(summary_pb2.Summary.Value(
              tag=f'{tag}_log10/{block}', histo=found))
    with files.disk(self._folder, KEPT):
      self._write(step=step, summary=summary_pb2.Summary(value=values))

  def add_watched(self, step: int, watched: dict[str, Any]) -> None:
    """Writes the last readings, and how many were out of range so far.

    The tags are those of `gn.telemetry_scalars`.
    """
    self.add({'step': step} | {
        f'{field}/{name}/{block}': value
        for name in ('gradient', 'update')
        for field in ('reading', 'below', 'above')
        for block, value in zip(
            watched['blocks'], watched[name][field], strict=True)})

  def _write(self, **content: Any) -> None:
    self._writer.write_event(self._event(wall_time=time.time(), **content))
    self._writer.flush()

  def close(self) -> None:
    """Gives the file free; what `add` took is written already."""
    if self._writer is not None:
      with contextlib.suppress(OSError):  # a buffer that found the disk full
        self._writer.close()


def _histogram(sizes: np.ndarray) -> Any:
  """TensorBoard's histogram of sizes whose quantiles `QUANTILES` are given."""
  from tensorboardX.proto import summary_pb2
  if not (np.isfinite(sizes).all() and sizes[-1] > 0):
    return None
  ends = np.log10(sizes)
  shares = 100 * np.diff(QUANTILES)
  middles = (ends[1:] + ends[:-1]) / 2
  # Quantiles that coincide are one bucket; the first holds nothing.
  limits, place = np.unique(ends, return_inverse=True)
  counts = np.bincount(place[1:], shares, len(limits))
  return summary_pb2.HistogramProto(
      min=ends[0], max=ends[-1], num=shares.sum(), sum=shares @ middles,
      sum_squares=shares @ middles**2, bucket_limit=limits, bucket=counts)
