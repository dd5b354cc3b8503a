"""Our side of training."""

from stillroom.bench.speed.pairing import Bar

BARS: tuple[Bar, ...] = ()
