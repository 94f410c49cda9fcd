"""The shape of a configuration: strict, frozen, typed tables.

Every table refuses keys that it does not know and names the nearest one. These
classes are plain data: nothing here imports JAX.
"""

from gradnorm_optax.lab.schema.base import (
    Table as Table,
    complaint as complaint,
)
from gradnorm_optax.lab.schema.config import (
    Compare as Compare,
    Config as Config,
)
from gradnorm_optax.lab.schema.data import (
    Data as Data,
)
from gradnorm_optax.lab.schema.devices import (
    Mesh as Mesh,
)
from gradnorm_optax.lab.schema.methods import (
    BlocksTable as BlocksTable,
    Method as Method,
    Sampling as Sampling,
)
from gradnorm_optax.lab.schema.models import (
    CNN as CNN,
    MLP as MLP,
    Model as Model,
    Own as Own,
    RecurrentNet as RecurrentNet,
    ResNet as ResNet,
    Transformer as Transformer,
    WeightNormNet as WeightNormNet,
)
from gradnorm_optax.lab.schema.search import (
    Range as Range,
    Search as Search,
    Settings as Settings,
)
from gradnorm_optax.lab.schema.training import (
    Run as Run,
    Train as Train,
    Watch as Watch,
)
