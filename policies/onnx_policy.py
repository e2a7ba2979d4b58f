"""An artifact at work: one control step is one run of its graph.

Knows cards and graphs, neither robots nor torch. Everything that a step touches is allocated and bound once: images
and ids are copied into the memory that the graph reads, and the cache is one piece of memory that the graph reads and
writes. The cache is a ring of the last few timesteps behind the prompt, so tick 10,000 costs what tick 10 did.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from policies.artifact import Artifact
from policies.card import Card
from policies.gato.codec import Codec
from policies.gato.sequence import SequenceSpec
from policies.gato.text import Text
from policies.graph_check import check_graph
from policies.huge_pages import use_huge_pages
from policies.policy import Action, Observation, PolicyError

CPU = "CPUExecutionProvider"
MAX_CACHE_BYTES = 2 << 30  # of keys and values; the shipped policy's are a hundredth of it
WARM_UP_STEPS = 3  # the first run allocates, the second settles the threads
# A thread waits for the next product actively for so long, then asleep. Longer gains nothing where the cores are free
# (100 and 1,000 us within 0.3%; not at all costs 13%); where others want them the scheduler takes them away in the
# middle of a product, and a step took 2.3 times as long with ONNX Runtime's own setting as with this one.
SPIN_US = 100

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

_UNUSABLE = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """One timestep of a demonstration: what was sensed, and the action ids executed just before, None at the start."""

    observation: Observation
    executed: Ids | None


def sequence_of(card: Card) -> SequenceSpec:
    """The sequence that a card describes. Raises `PolicyError` where its numbers contradict each other."""
    cameras = tuple((name, camera.height, camera.width) for name, camera in card.cameras.items())
    tensors = tuple((name, quantity.size) for name, quantity in card.proprioception.items())
    said, actions = card.sequence, len(card.actions.joint_names)
    try:
        spec = SequenceSpec(cameras, tensors, actions, said.prompt_tokens, 1, said.window)
        words = said.timestep_tokens - spec.block + 1
        spec = SequenceSpec(cameras, tensors, actions, said.prompt_tokens, words, said.window)
    except ValueError as error:
        raise PolicyError(f"policy {card.name}: sequence: {error}; export it again") from error
    return spec


def codec_of(card: Card) -> Codec:
    """Numbers to ids and back, as a card describes it."""
    tensors = {name: quantity.scale() for name, quantity in card.proprioception.items()}
    return Codec(tensors, card.actions.scale(), np.array([mode == "delta" for mode in card.actions.mode]))


class OnnxPolicy:
    """A `Policy` from a verified artifact."""

    def __init__(self, artifact: Artifact, threads: int = 2, *, providers: Sequence[str] = (CPU,)) -> None:
        """Open the graph. Raises `PolicyError` when this ONNX Runtime cannot run it, it is not what the card says, or
        it needs operators or files that no artifact may need."""
        self.card = artifact.card
        check_graph(artifact.graph, artifact.card.files)
        self._spec, self._codec = sequence_of(self.card), codec_of(self.card)
        self._text = Text(artifact.text_model)
        try:
            self._session = onnxruntime.InferenceSession(
                str(artifact.graph), _options(threads), providers=list(providers)
            )
        except (*_UNUSABLE, ValueError) as error:
            reason = " ".join(str(error).split())
            raise PolicyError(
                f"{artifact.graph}: ONNX Runtime {onnxruntime.__version__} cannot run it: {reason}"
            ) from error
        self._graph = str(artifact.graph)
        self._binding = _Binding(self._session, self._spec, self._graph)
        self._demonstration = 0  # timesteps in the prompt
        self._timestep: int | None = None  # None until reset
        self._previous: Floats | None = None  # joint targets in force at the step before
        self._words: Ids = np.zeros(self._spec.words, dtype=np.int64)

    @property
    def name(self) -> str:
        return self.card.name

    def another(self) -> OnnxPolicy:
        """A policy with the same graph in memory, and a cache and an episode of its own."""
        other = copy(self)
        other._binding = _Binding(self._session, self._spec, self._graph)
        other._timestep = None
        return other

    @property
    def rate(self) -> float:
        """Control steps a second, Hz."""
        return self.card.rate

    def reset(self, task: str | None, demonstration: Sequence[Shown] = ()) -> None:
        """Begin an episode: put `task`, and a demonstration of it if there is one, into the cache.

        None is no words at all, as in Gato's own prompts: then a demonstration alone says what to do. Raises
        `PolicyError` when the task has words that no task of the card has, or is too long.
        """
        ids: Ids = np.zeros(0, dtype=np.int64)
        if task is not None:
            _refuse_unknown(task, self.card.tasks)
            ids = self._text.encode(_as_trained(task, self.card.tasks))
        try:
            text, real = self._spec.pad_text(ids)
            self._words = self._spec.pad_words(ids)
        except ValueError as error:
            raise PolicyError(f'task "{task}": {error}') from error
        self._timestep = None
        self._binding.begin(self._spec.cache(len(demonstration)))
        self._binding.prompt(text, real)
        for index, shown in enumerate(demonstration):
            place = self._spec.prompt(index)
            self._put(shown.observation, shown.executed, place, place)
        self._demonstration, self._timestep, self._previous = len(demonstration), 0, None

    def act(self, observation: Observation) -> Action:
        """One control step. Raises `PolicyError` before `reset`, and for an observation that lacks something."""
        if self._timestep is None:
            raise PolicyError(f"policy {self.name} was not told its task: call reset before act")
        targets = self._targets_in_force(observation)
        executed = None if self._previous is None else self._codec.action_ids(targets, self._previous)
        slot = self._spec.ring_slot(self._timestep, self._demonstration)
        tokens = self._put(observation, executed, slot, self._spec.position(self._timestep, self._demonstration))
        self._timestep += 1
        self._previous = targets
        return Action(self._codec.targets(tokens, targets), tokens)

    def warm_up(self) -> None:
        """Run a few steps on grey images and joints in mid-range, so that the first real one is like the rest, and
        move what they used into huge pages where the system has them."""
        card = self.card
        images = {name: np.full((c.height, c.width, 3), 128, dtype=np.uint8) for name, c in card.cameras.items()}
        middle = {name: (np.array(q.low) + np.array(q.high)) / 2 for name, q in card.proprioception.items()}
        self.reset(card.tasks[0] if card.tasks else "warm up")
        for _ in range(WARM_UP_STEPS):
            self.act(Observation(0, images, {"joint_targets": np.zeros(self._spec.actions), **middle}))
        self._timestep = None
        use_huge_pages()

    def _put(self, observation: Observation, executed: Ids | None, slot: int, position: int) -> Ids:
        """Run the graph on one block; the action ids that it decodes."""
        try:
            sensed = self._codec.sense(observation.proprioception)
        except ValueError as error:
            raise PolicyError(f"the observation cannot be encoded: {error}") from error
        self._spec.write_block(self._binding.ids, executed, self._words, sensed)
        return self._binding.step(observation.images, slot, position, has_executed=executed is not None)

    def _targets_in_force(self, observation: Observation) -> Floats:
        targets = observation.proprioception.get("joint_targets")
        if targets is None or targets.shape != (self._spec.actions,) or not np.isfinite(targets).all():
            raise PolicyError(
                f"policy {self.name} needs joint_targets, {self._spec.actions} finite numbers in rad, got {targets}"
            )
        return np.array(targets, dtype=np.float64)


class _Binding:
    """The graph's inputs and outputs as numpy arrays over the very memory that it reads and writes."""

    def __init__(self, session: onnxruntime.InferenceSession, spec: SequenceSpec, path: str) -> None:
        self._session, self._spec = session, spec
        self._images = {name: np.zeros((h, w, 3), dtype=np.uint8) for name, h, w in spec.cameras}
        self.ids: Ids = np.zeros(spec.block_ids, dtype=np.int64)
        self._text: Ids = np.zeros(spec.text, dtype=np.int64)
        self._is_prompt = np.zeros((), dtype=np.bool_)
        self._slot: Ids = np.zeros(1, dtype=np.int64)
        self._position: Ids = np.zeros(1, dtype=np.int64)
        self._action: Ids = np.zeros(spec.actions, dtype=np.int64)
        self._visible: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._inputs: dict[str, NDArray[np.generic]] = {
            **{f"image_{name}": image for name, image in self._images.items()},
            "ids": self.ids,
            "text": self._text,
            "prompt": self._is_prompt,
            "slot": self._slot,
            "position": self._position,
        }
        self._check(path)
        self._on_host = session.get_providers()[0] == CPU
        self._binding = session.io_binding()

    def _check(self, path: str) -> None:
        """The graph takes and gives what the card made us prepare, or `PolicyError`."""
        shapes = {node.name: node.shape for node in self._session.get_inputs()}
        self._cache = {name: shape for name, shape in shapes.items() if re.fullmatch(r"(keys|values)_\d+", name)}
        expected: dict[str, object] = {name: list(array.shape) for name, array in self._inputs.items()}
        expected["visible"] = shapes.get("visible")
        found = {name: shape for name, shape in shapes.items() if name not in self._cache}
        outputs = {node.name: node.shape for node in self._session.get_outputs()}
        if found != expected or outputs.get("action") != [self._spec.actions] or not self._cache:
            raise PolicyError(f"{path}: takes {found}, its card says {expected}; export the artifact again")

    def begin(self, slots: int) -> None:
        """An empty cache of `slots` slots. What stood in it stays, but is seen no more."""
        if len(self._visible) != slots:
            self._bind(slots)
        self._visible[:] = False

    def _bind(self, slots: int) -> None:
        self._visible = np.zeros(slots, dtype=np.bool_)
        self._inputs["visible"] = self._visible
        binding = self._binding = self._session.io_binding()
        device = "cpu" if self._on_host else "cuda"
        shapes = {name: [slots if isinstance(n, str) else n for n in shape] for name, shape in self._cache.items()}
        size = sum(4 * math.prod(shape) for shape in shapes.values())
        if size > MAX_CACHE_BYTES:
            raise PolicyError(f"its cache would take {size >> 20} MB, at most {MAX_CACHE_BYTES >> 20}: export it anew")
        for name, shape in shapes.items():
            zeros = np.zeros(shape, dtype=np.float32)
            memory = onnxruntime.OrtValue.ortvalue_from_numpy(zeros, device, 0)
            binding.bind_ortvalue_input(name, memory)
            binding.bind_ortvalue_output(f"{name}_after", memory)
        binding.bind_ortvalue_output("action", onnxruntime.OrtValue.ortvalue_from_numpy(self._action))
        self._bind_inputs()

    def _bind_inputs(self) -> None:
        for name, array in self._inputs.items():
            self._binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))

    def prompt(self, text: Ids, real: NDArray[np.bool_]) -> None:
        """Put an instruction (text,) into the first slots."""
        self._text[:] = text
        self._visible[: len(text)] = real
        self._is_prompt[...] = True
        self._run(0, 0)
        self._is_prompt[...] = False

    def step(self, images: Mapping[str, NDArray[np.uint8]], slot: int, position: int, *, has_executed: bool) -> Ids:
        """Append the block of `images` and `ids` at `slot`; the decoded action ids (A,)."""
        for name, kept in self._images.items():
            image = images.get(name)
            if image is None:
                raise PolicyError(f"the observation lacks camera {name!r}; it has {', '.join(images) or 'none'}")
            if image.shape != kept.shape or image.dtype != np.uint8:
                raise PolicyError(
                    f"camera {name!r} gives {image.dtype} {image.shape}, this policy sees uint8 {kept.shape}"
                )
            np.copyto(kept, image)
        spec = self._spec
        self._visible[slot : slot + spec.block] = True
        self._visible[slot : slot + spec.actions] = has_executed
        self._run(slot, position)
        return self._action.copy()

    def _run(self, slot: int, position: int) -> None:
        self._slot[0], self._position[0] = slot, position
        if not self._on_host:
            self._bind_inputs()  # binding is when a device gets its copy
        try:
            self._session.run_with_iobinding(self._binding)
        except _UNUSABLE as error:
            raise PolicyError(f"ONNX Runtime cannot run the policy: {' '.join(str(error).split())}") from error


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Threads wait for each other actively within a step, where most waits are short, and sleep between steps: the
    # servo loop needs the processor then.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    return options


def _refuse_unknown(task: str, tasks: Iterable[str]) -> None:
    """Raise `PolicyError` when `task` has no words, or words that no one of `tasks` has."""
    asked = _words(task)
    known = {word for example in tasks for word in _words(example)}
    if not asked:
        raise PolicyError(f'task "{task}" names nothing; ask for example for "{next(iter(tasks), "")}"')
    unknown = [word for word in dict.fromkeys(asked) if word not in known]
    if known and unknown:
        names = ", ".join(f'"{word}"' for word in unknown)
        raise PolicyError(
            f'task "{task}" names {names}, which this policy was not trained on; it knows: {", ".join(sorted(known))}'
        )


def _as_trained(task: str, tasks: Iterable[str]) -> str:
    """The one of `tasks` with the same words, since capitals and full stops are other tokens; else `task` itself."""
    return next((example for example in tasks if _words(example) == _words(task)), task)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
