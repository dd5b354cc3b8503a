"""What a token writes, in bytes: tokens cut characters in two, so text alone cannot say it."""

from typing import Any

from stillroom.errors import UserError


def token_bytes(tokenizer: Any) -> list[bytes]:
    """The bytes that each token id adds to a text, special and added tokens included.

    Joined and decoded as UTF-8, with U+FFFD for what is not, they are the tokenizer's own decoded text. (One difference
    remains: tokenizers with byte fallback give up all bytes of a broken run, and this reads what is whole in it.)

    Args:
        tokenizer: a fast tokenizer: byte-level BPE (Qwen2, Llama 3, GPT-NeoX, OPT), or one in the manner of
            SentencePiece, with ``▁`` for a space and perhaps tokens such as ``<0x0A>`` for single bytes (Gemma,
            Llama 2).

    Raises:
        UserError: the tokenizer decodes in another way.
    """
    decoder = tokenizer.backend_tokenizer.decoder
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    # What a decoder does says more than its name: the same one is written in several ways.
    if decoder is not None and decoder.decode(["A", "ĠA"]) == "A A":
        table = _byte_level()
        return [_from_byte_level(name or "", table) for name in names]
    if decoder is not None and decoder.decode(["A", "▁A"]) == "A A":
        single = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}
        if decoder.decode(["<0x41>"]) != "A":
            single = {}
        return [single.get(name or "") or (name or "").replace("▁", " ").encode() for name in names]
    raise UserError(
        "stop strings and constraints need to know what each token writes, and the tokenizer's decoder "
        f"({str(decoder)[:200]}) is neither byte-level nor in the manner of SentencePiece; sample without them"
    )


def _byte_level() -> dict[str, int]:
    """Printable characters stand for themselves, the other bytes in order for U+0100 and up (GPT-2, encoder.py)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


def _from_byte_level(name: str, table: dict[str, int]) -> bytes:
    # Like the decoder: a token with a character outside the table (an added one) is text.
    return bytes(table[c] for c in name) if all(c in table for c in name) else name.encode()
