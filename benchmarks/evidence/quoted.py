"""The effects that README and the method pages quote, from the same results.

Between `<!-- claim ID -->` and `<!-- end -->` stands the effect of a claim and
what it says of it.
"""

import re
from collections.abc import Iterable

from benchmarks.evidence import command
from benchmarks.evidence.verdicts import Verdict

QUOTE = re.compile(r'(<!-- claim ([\w-]+) -->).*?(<!-- end -->)', re.DOTALL)


def filled(text: str, judged: Iterable[Verdict]) -> str:
  """Writes the present effects into a text.

  Raises:
    KeyError: The text quotes a claim that there is not.
  """
  known = {verdict.claim.id: verdict for verdict in judged}
  return QUOTE.sub(lambda quote: quote[1] + told(known[quote[2]]) + quote[3],
                   text)


def told(verdict: Verdict) -> str:
  """An effect with its interval; what is in the way where none is decided."""
  if verdict.effect is None:
    return verdict.why
  text = command.told(verdict.effect)
  return text if verdict.kind == 'holds' else f'{text}, {verdict.kind}'
