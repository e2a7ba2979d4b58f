"""Feeds noise and damaged packets to the parsers of both servo protocols, and counts what they take for a reply.

    python -m tests.fuzz.fuzz_parsers --bytes 10000000 --seed 0

A quarter each: random bytes; sound headers before random bodies; bytes that look like headers; packets with bytes
flipped, dropped, inserted or cut off. A false packet is a reply that nobody sent. Of random candidates (a header with
an awaited id and length, and all its bytes) an 8-bit sum lets one in 256 pass, a CRC-16 one in 65536. Of others the sum
promises less: it does not see two changes that cancel out, nor bytes that change places. More than that is a defect,
and so are an exception, a lost intact reply, and a parser that keeps more bytes than one packet has.
"""

from __future__ import annotations

import argparse
import re
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from drivers import dynamixel_codec, feetech_codec
from drivers.bus import Framing, Reply

KINDS = ("random", "damaged", "header-like")
TRY = 2000  # bytes, about what one try of a transaction may see at worst
LIKELY = bytes((0xFF, 0xFF, 0xFF, 0xFD, 0xFD, 0x00, 0x00, 0x55, 0xFE, 1, 2, 3, 17, 25, 26))


@dataclass(frozen=True)
class Case:
    """One parser, the replies it awaits, and what its checksum allows."""

    name: str
    framing: Framing
    size: int  # parameter bytes of each reply
    sound: Callable[[Reply], bytes]  # a status packet
    header: Callable[[int], bytes]  # the start of one from that id
    candidates: Callable[[bytes], int]  # how often the checksum of a whole, awaited packet had to decide
    allowed: Mapping[str, float]  # share of candidates that may pass, by what the bytes are
    longest: int  # bytes that may be kept
    ids: tuple[int, ...] = (1, 2, 3, 4, 5, 6)  # the servos that were asked


@dataclass
class Outcome:
    """What happened to one case."""

    name: str
    fed: int = 0
    intact: int = 0
    found: int = 0
    lost: int = 0
    false: Counter[str] = field(default_factory=Counter)
    candidates: Counter[str] = field(default_factory=Counter)
    looked_at: int = 0  # bytes, over all calls
    calls: int = 0
    kept_most: int = 0
    seconds: float = 0.0

    def problems(self, case: Case) -> list[str]:
        """What is wrong, a line each."""
        most = {kind: case.allowed[kind] * n for kind, n in self.candidates.items()}
        most = {kind: mean + 5 * mean**0.5 + 3 for kind, mean in most.items()}
        checks = {
            f"{self.false[kind]} false packets of {self.candidates[kind]} {kind} candidates, at most {limit:.0f}": (
                self.false[kind] <= limit
            )
            for kind, limit in most.items()
        }
        checks |= {
            f"{self.kept_most} bytes kept, at most {case.longest}": self.kept_most <= case.longest,
            "bytes were looked at again": self.looked_at <= self.fed + self.calls * case.longest,
            f"{self.lost} intact replies of {self.intact} lost": self.lost <= self.intact * 0.01,  # within a false one
        }
        return [f"{self.name}: {text}" for text, fine in checks.items() if not fine]

    def __str__(self) -> str:
        rates = ", ".join(
            f"{self.false[kind]} of {n} {kind} candidates accepted ({self.false[kind] / max(n, 1):.4%})"
            for kind, n in sorted(self.candidates.items())
        )
        return (
            f"{self.name}: {self.fed} bytes in {self.seconds:.1f} s, {self.intact} intact replies ({self.lost} lost), "
            f"{rates}, at most {self.kept_most} bytes kept"
        )


def _feetech_candidates(size: int) -> Callable[[bytes], int]:
    pattern = re.compile(rb"(?=\xff\xff[\x01-\x06]" + re.escape(bytes((size + 2,))) + b")", re.DOTALL)

    def count(stream: bytes) -> int:
        return sum(match.start() + size + 6 <= len(stream) for match in pattern.finditer(stream))

    return count


def _dynamixel_candidates(size: int) -> Callable[[bytes], int]:
    pattern = re.compile(rb"(?=\xff\xff\xfd\x00([\x01-\x06]|\xfe)(..)\x55)", re.DOTALL)

    def count(stream: bytes) -> int:
        total = 0
        for match in pattern.finditer(stream):
            (length,) = struct.unpack("<H", match[2])
            single = match[1] != b"\xfe" and size + 4 <= length <= size + 4 + (size + 1) // 3
            chain = match[1] == b"\xfe" and length % (size + 4) == 1
            total += (single and match.start() + 7 + length <= len(stream)) + (
                chain and match.start() + 8 + size + 4 <= len(stream)
            )
        return total

    return count


def feetech() -> Case:
    """Replies to a sync read of the present block."""
    size = feetech_codec.PRESENT.size
    return Case(
        name="feetech",
        framing=feetech_codec.FeetechFraming(),
        size=size,
        sound=lambda reply: feetech_codec.packet(reply.id, reply.error, reply.params),
        header=lambda id: bytes((0xFF, 0xFF, id, size + 2)),
        candidates=_feetech_candidates(size),
        allowed={"random": 1 / 256, "damaged": 3 / 256, "header-like": 3 / 256},
        longest=size + 5,
    )


def dynamixel() -> Case:
    """Replies to a sync read of the present block."""
    size = dynamixel_codec.PRESENT.size
    return Case(
        name="dynamixel",
        framing=dynamixel_codec.DynamixelFraming(),
        size=size,
        sound=lambda reply: dynamixel_codec.packet(reply.id, 0x55, bytes((reply.error,)) + reply.params),
        header=lambda id: b"\xff\xff\xfd\x00" + bytes((id, size + 4, 0, 0x55)),
        candidates=_dynamixel_candidates(size),
        allowed=dict.fromkeys(KINDS, 1 / 65536),
        longest=7 + size + 4 + (size + 1) // 3,
    )


def dynamixel_fast() -> Case:
    """Replies to a fast sync read of the present block: one servo was asked, the noise looks like answers of six."""
    case, block = dynamixel(), dynamixel_codec.PRESENT.size + 4

    def sound(reply: Reply) -> bytes:
        whole = (
            b"\xff\xff\xfd\x00\xfe" + struct.pack("<H", 1 + block) + bytes((0x55, reply.error, reply.id)) + reply.params
        )
        return whole + dynamixel_codec.crc16(whole).to_bytes(2, "little")

    return Case(
        name="dynamixel fast sync read",
        framing=case.framing,
        size=case.size,
        sound=sound,
        header=lambda id: b"\xff\xff\xfd\x00\xfe" + struct.pack("<H", 1 + 6 * block) + bytes((0x55, 0, id)),
        candidates=case.candidates,
        allowed=case.allowed,
        longest=7 + 1 + 6 * block,
        ids=(1,),
    )


CASES = (feetech, dynamixel, dynamixel_fast)


def damage(packet: bytes, rng: np.random.Generator) -> bytes:
    """The packet with one to three bytes changed, dropped, inserted, or its end cut off."""
    bytes_ = bytearray(packet)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(bytes_))) if bytes_ else 0
        kind = rng.integers(5)
        if kind == 0 and bytes_:
            bytes_[place] = int(rng.integers(256))
        elif kind == 1 and bytes_:
            bytes_[place] ^= 1 << int(rng.integers(8))
        elif kind == 2 and bytes_:
            del bytes_[place]
        elif kind == 3:
            bytes_.insert(place, int(rng.integers(256)))
        else:
            del bytes_[place:]
    return bytes(bytes_)


def one_try(case: Case, rng: np.random.Generator) -> tuple[str, bytes, Counter[Reply], Counter[Reply]]:
    """What comes over the line in one try: its kind, the bytes, the replies that were sent, those still intact."""
    source = rng.integers(4)
    sent: Counter[Reply] = Counter()
    intact: Counter[Reply] = Counter()
    if source == 0:
        return "random", rng.bytes(TRY), sent, intact
    if source == 1:
        return "header-like", bytes(LIKELY[i] for i in rng.integers(len(LIKELY), size=TRY)), sent, intact
    parts = []
    total = 0
    while total < TRY:
        id = int(rng.choice(case.ids))
        if source == 2:
            reply = Reply(id, int(rng.integers(256)), rng.bytes(case.size))
            packet = case.sound(reply)
            part = packet if rng.random() < 0.3 else damage(packet, rng)
            sent[reply] += 1
            intact[reply] += packet in part  # a byte before it or behind it does it no harm
        else:
            part = case.header(id) + rng.bytes(case.size + 3)
        parts.append(part)
        total += len(part)
    return "damaged" if source == 2 else "random", b"".join(parts), sent, intact


def fuzz(case: Case, size: int, seed: int) -> Outcome:
    """Feed the parser about `size` bytes, in pieces as they come from a port."""
    rng = np.random.default_rng(seed)
    outcome = Outcome(case.name)
    expected = dict.fromkeys(case.ids, case.size)
    started = time.monotonic()
    while outcome.fed < size:
        kind, stream, sent, intact = one_try(case, rng)
        buffer = bytearray()
        found: Counter[Reply] = Counter()
        at = 0
        while at < len(stream):
            piece = int(rng.integers(1, 200))
            buffer += stream[at : at + piece]
            at += piece
            outcome.looked_at += len(buffer)
            outcome.calls += 1
            replies, _ = case.framing.parse(buffer, expected)
            found.update(replies)
            outcome.kept_most = max(outcome.kept_most, len(buffer))
        missing = (intact - found).total()
        outcome.fed += len(stream)
        outcome.intact += intact.total()
        outcome.found += found.total()
        outcome.lost += missing
        outcome.false[kind] += (found - sent).total()
        outcome.candidates[kind] += max(0, case.candidates(stream) - intact.total())
    outcome.seconds = time.monotonic() - started
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bytes", type=int, default=10_000_000, help="for each parser")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    problems = []
    for make in CASES:
        case = make()
        outcome = fuzz(case, arguments.bytes, arguments.seed)
        print(outcome, flush=True)
        problems += outcome.problems(case)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
