"""Our side of sampling."""

from stillroom.bench.speed.pairing import Bar

BARS: tuple[Bar, ...] = ()
