"""Every fault of the campaign, by name."""

from __future__ import annotations

from collections.abc import Mapping

from runtime.campaign.arm_faults import CAMERAS, LINE, SERVOS
from runtime.campaign.fault import Fault
from runtime.campaign.program_faults import OPERATOR, POLICY, PROCESSES

FAMILIES: Mapping[str, tuple[Fault, ...]] = {
    "the line": LINE,
    "servos and port": SERVOS,
    "cameras": CAMERAS,
    "the policy": POLICY,
    "processes and disk": PROCESSES,
    "the operator": OPERATOR,
}
CATALOGUE: Mapping[str, Fault] = {fault.name: fault for family in FAMILIES.values() for fault in family}
KILLS: Mapping[str, str] = {  # what `--kill` names -> the fault
    "policy": "policy_killed",
    "servo": "servo_killed",
    "guardian": "guardian_killed",
    "emulator": "emulator_killed",
}
