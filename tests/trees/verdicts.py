"""How many leaves blocks read rightly: `cd tests; python -m trees`."""

import gradnorm_optax as gn
from gradnorm_optax._places import places
from trees.leaf import nested


def judge(leaves, blocks):
  """{verdict: paths}: 'right', 'refused' where it says so, 'wrong'."""
  tree = nested(leaves)
  found = {place.path: place for place in places(blocks, tree, 'test').values()}
  verdicts = {'right': [], 'refused': [], 'wrong': []}
  for path, leaf in leaves.items():
    place = found[path]
    right = (sorted(place.stack) == sorted(leaf.stack)
             and place.fan_in == leaf.fan_in)
    verdicts['refused' if place.doubt else 'right' if right else 'wrong'
             ].append(path)
  return verdicts


def table(trees):
  """A Markdown table of right / refused / silently wrong, by tree."""
  rows = ['| tree | leaves | by default | with its preset |',
          '|---|---|---|---|']
  for name, (preset, leaves) in trees.items():
    counts = [' / '.join(str(len(paths)) for paths in judge(
        leaves, getattr(gn.Blocks, kind)()).values())
              for kind in ('flax', preset)]
    rows.append(f'| {name} | {len(leaves)} | {counts[0]} | {counts[1]} |')
  return '\n'.join(rows)
