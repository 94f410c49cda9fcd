"""Times the steps of a model's methods, interleaved."""

from collections.abc import Mapping

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison.model_programs import Bench


def rounds(bench: Bench, tables: Mapping[str, schema.Method], rate: float,
           count: int) -> dict[str, list[float]]:
  """Measures the seconds of a step of every program in every round.

  All programs take turns, one call each in every round, in one thread with no
  other work of this process: whatever else slows the machine slows them alike.

  Args:
    bench: The model, with one trial in a call.
    tables: The programs, by name.
    rate: The learning rate.
    count: How many rounds.
  """
  for table in tables.values():
    bench.compile(table)
    bench.time(table, rate)
  found: dict[str, list[float]] = {name: [] for name in tables}
  for index in range(count):
    # Alternating the order cancels what a neighbour leaves in the caches.
    order = list(tables.items())[::1 if index % 2 else -1]
    for name, table in order:
      found[name].append(bench.time(table, rate))
  return found
