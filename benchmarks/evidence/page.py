"""The words and tables of docs/evidence.md, from the results alone."""

import collections
import json
import math
import pathlib
from collections.abc import Iterable, Sequence

from benchmarks.evidence import command, effects, figures, verdicts
from benchmarks.evidence.registry import Claim
from benchmarks.evidence.results import Study
from benchmarks.evidence.verdicts import Verdict

OVERHEAD = pathlib.Path(__file__).parents[1] / 'results' / 'overhead.json'

HEAD = """# Evidence

<!-- Written by `python -m benchmarks evidence_page`; do not edit. -->

What each method does, measured by one protocol: search space, seeds and target
were committed before a study was run (`configs/evidence`); every method
searches as many learning rates; a best rate on an edge voids the row; the
rates are chosen on tuning seeds and a validation part, and judged on fresh
seeds, paired, and on examples that chose nothing. Sizes are those that two
cores train in minutes: this page decides about these nets, not about yours
(`gradnorm compare` does that)."""

SEEN = """What was known when this was written: the claims and their smallest
effects were put down after `bng_depth`, `path` and `wn_speed` had run and
before any other comparison had; of those three, one table (`bng_depth`, 12 and
18 layers) had been read. `path` left the claims about unbalanced starts
undecided (two tuning seeds, starts that differ much), so `path_unbalanced`
asks again with more seeds. Claims that rest on the studies of single questions
were put down while those ran, before any of their fresh seeds was read."""

AGAIN = """`python -m benchmarks evidence --row ID` measures one row anew and
judges it; the last column says how long that took on two cores that were
shared with other work (the trials of its rows, compilation apart; of studies
without a configuration the whole). `python -m benchmarks evidence NAME` runs a
whole study, `--list` lists them."""


def page(claims: Sequence[Claim], studies: dict[str, Study]) -> str:
  """Returns the page."""
  judged = [verdicts.judge(claim, studies.get(claim.study))
            for claim in claims]
  parts = [HEAD, counts(judged),
           '## For practitioners', advice(judged, studies), '## All claims',
           verdicts.RULE, SEEN, AGAIN,
           table(judged, studies)]
  for method in dict.fromkeys(claim.method for claim in claims):
    parts += section(method, judged, studies)
  return '\n\n'.join(parts) + '\n'


def counts(judged: Sequence[Verdict]) -> str:
  """How many claims came out how, and how many of them by chance."""
  by = collections.Counter(verdict.kind for verdict in judged)
  idle = sum(verdict.effect is None for verdict in judged)
  measured = len(judged) - idle
  chance = max(1, round(measured / 20))
  return (
      f'Of {len(judged)} claims {by["holds"]} hold, {by["does not hold"]} do '
      f'not hold, with {by["no difference"]} there is no difference, and '
      f'{by["not decided"]} are not decided ({idle} of them not measured). An '
      f'interval of 95% misses one time in twenty: of {measured} that were '
      f'measured about {chance} may say what other seeds would not.')


# The sentences of a practitioner.


def advice(judged: Sequence[Verdict], studies: dict[str, Study]) -> str:
  """For which nets which method, by how much, at what cost; what never did."""
  found = [verdict for verdict in judged
           if verdict.kind == 'holds' and verdict.claim.net]
  helped = {verdict.claim.what for verdict in found}
  never: dict[str, list[str]] = {}
  for verdict in judged:
    claim = verdict.claim
    if claim.what and claim.net and claim.what not in helped and (
        verdict.kind in ('no difference', 'does not hold')):
      never.setdefault(claim.what, []).append(claim.net)
  gains: dict[str, list[str]] = {}
  for verdict in found:
    gains.setdefault(str(verdict.claim.what), []).append(
        _gain(verdict, studies))
  helps = '\n'.join(f'- {what} in {", in ".join(nets)}'
                    for what, nets in gains.items())
  lost = '; '.join(f'{what} ({", ".join(dict.fromkeys(nets))})'
                   for what, nets in never.items())
  against = '; '.join(
      f'{verdict.claim.method} "{verdict.claim.words}" '
      f'({_told(verdict, studies)})'
      for verdict in judged if _opposite(verdict))
  return (f'**What helped, where, and by how much:**\n\n'
          f'{helps or "- nothing"}\n\n**At what cost:** {cost()}\n\n'
          f'**What never helped where it was measured:** {lost or "nothing"}.'
          f'\n\n**Claims whose opposite was found:** {against or "none"}.')


def cost() -> str:
  """What a training step takes, as measured on idle cores."""
  measured = json.loads(OVERHEAD.read_text())
  usual, kept = (measured[name]['rows'] for name in (
      'training', 'training, memory kept'))
  told = ', '.join(
      f'{usual[row]["time"]["median"]:.2f} with {name}' + (
          f' ({kept[row]["time"]["median"]:.2f} where the allocator keeps its '
          'memory)' if name == 'SING' else '')
      for name, row in (
          ('BNG', 'bng + adamw'), ('SING', 'standardize + adamw'),
          ('weight normalization', 'weight_normalized(adamw)')))
  return ('a training step of a perceptron of 12.6 M parameters, batch 128, '
          f'takes {told} times AdamW\'s ([what it costs](cost.md)). The '
          'studies here shared their cores, so that their own times say '
          'nothing.')


def _gain(verdict: Verdict, studies: dict[str, Study]) -> str:
  return f'{verdict.claim.net} ({_told(verdict, studies)})'


def _told(verdict: Verdict, studies: dict[str, Study]) -> str:
  """An effect, and against what."""
  assert verdict.effect is not None, 'it was measured'
  treated, against = effects.rows(verdict.claim, studies[verdict.claim.study])
  text = command.told(verdict.effect)
  return f'{text} against {_other(treated[0], against[0])}' if (
      against and len(against) == 1) else text


def _other(row: str, other: str) -> str:
  """What distinguishes a row's name from another's."""
  return ' '.join(part for part, same in zip(
      other.split('/'), row.split('/'), strict=True) if part != same)


def _opposite(verdict: Verdict) -> bool:
  """Whether the interval lies on the other side of zero."""
  effect, claim = verdict.effect, verdict.claim
  return (effect is not None and verdict.kind == 'does not hold'
          and claim.claim != 'same'
          and not effect.interval.low <= 0 <= effect.interval.high
          and (effect.interval.mean > 0) == (claim.claim == 'less'))


# Tables.


def table(judged: Iterable[Verdict], studies: dict[str, Study]) -> str:
  """One line for each claim."""
  lines = [['claim', 'source', 'here', 'effect [95%]', 'verdict', 'again']]
  for verdict in judged:
    claim = verdict.claim
    lines.append([
        f'**{claim.method}** {claim.words} (`{claim.id}`)', _source(claim),
        claim.setting, _effect(verdict, studies),
        f'**{verdict.kind}**' + (f': {verdict.why}' if verdict.why else ''),
        _again(claim, studies.get(claim.study))])
  return grid(lines)


def _source(claim: Claim) -> str:
  if claim.paper is None:
    return claim.where or 'asked here'
  link = f'[{claim.paper}](https://arxiv.org/abs/{claim.paper})'
  return f'{link}, {claim.where}' if claim.where else link


def _effect(verdict: Verdict, studies: dict[str, Study]) -> str:
  effect, claim = verdict.effect, verdict.claim
  if effect is None:
    return ''
  text = command.told(effect)
  if effect.reached is not None and effect.reached < effect.seeds:
    text += f' ({effect.reached} of {effect.seeds} reach it)'
  treated, against = effects.rows(claim, studies[claim.study])
  return text + (f', against {_other(treated[0], against[0])}'
                 if claim.against == 'best baseline' else '')


def _again(claim: Claim, study: Study | None) -> str:
  """How long the rows of a claim take."""
  if study is None:
    return ''
  if not study.lab:
    return command.time_of(study.minutes)
  names = {name for side in effects.rows(claim, study) for name in side}
  if claim.against == 'best baseline':  # which nobody knows beforehand
    return command.time_of(study.minutes)
  return command.time_of(sum(study.rows[name].seconds for name in names
                             if name in study.rows) / 120)


def section(method: str, judged: Sequence[Verdict],
            studies: dict[str, Study]) -> list[str]:
  """The figures of a method, and what its studies measured."""
  own = [verdict for verdict in judged if verdict.claim.method == method]
  claim = own[0].claim
  parts = [f'## {method}',
           f'How it is used: [{claim.page[:-3]}]({claim.page}).']
  for figure in figures.of(method, studies):
    parts += [f'![{figure.alt}](figures/{figure.file})', figure.caption]
  for name in dict.fromkeys(verdict.claim.study for verdict in own):
    if name in studies:
      study = studies[name]
      parts += [f'### {study.kept.get("title") or name.replace("_", " ")}',
                _about(study)] + ([_rows(study)] if study.lab else [
                    'What it found: [studies](studies.md).'])
  return parts


def _about(study: Study) -> str:
  """What was run, how much of it, and what it took."""
  kept, versions = study.kept, study.kept['versions']
  made = (f'{kept["date"]}, JAX {versions["jax"]}, optax {versions["optax"]}, '
          f'{kept["machine"]["cores"]} cores')
  took = f'{command.time_of(study.minutes)} of two cores, {made}.'
  if not study.lab:
    return (f'`benchmarks/evidence/studies/{study.name}.py`. Measured: '
            f'{kept["measure"]}; {len(kept["trials"])} trials. {took}')
  data = kept['data'].split(';')[0]
  return (f'`configs/evidence/{study.name}.toml`: {data}; '
          f'{kept["steps"]} steps, {kept["tune_seeds"]} tuning and '
          f'{kept["seeds"]} fresh seeds, {kept["trials"]} trials. {took}')


def _rows(study: Study) -> str:
  """The rows of a comparison."""
  kept, scale = study.kept, study.kept['scale']
  target = kept['target']
  aim = '' if target is None else f' to {scale * target:g}{kept["unit"]}'
  head = ['row', 'rate (of)', f'test {kept["unit"] or kept["measure"]} [95%]']
  lines = [[*head, f'steps{aim}', 'training loss', 'diverged']]
  for name, row in study.rows.items():
    found = row.kept
    lines.append([
        name.replace('/', ', '),
        f'{row.rate:.3g} ({found["searched"]})' + (
            ', edge' if row.edge else '') + ''.join(
                f', {key.split(".")[-1]} {value:.3g}' for key, value
                in found.get('settings', {}).items()),
        _score(found['score'], scale) if row.trains else 'does not train',
        _median(found['steps']), _mean(found['train_loss']),
        f'{found["diverged"]}/{len(found["test"])}'])
  return grid(lines)


def _score(score: Sequence[float | None], scale: float) -> str:
  mean, low, high = (math.nan if value is None else scale * value
                     for value in score)
  places = 1 if scale > 1 else 3
  return f'{mean:.{places}f} [{low:.{places}f}, {high:.{places}f}]'


def _median(steps: Sequence[float | None]) -> str:
  """The median step, and how many reached the target if not all did."""
  found = sorted(math.inf if step is None else step for step in steps)
  reached = sum(map(math.isfinite, found))
  middle = (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2
  text = f'{middle:g}' if math.isfinite(middle) else '-'
  return text if reached == len(found) else f'{text} ({reached}/{len(found)})'


def _mean(values: Sequence[float | None]) -> str:
  found = [value for value in values if value is not None]
  return f'{sum(found) / len(found):.3g}' if found else '-'


def grid(lines: list[list[str]]) -> str:
  """A Markdown table."""
  head, *rows = (f'| {" | ".join(cells)} |' for cells in lines)
  rule = '| ' + ' | '.join('---' for _ in lines[0]) + ' |'
  return '\n'.join([head, rule, *rows])
