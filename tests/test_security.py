"""Attacks, each tried and each refused in one line: on artifacts and robot files, on recordings, on the network.

What the hash in a card promises: the file is what was exported. Who exported it, only the place it came from can say.
"""

from __future__ import annotations

import ast
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import yaml
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from drivers.config import ConfigError, parse_robot
from policies.artifact import CARD, ArtifactError, find_artifact, hash_files, load_artifact
from policies.onnx_policy import OnnxPolicy
from policies.policy import PolicyError
from runtime.recorder import FILE_NAME, Recorder
from runtime.recording import RecordingError
from tests.policies.onnx_wire import external, field, model, node

ROOT = Path(__file__).parents[1]
FLOORS = ("drivers", "policies", "sim", "calibration", "runtime")
JOINTS = ("a", "b")


# ---- artifacts


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """The shipped artifact, copied file by file."""
    shipped = find_artifact("stack")
    folder = tmp_path / "artifact"
    folder.mkdir()
    for file in shipped.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def edit(folder: Path, **changes: Any) -> None:
    content = yaml.safe_load((folder / CARD).read_text(encoding="utf-8"))
    (folder / CARD).write_text(yaml.safe_dump(content | changes), encoding="utf-8")


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """As an attacker does who can also write the card: the hashes are right."""
    (folder / name).write_bytes(data)
    edit(folder, files=hash_files(folder, [path.name for path in folder.iterdir() if path.name != CARD]))


def refusal(folder: Path) -> str:
    """What is said when the artifact is loaded and its policy opened."""
    with pytest.raises(PolicyError) as raised:
        OnnxPolicy(load_artifact(folder))
    message = str(raised.value)
    assert "\n" not in message and str(folder) in message
    return message


def test_the_untouched_artifact_opens(artifact: Path) -> None:
    OnnxPolicy(load_artifact(artifact))


def test_nothing_parses_a_graph_whose_hash_is_wrong(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("the graph was opened")

    monkeypatch.setattr(onnxruntime, "InferenceSession", parsed)
    for name in ("policy.onnx", "text.model"):
        content = (artifact / name).read_bytes()
        (artifact / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert "changed since the export" in refusal(artifact)
        (artifact / name).write_bytes(content)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "aliases are not allowed"),
        ("a: &a {<<: *a}", "aliases are not allowed"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("!!python/name:os.system", "could not determine a constructor"),
        ("parameters: " + "9" * 5000, "not a YAML card"),
        ("created: 2026-13-45", "not a YAML card"),
        ("a: " + "[" * 5000, "not a YAML card"),
        ("name: '\x00'", "not a YAML card"),
        ("- a\n- b", "valid dictionary"),
        ("", "valid dictionary"),
        ("# " + "x" * (1 << 20), "a card has at most"),
    ],
)
def test_cards_that_attack_the_parser_are_refused(artifact: Path, text: str, message: str) -> None:
    (artifact / CARD).write_text(text, encoding="utf-8")
    assert message in refusal(artifact)


@pytest.mark.parametrize(
    "changes",
    [
        {"cameras": {"fixed": {"height": 1 << 40, "width": 1 << 40}}},
        {"sequence": {"prompt_tokens": 1 << 40, "window": 1 << 40, "timestep_tokens": 1 << 40}},
        {"proprioception": {f"q{i}": {"size": 1, "low": [0.0], "high": [1.0]} for i in range(100)}},
        {"tasks": ["x"] * 2000},
        {"name": "x" * 5000},
        {"name": "\x1b]0;a title of the terminal\x07"},
        {"tasks": ["two\nlines"]},
        {"files": {f"f{i}": "0" * 64 for i in range(100)}},
        {"rate": 1e12},
    ],
)
def test_cards_that_ask_for_too_much_are_refused(artifact: Path, changes: dict[str, Any]) -> None:
    edit(artifact, **changes)
    assert next(iter(changes)) in refusal(artifact)


def test_nothing_leads_out_of_the_folder(artifact: Path, tmp_path: Path) -> None:
    for name in ("policy.onnx", "text.model", CARD):
        outside = tmp_path / name
        (artifact / name).rename(outside)
        (artifact / name).symlink_to(outside)
        assert "neither link nor folder" in refusal(artifact)
        (artifact / name).unlink()
        outside.rename(artifact / name)
    files = yaml.safe_load((artifact / CARD).read_text(encoding="utf-8"))["files"]
    for name in ("../outside", "/etc/hostname", "a/b", "..", ".hidden", "x\n"):
        edit(artifact, files=files | {name: "0" * 64})
        assert "files" in refusal(artifact)
    edit(artifact, files=files, text_model="../text.model")
    assert "text_model" in refusal(artifact)


def test_a_graph_reads_no_file_but_hashed_ones_beside_it(artifact: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(256))
    for location in ("../secret.bin", str(secret), "policy.onnx/../../secret.bin", "/proc/self/environ", "secret.bin"):
        replace_file(artifact, "policy.onnx", model(field(5, external(location)), node()))
        assert "no file of its artifact" in refusal(artifact)
    (artifact / "secret.bin").write_bytes(bytes(256))
    assert "the card has no hash of it" in refusal(artifact)


def test_onnx_runtime_refuses_to_leave_the_folder_too(tmp_path: Path) -> None:
    """The second line of defence, and the reason to look again when ONNX Runtime changes."""
    folder = tmp_path / "graph"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(struct.pack("<64f", *range(64)))
    (folder / "beside.bin").write_bytes(struct.pack("<64f", *range(64)))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")

    def session(location: str) -> onnxruntime.InferenceSession:
        tensor = field(8, "w") + field(1, 64) + field(2, 1) + external(location)
        shape = field(2, field(1, field(1, 64)))
        result = field(1, "y") + field(2, field(1, field(1, 1) + shape))
        add = field(1, field(1, "w") + field(1, "w") + field(2, "y") + field(4, "Add"))
        graph = field(7, add + field(2, "g") + field(5, tensor) + field(12, result))
        (folder / "policy.onnx").write_bytes(field(1, 9) + field(8, field(1, "") + field(2, 17)) + graph)
        return onnxruntime.InferenceSession(str(folder / "policy.onnx"), providers=["CPUExecutionProvider"])

    assert session("beside.bin").run(None, {})[0][3] == 6.0
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin", "x/../../secret.bin"):
        with pytest.raises(ort_errors.Fail, match="External data path"):
            session(location)


def test_no_operator_of_somebody_else_is_run(artifact: Path) -> None:
    replace_file(artifact, "policy.onnx", model(node("Evil", "evil.ops"), opset="evil.ops"))
    assert "'evil.ops'; only those of ai.onnx and com.microsoft" in refusal(artifact)
    replace_file(artifact, "policy.onnx", model(node("EPContext", "com.microsoft")))
    assert "opens files" in refusal(artifact)


def test_garbage_with_the_right_hash_is_one_line(artifact: Path) -> None:
    graph = (artifact / "policy.onnx").read_bytes()
    for name, data in (
        ("policy.onnx", b"PK\x03\x04" * 100),
        ("policy.onnx", graph[:100_000]),
        ("text.model", b"\xff" * 99),
    ):
        good = (artifact / name).read_bytes()
        replace_file(artifact, name, data)
        with pytest.raises(PolicyError) as raised:
            OnnxPolicy(load_artifact(artifact))
        assert "\n" not in str(raised.value)
        replace_file(artifact, name, good)


def test_an_artifact_that_fills_the_disk_is_refused_before_it_is_read(artifact: Path) -> None:
    with (artifact / "policy.onnx").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: takes no room
    assert "an artifact has at most" in refusal(artifact)


def test_a_pipe_does_not_hang_the_loader(artifact: Path) -> None:
    os.mkfifo(artifact / "pipe")
    with pytest.raises(ArtifactError, match="neither link nor folder"):
        load_artifact(artifact)


@pytest.mark.parametrize("text", ["name: " + "9" * 5000, "name: 2026-13-45", "a: " + "[" * 5000, f"name: x\n{LAUGHS}"])
def test_robot_files_that_attack_the_parser_are_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_robot(text, "robot.yaml")
    assert str(raised.value).startswith("robot.yaml") and "\n" not in str(raised.value)


# ---- the source


def sources() -> Iterator[tuple[str, ast.AST]]:
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            where = str(path.relative_to(ROOT))
            yield from (
                (f"{where}:{getattr(each, 'lineno', 0)}", each) for each in ast.walk(ast.parse(path.read_text()))
            )


def dotted(expression: ast.AST) -> str:
    """ "torch.load" of the expression that says so."""
    if isinstance(expression, ast.Attribute):
        return f"{dotted(expression.value)}.{expression.attr}"
    return expression.id if isinstance(expression, ast.Name) else ""


UNPICKLERS = {"pickle", "cPickle", "dill", "shelve", "marshal", "cloudpickle"}
# They name pickle.UnpicklingError, which torch.load(weights_only=True) raises; no other of its names is let through.
ONLY_THE_ERROR = ("policies/gato/export.py", "policies/gato/weights.py")
LOADERS_OF_CODE = {"yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "joblib.load", "numpy.load", "np.load"}
SAFE_LOADER = "_PlainLoader"  # policies.artifact: SafeLoader without aliases


def test_no_code_comes_out_of_data() -> None:
    found = []
    for where, each in sources():
        if isinstance(each, ast.Import | ast.ImportFrom):
            modules = [each.module or ""] if isinstance(each, ast.ImportFrom) else [name.name for name in each.names]
            allowed = modules == ["pickle"] and isinstance(each, ast.Import) and where.startswith(ONLY_THE_ERROR)
            if UNPICKLERS & {module.split(".")[0] for module in modules} and not allowed:
                found.append(f"{where}: imports {modules}")
        if isinstance(each, ast.Attribute) and dotted(each).startswith("pickle.") and each.attr != "UnpicklingError":
            found.append(f"{where}: {dotted(each)}")
        if not isinstance(each, ast.Call):
            continue
        name = dotted(each.func)
        keywords = {word.arg: word.value for word in each.keywords}
        if name in ("eval", "exec", "compile", "__import__", "os.system", "os.popen") or name in LOADERS_OF_CODE:
            found.append(f"{where}: {name}")
        if name == "yaml.load" and dotted(keywords.get("Loader", each)) != SAFE_LOADER:
            found.append(f"{where}: yaml.load without the safe loader")
        if name == "torch.load":
            only = keywords.get("weights_only")
            if not (isinstance(only, ast.Constant) and only.value is True):
                found.append(f"{where}: torch.load without weights_only=True")
        if name.endswith("register_custom_ops_library"):
            found.append(f"{where}: a custom-operator library")
        shell = keywords.get("shell")
        if isinstance(shell, ast.Constant) and shell.value:
            found.append(f"{where}: a shell")
    assert found == []


def test_the_safe_loader_is_one() -> None:
    from policies.artifact import _PlainLoader

    assert issubclass(_PlainLoader, yaml.SafeLoader)


# ---- the recorder's files


def test_the_recorder_follows_no_link_and_overwrites_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for number, target in enumerate((victim, tmp_path / "nowhere")):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        (folder / FILE_NAME).symlink_to(target)
        with pytest.raises(RecordingError, match="never overwritten"):
            Recorder(folder, JOINTS)
    assert victim.read_text() == "precious" and not (tmp_path / "nowhere").exists()
    os.mkfifo(tmp_path / FILE_NAME)
    with pytest.raises(RecordingError, match="never overwritten"):
        Recorder(tmp_path, JOINTS)


def test_a_folder_may_be_a_link_since_the_operator_named_it(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    Recorder(tmp_path / "runs", JOINTS).close()
    assert (tmp_path / "disk" / FILE_NAME).is_file() and not (tmp_path / "disk" / FILE_NAME).is_symlink()


# ---- the network

LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
Address = IPv4Address | IPv6Address


def process_tree(root: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree


def inodes(pid: int) -> set[str]:
    """Of the sockets that a process holds."""
    found = set()
    with suppress(OSError):  # the process has ended
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # this descriptor is closed by now
                link = os.readlink(entry)
                if link.startswith("socket:["):
                    found.add(link[len("socket:[") : -1])
    return found


def address(text: str) -> Address:
    """The kernel's "0100007F:1F90", 32-bit words in the machine's order, without the port."""
    words = bytes.fromhex(text.partition(":")[0])
    order = b"".join(
        words[i : i + 4][::-1] if sys.byteorder == "little" else words[i : i + 4] for i in range(0, len(words), 4)
    )
    found = ip_address(order)
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def sockets(tree: set[int]) -> Iterator[tuple[str, Address, Address, str]]:
    """Protocol, local and remote address, and state of every network socket of these processes."""
    held = set().union(*(inodes(pid) for pid in tree))
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]:
            _, local, remote, state, *rest = line.split()
            if rest[5] in held:
                yield protocol, address(local), address(remote), state


def test_the_kernel_s_addresses_are_read_right() -> None:
    with socket.create_server(("127.0.0.1", 0)) as near, socket.create_server(("0.0.0.0", 0)) as far:
        assert near and far
        listening = {str(local) for protocol, local, _, state in sockets({os.getpid()}) if state == LISTEN}
    assert {"127.0.0.1", "0.0.0.0"} <= listening


def test_a_run_listens_on_loopback_alone_and_talks_to_nobody_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runtime.cli", "run", "--episodes", "1", "--seed", "3", "--record", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT, text=True)
    listening, elsewhere = set(), set()
    give_up = time.monotonic() + 120
    try:
        while process.poll() is None and time.monotonic() < give_up:
            for protocol, local, remote, state in sockets(process_tree(process.pid)):
                if not local.is_loopback or not (remote.is_loopback or remote.is_unspecified):
                    elsewhere.add(f"{protocol} {local} {remote} {state}")
                if state == LISTEN:
                    listening.add(str(local))
            time.sleep(0.05)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode in (0, 3), said  # 3: a fault, as on a machine that is too busy to play in real time
    assert elsewhere == set()
    assert listening == {"127.0.0.1"}, "the emulator's camera stream was there to be seen"
