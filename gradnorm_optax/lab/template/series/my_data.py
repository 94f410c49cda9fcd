"""Your data: series of numbers and their classes. Here from a long table."""

import collections
import csv
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent


def load(file):
  """Returns (inputs, labels): an array (steps, channels) for each series.

  NaN marks a missing value. Series may be of unequal length: then the model
  must take `lengths`, and SGR is not for them.
  """
  series, kinds = collections.defaultdict(list), {}
  with (HERE / file).open(newline='', encoding='utf-8') as table:
    for row in csv.DictReader(table):
      series[row['id']].append(
          [float(row[name] or 'nan') for name in ('force', 'speed')])
      kinds[row['id']] = row['kind']
  return [np.array(one) for one in series.values()], list(kinds.values())


def new():
  """New series, for gradnorm predict RUN my_data:new; labels do not count."""
  return load('new.csv')
