"""The trials of a comparison: which there are, and what the finished ones say.

First every method's learning rate is chosen on the tuning seeds, by validation
score; then fresh seeds, the same for all methods, are run at the chosen
rate. Only these read the test part, and by it they are judged: its examples
chose nothing.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.objective import evidence
from gradnorm_optax.lab.results.findings import Profiles, Run
from gradnorm_optax.lab.results.judging import Answers
from gradnorm_optax.lab.results.look import Look
from gradnorm_optax.lab.results.made_with import Basis
from gradnorm_optax.lab.results.store import fingerprint
from gradnorm_optax.lab.support import packed

# Fresh seeds never coincide with tuning seeds, whatever the configuration.
FRESH = 1000


class Pair(NamedTuple):
  """A model and a method that is run on it."""

  model: str
  method: str


class Trials:
  """Answers from the records of a run folder, without data and models.

  Attributes:
    records: {fingerprint: record}, those that come later included.
    config: What is compared.
    basis: What the trials rest on besides.
  """

  def __init__(self, records: Mapping[str, dict[str, Any]],
               config: schema.Config, basis: Basis):
    """Takes the records as they are; writes nothing."""
    self.records, self.config, self.basis = records, config, basis
    self._bases: dict[Pair, str] = {}

  @property
  def target(self) -> float:
    """The validation score to reach; infinite where there is none."""
    given = self.config.compare.target
    if given is not None:
      return given
    return 0.9 if self.basis.measure.unit else math.inf

  def pairs(self) -> list[Pair]:
    """All models with their methods."""
    return [Pair(model, method) for model in self.config.models
            for method in self.config.methods_on(model)]

  def rates(self, method: str) -> tuple[float, ...]:
    """The grid that a method searches."""
    own = self.config.methods[method].learning_rates
    return own or self.config.compare.learning_rates

  def seeds(self, phase: str) -> range:
    """The seeds of a phase, `tune` or `final`."""
    compare = self.config.compare
    if phase == 'tune':
      return range(compare.tune_seeds)
    return range(FRESH, FRESH + compare.seeds)

  def planned(self, phase: str) -> int:
    """How many trials a phase has, finished or not."""
    return len(self.seeds(phase)) * sum(
        len(self.rates(pair.method)) if phase == 'tune' else 1
        for pair in self.pairs())

  def key(self, phase: str, pair: Pair, rate: float, seed: int) -> str:
    """The fingerprint of a trial."""
    return fingerprint(
        phase=phase, rate=rate, seed=seed, pair=self._basis_of(pair))

  def _basis_of(self, pair: Pair) -> str:
    """The fingerprint of what all trials of a pair share."""
    if pair not in self._bases:
      self._bases[pair] = self._fingerprint(pair)
    return self._bases[pair]

  def _fingerprint(self, pair: Pair) -> str:
    return fingerprint(
        data=self.basis.data, own=self.basis.user_code(*pair),
        model=self.config.models[pair.model].model_dump(),
        method=self.config.methods[pair.method].alone.model_dump(),
        train=self.config.train.model_dump(), code=self.basis.code,
        versions=self.basis.versions, arithmetic=self.basis.arithmetic,
        together=self.basis.together)

  def missing(self, phase: str, pair: Pair) -> list[tuple[float, int]]:
    """Rates and seeds that are not finished."""
    rates = (self.rates(pair.method) if phase == 'tune'
             else (self.chosen(pair),))
    return [(rate, seed) for rate, seed in itertools.product(
        rates, self.seeds(phase))
            if self.key(phase, pair, rate, seed) not in self.records]

  def finished(self, phase: str, pair: Pair,
               rate: float) -> list[dict[str, Any]]:
    """The records of the finished seeds of a phase."""
    found = (self.records.get(self.key(phase, pair, rate, seed))
             for seed in self.seeds(phase))
    return [record for record in found if record is not None]

  def runs(self, phase: str, pair: Pair, rate: float) -> tuple[Run, ...]:
    """The finished seeds of a phase, judged."""
    return tuple(
        Run.of(record, self.target,
               self.config.train.eval_every, self.basis.worst)
        for record in self.finished(phase, pair, rate))

  def chosen(self, pair: Pair) -> float:
    """The rate with the best mean validation score on tuning seeds.

    Of equals the one inside the grid, then the one with the lower loss, then
    the first in the list.
    """
    rates = self.rates(pair.method)

    def merit(rate: float) -> tuple[float, bool, float]:
      runs = self.runs('tune', pair, rate)
      return (sum(run.score for run in runs), min(rates) < rate < max(rates),
              -sum(run.final_loss for run in runs))
    return max(rates, key=merit)

  def answers(self, pair: Pair) -> Answers:
    """What the fresh runs answered on the test part."""
    return Answers(
        tuple(None if record['diverged'] else packed.unpack(record['evidence'])
              for record in self.finished('final', pair, self.chosen(pair))),
        evidence.score_of(self.basis.rule), self.basis.worst)

  def acted(self, pair: Pair) -> float | None:
    """The share of the fresh runs' steps in which sampling acted."""
    shares = [share for record in self.finished(
        'final', pair, self.chosen(pair))
              for share in record['history'].get('acted', ())]
    return float(np.mean(shares)) if shares else None

  def lost(self, pair: Pair) -> dict[str, Any] | None:
    """The record of the first fresh run, if not one run stayed finite."""
    runs = [run for rate in self.rates(pair.method)
            for run in self.runs('tune', pair, rate)]
    fresh = self.finished('final', pair, self.chosen(pair))
    if not fresh or not all(run.diverged for run in runs) or not all(
        record['diverged'] for record in fresh):
      return None
    return fresh[0]

  def fault_key(self, pair: Pair) -> str:
    """The fingerprint of what is wrong with that run."""
    return self.key('fault', pair, self.chosen(pair), FRESH)

  def fault(self, pair: Pair) -> str | None:
    """Where that run went bad: step and block; None if some stayed finite."""
    found = self.records.get(self.fault_key(pair))
    return found['text'] if found else None

  def look_key(self, pair: Pair) -> str:
    """The fingerprint of a look at a run."""
    return self.key(f'look over {self.config.compare.look}', pair,
                    self.chosen(pair), FRESH)

  def looks(self) -> tuple[Look, ...]:
    """What every method does to the blocks, at its chosen rate."""
    found = (self.records.get(self.look_key(pair)) for pair in self.pairs())
    return tuple(Look.of(record) for record in found if record)

  def profiles(self) -> Profiles:
    """The gradient through time of the first fresh run of every method."""
    found: Profiles = {}
    for pair in self.pairs():
      rate = self.chosen(pair)
      record = self.records.get(
          self.key('final', pair, rate, self.seeds('final')[0]))
      if record and record.get('profile'):
        found.setdefault(pair.model, {})[pair.method] = {
            int(step): norms for step, norms in record['profile'].items()}
    return found
