"""How fast Stillroom is beside its peers: same weights, data and tokens, in turn, in one run (`stillroom bench speed`).

Each module named here defines ``BARS``, its comparisons, and our sides of them; the peers' sides are in `bench/peers`.
"""

from importlib import import_module

from stillroom.bench.speed.pairing import Bar
from stillroom.errors import unknown_name

MODULES = ("sampling", "training", "reinforcing", "grading", "traces")


def bars() -> tuple[Bar, ...]:
    """Every bar, in the order in which they are measured."""
    return tuple(bar for name in MODULES for bar in import_module(f"{__name__}.{name}").BARS)


def bar(name: str) -> Bar:
    """The bar of that name; raises UserError with the nearest valid name."""
    found = {known.name: known for known in bars()}
    if name not in found:
        raise unknown_name("bar", name, found)
    return found[name]
