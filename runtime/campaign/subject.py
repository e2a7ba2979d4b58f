"""The process that is broken on purpose: what `gato-arm run` is, with a scene that a campaign can end.

The same parts put together in the same order as there: recorder, servo process with guardian and guard, cameras,
control loop, and the same ways out: what the user can mend is one line and exit code 2, anything else a traceback.
Requests and events are lines of JSON on stdin and stdout. Knows nothing of faults but how its policy misbehaves.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from drivers.arm import ArmError, ReleaseReport, frozen
from drivers.camera import Camera, CameraError
from drivers.config import RobotConfig, parse_robot
from drivers.robot import open_arm, open_camera
from policies.policy import Policy, PolicyError
from runtime.campaign.mover import Misbehaving, Mover
from runtime.clock import SECOND, MonotonicClock, Pacer
from runtime.guard import Guard
from runtime.loop import ControlLoop, EpisodeInfo, EpisodeResult, Step
from runtime.priority import prefer_to_be_killed, undisturbed
from runtime.recorder import Recorder
from runtime.servo_process import ServoProcess
from runtime.servo_state import ServoSettings
from runtime.supervisor import RefusedError, Stop

EPISODE_STEPS = 100_000  # an episode ends when the campaign says so
USAGE = 2  # exit code
OVER = "over"
CAMERAS_BACK = 8.0  # s
FRESH = SECOND // 5  # ns
AFTER_RESET = 0.2  # s in which it is seen what comes of a reset


@dataclass(frozen=True)
class SubjectSettings:
    """What the process is started with; a line of JSON on its command line."""

    folder: str  # of the recording
    robot: str  # the robot's config as JSON
    low: tuple[float, ...]  # rad, of the mover's box
    high: tuple[float, ...]
    policy: str | None = None  # an artifact instead of the mover
    orphan_hold_s: float = 5.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Events:
    """Lines of JSON for the campaign. Also tells it of the first step of each episode: a subscriber."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def __call__(self, event: str, **content: Any) -> None:
        with self._lock:
            self._out.write(json.dumps({"event": event, **content}) + "\n")
            self._out.flush()

    def on_episode_start(self, info: EpisodeInfo) -> None: ...

    def on_step(self, step: Step) -> None:
        if step.index == 0:
            self("playing", stamp=step.stamp)

    def on_episode_end(self, result: EpisodeResult) -> None: ...


class Subject:
    """Answers requests: those that need the control loop's thread wait for it, the others are done at once."""

    def __init__(
        self,
        servo: ServoProcess,
        cameras: Mapping[str, Camera],
        loop: ControlLoop,
        policy: Misbehaving,
        tell: Events,
    ) -> None:
        self._servo, self._cameras, self._loop, self._policy, self._tell = servo, cameras, loop, policy, tell
        self._requests: queue.Queue[dict[str, Any]] = queue.Queue()
        self._over = threading.Event()

    def listen(self, lines: TextIO) -> None:
        """Read requests until the campaign hangs up, which ends the run."""
        for line in lines:
            request: dict[str, Any] = json.loads(line)
            do = request["do"]
            if do == "misbehave":
                self._policy.begin(request["how"])
            elif do == "behave":
                self._policy.end()
            elif do == "over":
                self._over.set()
            elif do == "stop":
                self._servo.request_stop(Stop(request["category"]))
            else:
                self._requests.put(request)
        self._over.set()
        self._requests.put({"do": "quit"})

    def serve(self) -> None:
        """Play and reset as asked, until told to quit."""
        while (request := self._requests.get())["do"] != "quit":
            if request["do"] == "play":
                self._play(request["task"])
            else:
                self._reset()

    def _play(self, task: str) -> None:
        self._over.clear()
        end = time.monotonic() + CAMERAS_BACK
        while not all(map(_delivers, self._cameras.values())) and time.monotonic() < end:
            time.sleep(0.05)
        with undisturbed():
            result = self._loop.run_episode(task, EPISODE_STEPS, lambda: OVER if self._over.is_set() else None)
        state = self._servo.state()
        self._tell("ended", outcome=result.outcome, state=state.state.name.lower(), fault=state.fault)

    def _reset(self) -> None:
        """Reset a fault, as the operator does; what refuses it is told, as is a fault that is back at once."""
        refused: str | None
        try:
            self._servo.reset()
        except (ArmError, RefusedError) as error:
            refused = str(error)
        else:
            time.sleep(AFTER_RESET)
            refused = self._servo.state().fault
        self._tell("reset", refused=refused)


def run(settings: SubjectSettings, lines: TextIO, tell: Events) -> None:
    """The whole run. Raises what `gato-arm run` raises."""
    config = parse_robot(settings.robot, "the campaign's robot")
    spec, clock = config.arm.spec(), MonotonicClock()
    policy = Misbehaving(_policy(settings, config), spec, clock, functools.partial(_told_misbehaviour, tell))
    with ExitStack() as stack:
        recorder = stack.enter_context(
            Recorder(Path(settings.folder), spec.joint_names, notify=lambda text: tell("note", text=text))
        )
        servo = ServoProcess(
            functools.partial(open_arm, config.arm),
            spec,
            settings=ServoSettings.of_robot(config),
            make_guard=functools.partial(Guard.of, config),
            orphan_hold_s=settings.orphan_hold_s,
            clock=clock,
        )
        servo.open()
        stack.callback(_stop, servo, recorder, tell)
        prefer_to_be_killed()
        recorder.follow(servo.ticks())
        cameras = {name: open_camera(name, camera) for name, camera in config.cameras.items()}
        for camera in cameras.values():
            stack.callback(camera.close)
            camera.connect()
        pacer = Pacer(clock, round(SECOND / policy.rate))
        loop = ControlLoop(policy, cameras, servo, clock, pacer, [tell, recorder], safety=config.safety)
        subject = Subject(servo, cameras, loop, policy, tell)
        threading.Thread(target=subject.listen, args=(lines,), name="requests", daemon=True).start()
        tell("ready", servo=servo.pid, guardian=servo.guardian_pid, notes=list(servo.notes))
        subject.serve()


def _policy(settings: SubjectSettings, config: RobotConfig) -> Policy:
    if settings.policy is None:
        return Mover(frozen(settings.low), frozen(settings.high))
    from policies.artifact import check_robot, find_artifact, load_artifact
    from policies.onnx_policy import OnnxPolicy

    artifact = load_artifact(find_artifact(settings.policy))
    check_robot(artifact.card, config)
    policy = OnnxPolicy(artifact, threads=min(2, os.cpu_count() or 2))
    policy.warm_up()
    return policy


def _delivers(camera: Camera) -> bool:
    """Whether it shows what is there now: one that was unplugged takes a while to come back."""
    try:
        frame = camera.read()
    except CameraError:
        return False
    return time.monotonic_ns() - frame.stamp < FRESH and not frame.repeats


def _told_misbehaviour(tell: Events, stamp: int) -> None:
    tell("misbehaves", stamp=stamp)


def _stop(servo: ServoProcess, recorder: Recorder, tell: Events) -> None:
    report: ReleaseReport | None = servo.stop(release=True)
    tell(
        "stopped",
        still_energised=[] if report is None else list(report.still_energised),
        dropped=recorder.dropped + recorder.ticks_dropped,
    )


def main() -> int:
    """`python -m runtime.campaign.subject SETTINGS`; returns the exit code."""
    raw = json.loads(sys.argv[1])
    settings = SubjectSettings(**{**raw, "low": tuple(raw["low"]), "high": tuple(raw["high"])})
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no event
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a campaign in the background has it ignored
    try:
        run(settings, sys.stdin, Events(out))
    except (ArmError, CameraError, PolicyError, RefusedError) as error:
        print(error, file=sys.stderr)
        return USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
