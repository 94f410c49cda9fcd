"""The effects that README and the method pages quote, from the same results.

Between `<!-- claim ID -->` and `<!-- end -->` stands the effect of a claim and
what it says of it; after `<!-- claims METHOD -->` a table of all claims of a
method that were measured.
"""

import re
from collections.abc import Iterable, Sequence

from benchmarks.evidence import command, page
from benchmarks.evidence.verdicts import Verdict

QUOTE = re.compile(r'(<!-- claim ([\w-]+) -->).*?(<!-- end -->)', re.DOTALL)
TABLE = re.compile(r'(<!-- claims ([^>]+) -->).*?(<!-- end -->)', re.DOTALL)


def filled(text: str, judged: Sequence[Verdict]) -> str:
  """Writes the present effects into a text.

  Raises:
    KeyError: The text quotes a claim that there is not.
  """
  known = {verdict.claim.id: verdict for verdict in judged}
  text = QUOTE.sub(lambda quote: quote[1] + told(known[quote[2]]) + quote[3],
                   text)
  return TABLE.sub(lambda quote: f'{quote[1]}\n\n' + table(
      verdict for verdict in judged if verdict.claim.method == quote[2]
  ) + f'\n\n{quote[3]}', text)


def table(judged: Iterable[Verdict]) -> str:
  """The claims that were measured, a line for each."""
  return page.grid([['claim', 'here', 'effect [95%]', 'verdict'], *(
      [verdict.claim.words, verdict.claim.setting,
       command.told(verdict.effect), f'**{verdict.kind}**']
      for verdict in judged if verdict.effect is not None)])


def told(verdict: Verdict) -> str:
  """An effect with its interval; what is in the way where none is decided."""
  if verdict.effect is None:
    return verdict.why
  text = command.told(verdict.effect)
  return text if verdict.kind == 'holds' else f'{text}, {verdict.kind}'
