"""The fuzz of the parsers, a hundredth of its length; and that it would see a defect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from drivers.bus import Reply
from tests.fuzz.fuzz_parsers import CASES, Case, feetech, fuzz


@pytest.mark.parametrize("make", CASES)
def test_noise_is_no_reply(make: Callable[[], Case]) -> None:
    case = make()
    outcome = fuzz(case, 100_000, seed=1)
    assert outcome.problems(case) == []
    assert (
        outcome.fed >= 100_000
        and outcome.intact > 100
        and min(outcome.candidates[kind] for kind in ("random", "damaged")) > 100
    )


class Credulous:
    """Takes every header for a whole reply."""

    def parse(self, buffer: bytearray, expected: Mapping[int, int]) -> tuple[list[Reply], int]:
        replies = []
        while (at := buffer.find(b"\xff\xff")) >= 0 and len(buffer) >= at + 21:
            replies.append(Reply(buffer[at + 2], buffer[at + 4], bytes(buffer[at + 5 : at + 20])))
            del buffer[: at + 21]
        return replies, 0


class Hoarder:
    """Keeps everything."""

    def parse(self, buffer: bytearray, expected: Mapping[int, int]) -> tuple[list[Reply], int]:
        return [], 0


@pytest.mark.parametrize(
    ("framing", "messages"),
    [(Credulous(), ("false packets",)), (Hoarder(), ("bytes kept", "looked at again", "lost"))],
)
def test_a_bad_parser_does_not_pass(framing: Credulous | Hoarder, messages: tuple[str, ...]) -> None:
    case = replace(feetech(), framing=framing)
    problems = " ".join(fuzz(case, 20_000, seed=1).problems(case))
    assert all(message in problems for message in messages)
