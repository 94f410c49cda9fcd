"""What a method is measured against."""

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods.registry import OPTIMIZERS


def bare(method: schema.Method) -> schema.Method:
  """The method's optimizer with nothing around it, on as many examples."""
  row = OPTIMIZERS.get(method.optimizer)
  name, options, blocks = method.optimizer, method.options, None
  if row is not None and row.bare is not None:
    name, options = row.bare, {}
  elif row is not None and row.blocks:  # it reads the axes of arrays there
    blocks = method.blocks
  sampling = method.sampling and schema.Sampling(
      rule='random', size=method.sampling.size)
  return schema.Method(
      optimizer=name, options=options, blocks=blocks, sampling=sampling)


def is_baseline(method: schema.Method) -> bool:
  """Whether a method is an optimizer of optax, alone or with clipping."""
  row = OPTIMIZERS.get(method.optimizer)
  return (row is not None and row.bare is None and not method.normalize
          and method.wrap is None and method.lookahead is None
          and method.pascanu is None and (
              method.sampling is None or method.sampling.rule == 'random'))
