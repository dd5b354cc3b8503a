"""Randomness: one generator per purpose, derived by hashing (run seed, purpose, index).

Neighbouring seeds share nothing (``Random(seed + i)`` makes seed 42 and 43 overlap almost wholly), and nothing here
depends on PYTHONHASHSEED, on dict order or on the number of workers.
"""

import hashlib
import random


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed from the parts, in order; ``derive_seed("a", 1) != derive_seed("a1")``."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1


def derive_rng(*parts: str | int) -> random.Random:
    """A Python generator of its own for the purpose that the parts name."""
    return random.Random(derive_seed(*parts))


def digest(*texts: str) -> str:
    """A 16-digit content hash, the same on every machine."""
    hashed = hashlib.blake2b(digest_size=8)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        hashed.update(len(data).to_bytes(8, "big") + data)
    return hashed.hexdigest()
