"""What the trials of a comparison rest on besides its configuration."""

from typing import Any, NamedTuple

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods.scope import Scope
from gradnorm_optax.lab.objective.objective import Objective
from gradnorm_optax.lab.objective.quality import VARIANCE, Measure
from gradnorm_optax.lab.objective.rule import Rule
from gradnorm_optax.lab.support import provenance, user_code


class Basis(NamedTuple):
  """Data, code and machine, and how scores are read; JSON can hold it.

  Attributes:
    data: The digest of the examples.
    description: The data in words.
    measure: What the score is.
    chance: The score of guessing.
    margin: By how much a run must exceed it to count as trained.
    worst: What a diverged run scores; lower scores count as this one.
    rule: How a score comes of the examples' evidence.
    classes: What the classes are called, in their order.
    code: The digest of the package's own code.
    own: {model: {method: digests of the user's code}}.
    scopes: {model: {method: what its parts act on}}.
    versions: Those of the packages.
    revision: That of the package's source, where it is a checkout.
    machine: Processor and devices.
    arithmetic: What rounding rests on: device, threads, flags.
    together: Whether several trials shared a call.
    examples: How many the training part has; 0 of an earlier version.
    workers: The machines of the cluster that trials were run on last, a line
      for each; none where they ran here.
    groups: To which group each judged example belongs, where they have any.
  """

  data: str
  description: str
  measure: Measure
  chance: float
  margin: float
  worst: float
  rule: Rule
  classes: tuple[str, ...]
  code: str
  own: dict[str, dict[str, list[str]]]
  scopes: dict[str, dict[str, tuple[Scope, ...]]]
  versions: dict[str, str]
  revision: dict[str, Any] | None
  machine: dict[str, Any]
  arithmetic: dict[str, str]
  together: bool
  examples: int = 0
  workers: tuple[str, ...] = ()
  groups: tuple[int, ...] | None = None

  def user_code(self, model: str, method: str) -> list[str]:
    """The digests of the user's code behind one row."""
    return self.own[model][method]


def here(config: schema.Config, data: str, description: str,
         objective: Objective, deviation: float | None,
         scopes: dict[str, dict[str, tuple[Scope, ...]]],
         together: bool, examples: int,
         groups: np.ndarray | None = None) -> Basis:
  """What trials rest on that are run now, on this machine.

  Args:
    config: Names the user's own functions, imported before.
    data: The digest of the examples.
    description: The data in words.
    objective: How they are judged.
    deviation: Of the judged labels in their own unit, where they are numbers.
    scopes: What every method acts on.
    together: Whether several trials share a call.
    examples: How many the training part has.
    groups: To which group each judged example belongs.
  """
  measure = objective.measure
  if measure == VARIANCE:
    measure = measure._replace(deviation=deviation)
  return Basis(
      data, description, measure, objective.chance, objective.margin,
      objective.worst, objective.rule,
      objective.classes.names if objective.classes else (),
      provenance.source_digest(),
      {model: {method: user_code.digests(config.user_functions(model, method))
               for method in config.methods_on(model)}
       for model in config.models},
      scopes, provenance.versions(), provenance.revision(),
      provenance.machine(), provenance.arithmetic(), together, examples,
      groups=None if groups is None else tuple(groups.tolist()))
