"""The replicas of a process on this machine: their definitions, ports, logs and removal.

A replica is a program of the supervisor named `<resource id>-<index>`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ....files import remove_tree, write_private
from ....plugin.values import known_text
from ....stackdir import StackDir, is_generation
from ..host import health, ports
from ..host.names import log_file, program_name
from ..host.programs import command_of, environment_of, working_directory
from ..host.supervisor import Program, Supervisor

if TYPE_CHECKING:
    from .process import ProcessInputs


def definition(
    root: StackDir,
    resource_id: str,
    index: int,
    inputs: ProcessInputs,
    port_numbers: dict[str, int],
) -> Program:
    """The supervisor's definition of one replica. Writes its private files."""
    name = program_name(resource_id, index)
    folder = root.folder("programs", name)
    files = root.folder("programs", name, "files")
    for file, content in inputs.files.items():
        write_private(files / file, known_text(content))
    for stale in {entry.name for entry in files.iterdir()} - set(inputs.files):
        remove_tree(files / stale)
    content = hashlib.sha256(json.dumps(dict(inputs.files), sort_keys=True).encode()).hexdigest()
    variables = {
        "HOST": "127.0.0.1",
        "HOST_NAMES": "localhost,localhost:*,127.0.0.1,127.0.0.1:*",
        "REPLICA": str(index),
        "FILES_DIR": str(files),
        "RUNTIME_DIR": str(root.socket_folder(name)),
        "TMPDIR": str(root.socket_folder(name)),
        **({"PORT": str(port_numbers["http"])} if "http" in port_numbers else {}),
        **{
            f"PORT_{port.upper().replace('-', '_')}": str(port_numbers[port])
            for port in port_numbers
        },
        **({"DATA_DIR": known_text(inputs.data)} if inputs.data else {}),
        # Of the routed processes alone: the others would restart for a new variable.
        **(_shared_folders(root) if inputs.routed else {}),
        **({"FETCHED_DIR": known_text(inputs.fetched)} if inputs.fetched else {}),
    }
    if inputs.files and not inputs.rereads_files:
        # A changed definition restarts the program.
        variables["FILES_DIGEST"] = content[:16]
    env = environment_of(root, inputs.environment, inputs.code, inputs.env, variables)
    return Program(
        name=name,
        command=command_of(inputs.environment, inputs.command, env),
        env=env,
        cwd=working_directory(inputs.code) or folder,
        log=log_file(root, name),
        stop_seconds=inputs.stop_seconds,
        scratch=str(root.socket_folder(name)),
        health=asdict(health.HealthCheck(port_numbers[inputs.health.port], inputs.health.path)),
    )


def _shared_folders(root: StackDir) -> dict[str, str]:
    return {
        "START_SLOTS_DIR": str(root.runtime / "starts"),
        "SPOOL_DIR": str(root.folder("spool")),
        "SPOOL_SHARED": "true",
    }


def port_owner(resource_id: str, index: int, port: str) -> str:
    """The name under which a replica claims a port."""
    return f"{program_name(resource_id, index)}/{port}"


def _split(program: str) -> tuple[str, int] | None:
    """The resource id and the index in the name of a program, or None if it is not a replica."""
    resource_id, _, index = program.rpartition("-")
    return (resource_id, int(index)) if resource_id and index.isdigit() else None


def _replicas_on_machine(root: StackDir) -> set[tuple[str, int]]:
    """The resource id and the index of every replica with a definition or a claimed port."""
    folder = root.path / "programs"
    names = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    names |= {owner.split("/", 1)[0] for owner in ports.owners(root)}
    return {replica for name in names if (replica := _split(name)) is not None}


def instances_on_machine(root: StackDir, name: str) -> set[str]:
    """The resource ids of the process `name` and of its generations."""
    ids = {resource_id for resource_id, _ in _replicas_on_machine(root)}
    return {each for each in ids if each == name or is_generation(each, name)}


def _remove_replica(root: StackDir, resource_id: str, index: int, keep_logs: bool = False) -> None:
    name = program_name(resource_id, index)
    Supervisor(root).stop(name)
    remove_tree(root.socket_folder(name))
    for owner in list(ports.owners(root)):
        if owner.startswith(f"{name}/"):
            ports.release(root, owner)
    if not keep_logs:
        for log in (root.path / "logs").glob(f"{name}.log*"):
            log.unlink(missing_ok=True)


def remove_surplus(root: StackDir, resource_id: str, replicas: int) -> None:
    """Stop and remove the replicas with an index of `replicas` or more."""
    for replica_of, index in sorted(_replicas_on_machine(root)):
        if replica_of == resource_id and index >= replicas:
            _remove_replica(root, resource_id, index)


def remove(root: StackDir, resource_id: str, keep_logs: bool = False) -> None:
    """Stop and remove every replica."""
    for replica_of, index in sorted(_replicas_on_machine(root)):
        if replica_of == resource_id:
            _remove_replica(root, resource_id, index, keep_logs)
