"""A folder of results: one line of JSON for each episode that was played, so that what was interrupted goes on.

Lines are only ever appended. Whatever lies in the folder under *.jsonl is read, so that results of several machines
are put together by copying their files (under other names, or lines appended); of two lines about the same trial the
first counts. Knows no report.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from runtime.evaluation.play import Played
from runtime.evaluation.trial import EvaluationError, Trial, setting_from
from runtime.picture import jpeg
from runtime.report import EpisodeOutcome

STRIPS = 24  # failures of a cell that are kept as pictures
FOLDER = "strips"


@dataclass(frozen=True)
class Row:
    """One line: a trial, what the policy was told, what came of it."""

    trial: Trial
    told: str | None
    outcome: EpisodeOutcome
    strip: str | None = None  # file of the failure's moments, relative to the folder
    measured: dict[str, Any] = field(default_factory=dict)
    policy: str = ""  # whose episode it is: a name and the beginning of the graph's sha256

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        trial, outcome = self.trial, self.outcome
        return {
            "policy": self.policy,
            "part": trial.part,
            "cell": trial.cell,
            "index": trial.index,
            "seed": trial.seed,
            "task": trial.task,
            "setting": trial.setting.to_json(),
            "told": self.told,
            "outcome": outcome.outcome,
            "sparse": outcome.sparse,
            "steps": outcome.steps,
            "seconds": outcome.seconds,
            "missed": outcome.missed,
            "strip": self.strip,
            "measured": self.measured,
            "step_ms": list(outcome.step_ms),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """What `to_json` made. Raises KeyError and TypeError for anything else."""
        setting = setting_from(content["setting"])
        trial = Trial(content["part"], content["cell"], content["index"], content["seed"], content["task"], setting)
        outcome = EpisodeOutcome(
            trial.index,
            trial.seed,
            trial.task,
            content["outcome"],
            content["steps"],
            content["seconds"],
            tuple(content["step_ms"]),
            content["missed"],
            trial.cell,
            content["sparse"],
        )
        return cls(trial, content["told"], outcome, content["strip"], content["measured"], content["policy"])


class Store:
    """The rows of one policy in `folder`; made when it is missing. Raises `EvaluationError` and OSError."""

    def __init__(self, folder: Path, policy: str) -> None:
        self.folder = folder
        self._policy = policy
        self.rows: dict[str, Row] = {}
        for row in read_rows(folder):
            if row.policy != policy:
                raise EvaluationError(
                    f"{folder}: holds episodes of {row.policy}, not of {policy}: give another folder, or empty it"
                )
            self.rows.setdefault(row.trial.key, row)

    def missing(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those that were not played yet."""
        return [trial for trial in trials if trial.key not in self.rows]

    def add(self, played: Played) -> Row:
        """Write one trial down, and its strip while its cell has few."""
        trial, strip = played.trial, None
        cell = (trial.part, trial.cell)
        kept = sum(row.strip is not None for row in self.rows.values() if (row.trial.part, row.trial.cell) == cell)
        if played.strip is not None and kept < STRIPS:
            strip = f"{FOLDER}/{_file_name(f'{trial.part}-{trial.cell}-{trial.seed}')}.jpg"
            (self.folder / FOLDER).mkdir(parents=True, exist_ok=True)
            (self.folder / strip).write_bytes(jpeg(played.strip, quality=95))
        row = Row(trial, played.told, played.outcome, strip, played.measured, self._policy)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{_file_name(trial.part)}.jsonl").open("ab+") as file:
            if file.tell() and _last_byte(file) != b"\n":
                file.write(b"\n")  # behind a line that was cut off
            file.write(json.dumps(row.to_json(), ensure_ascii=False).encode() + b"\n")
        self.rows[trial.key] = row
        return row


def read_rows(folder: Path) -> Iterator[Row]:
    """Every row of the folder's files, in order of their names; a line that was cut off is left out.

    Raises `EvaluationError` for a line that is none of ours.
    """
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
            try:
                content = json.loads(line)
            except json.JSONDecodeError:
                continue  # empty, or cut off when the writer was killed
            try:
                yield Row.from_json(content)
            except (KeyError, TypeError, AttributeError) as error:
                raise EvaluationError(f"{path}:{number}: no line of an evaluation ({error!r})") from error


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def _file_name(text: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in text)
