"""Projects of their own for tests, driven as a user drives them: files, and the pulumi command.

    project = Project(folder, program=LIGHT)
    stack = project.stack("dev", {"app:greeting": "hello"})
    stack.up()
    assert stack.outputs()["url"]
    stack.destroy()

Each project has a PULUMI_HOME, a file backend and a passphrase of its own. All that any command
printed is kept in `project.transcript`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psutil
import yaml

from pulumi_mlops.files import read_json
from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.host import ports

REPOSITORY = Path(__file__).resolve().parents[2]
PLATFORM = (REPOSITORY / "stacks" / "__main__.py").read_text()
DEV = yaml.safe_load((REPOSITORY / "stacks" / "Pulumi.dev.yaml").read_text())["config"]
PENGUIN = {
    "bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181.0,
    "body_mass_g": 3750.0, "island": "Torgersen", "sex": "male",
}  # fmt: skip
INVOCATION = {"dataframe_records": [PENGUIN]}
"""A request to the penguins endpoint; the answer is Adelie."""
_PASSPHRASE = "correct horse battery staple"


class Project:
    """A folder with a Pulumi.yaml, a program and, where asked, pipelines."""

    def __init__(
        self, folder: Path, program: str, *, name: str = "platform", pipelines: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.transcript = folder / "transcript.log"
        self.stacks: list[Stack] = []
        folder.mkdir(parents=True)
        for part in ("stacks", "state", "home"):
            (folder / part).mkdir(mode=0o700)
        plugin = Path(sys.executable).parent
        self._write(
            "Pulumi.yaml",
            yaml.safe_dump(
                {
                    "name": name,
                    "runtime": "python",
                    "main": "stacks/",
                    "stackConfigDir": "stacks/",
                    "plugins": {"providers": [{"name": "mlops", "path": str(plugin)}]},
                }
            ),
        )
        self.program(program)
        for pipeline in pipelines:
            shutil.copytree(REPOSITORY / pipeline, folder / pipeline)
        self.env = {
            **os.environ,
            "PATH": f"{plugin}:{os.environ['PATH']}",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}?metadata=skip",
            "PULUMI_CONFIG_PASSPHRASE": _PASSPHRASE,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",
        }

    def program(self, text: str) -> None:
        self._write("stacks/__main__.py", text)

    def stack(self, name: str, config: Mapping[str, Any] | None = None) -> Stack:
        """A new stack, its config file written in the form that users write."""
        stack = Stack(self, name)
        stack.configure(config or {})
        stack.pulumi("stack", "init", name)
        self.stacks.append(stack)
        return stack

    def destroy(self) -> None:
        """Destroy what is up in every stack, also after an update that was killed."""
        for stack in self.stacks:
            stack.end_language_hosts()
            if stack.locked():
                stack.cancel()
            if stack.resources():
                stack.destroy()

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)


@dataclass(frozen=True)
class Change:
    """One step of a preview: what is done to a resource, and the property paths that differ."""

    op: str
    paths: frozenset[str]


class Stack:
    """One stack of a project."""

    def __init__(self, project: Project, name: str) -> None:
        self.project = project
        self.name = name
        self.config_file = project.folder / "stacks" / f"Pulumi.{name}.yaml"
        self.root = StackDir(project.folder / ".mlops" / name)
        self.applied: Mapping[str, Any] | None = None
        """The configuration that the last `apply` brought up."""

    def apply(self, config: Mapping[str, Any]) -> None:
        """Bring up `config`, unless it is up already."""
        if config != self.applied:
            self.configure(config)
            self.up()
            self.applied = deepcopy(dict(config))

    @contextlib.contextmanager
    def configured(self, config: Mapping[str, Any]) -> Iterator[None]:
        """Have another configuration for a while, as somebody does who only wants to see."""
        before, applied = self.config_file.read_text(), self.applied
        self.configure(config)
        try:
            yield
        finally:
            self.config_file.write_text(before)
            self.applied = applied

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write the stack's configuration, other than its encryption settings, anew."""
        self.applied = None
        found = {}
        if self.config_file.exists():
            found = yaml.safe_load(self.config_file.read_text()) or {}
        self.config_file.write_text(yaml.safe_dump({**found, "config": dict(config)}))
        if directory := config.get("mlops:dataDir"):
            self.root = StackDir(Path(directory) / self.name)

    def pulumi(self, *arguments: str, expect_success: bool | None = True) -> str:
        """Run `pulumi <arguments>` on this stack; all that it printed.

        `expect_success` None lets either end pass.
        """
        running = self.start(*arguments)
        output = running.wait()
        if expect_success is not None and (running.code == 0) != expect_success:
            meant = "succeed" if expect_success else "fail"
            raise AssertionError(f"was to {meant}: pulumi {' '.join(arguments)}\n{output}")
        return output

    def start(self, *arguments: str) -> Running:
        return Running(self, [*arguments, "--stack", self.name] if arguments[0] != "stack"
                       else [*arguments])  # fmt: skip

    def up(self, *arguments: str, expect_success: bool | None = True) -> str:
        return self.pulumi(
            "up", "--yes", "--skip-preview", *arguments, expect_success=expect_success
        )

    def preview(self, *arguments: str, expect_success: bool | None = True) -> str:
        return self.pulumi("preview", *arguments, expect_success=expect_success)

    def destroy(self) -> str:
        return self.pulumi("destroy", "--yes", "--skip-preview")

    def cancel(self) -> None:
        """Take away the lock that a killed update has left."""
        self.pulumi("cancel", "--yes")

    def end_language_hosts(self) -> None:
        """End what the engine itself leaves behind when it is killed; it holds no resource."""
        for process in belonging_to(self.project.folder):
            with contextlib.suppress(psutil.Error):
                if "pulumi-language-" in " ".join(process.cmdline()[:3]):
                    process.kill()

    def locked(self) -> bool:
        return any((self.project.folder / "state").glob(f".pulumi/locks/**/{self.name}/*.json"))

    def changes(self) -> dict[str, Change]:
        """What an update would do, by resource name; resources that stay the same are left out."""
        answer = json.loads(_json_of(self.pulumi("preview", "--json")))
        return {
            step["urn"].rsplit("::", 1)[-1]: Change(
                step["op"], frozenset((step.get("detailedDiff") or {}).keys())
            )
            for step in answer["steps"]
            if step["op"] != "same"
        }

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, secret ones in plain text; not part of the transcript."""
        done = subprocess.run(
            ["pulumi", "stack", "output", "--json", "--show-secrets", "--stack", self.name],
            cwd=self.project.folder, env=self.project.env, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        return dict(json.loads(done.stdout))

    def state_file(self) -> Path:
        (file,) = (self.project.folder / "state").glob(f".pulumi/stacks/*/{self.name}.json")
        return file

    def resources(self) -> dict[str, dict[str, Any]]:
        """What the state has, by resource name."""
        state = json.loads(self.state_file().read_text())
        found = state["checkpoint"]["latest"].get("resources") or []
        return {each["urn"].rsplit("::", 1)[-1]: each for each in found}

    def pending(self) -> list[str]:
        """The resources that an interrupted update was at work on."""
        state = json.loads(self.state_file().read_text())
        found = state["checkpoint"]["latest"].get("pending_operations") or []
        return [each["resource"]["urn"].rsplit("::", 1)[-1] for each in found]

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for this stack: the supervisor, programs, jobs, installers."""
        return belonging_to(self.root.path)

    def programs(self) -> dict[str, list[int]]:
        """The process ids of each program that carries a name of this stack."""
        found: dict[str, list[int]] = {}
        for process in self.processes():
            if cookie := _variables(process).get("MLOPS_PROGRAM"):
                name = cookie.removeprefix(f"{self.root.path}:")
                if not name.startswith("daemon:"):
                    found.setdefault(name, []).append(process.pid)
        return found

    def ports(self) -> dict[str, int]:
        return dict(read_json(self.root.path / "ports.json") or {})

    def leftovers(self) -> list[str]:
        """Processes, ports, sockets and files of this stack, each in words."""
        runtime = Path("/tmp") / f"mlops-{os.getuid()}-{self.root.key}"
        return [
            *(f"process {each.pid} {_command(each)}" for each in self.processes()),
            *(f"port {claim}" for claim in claims(self.root.path)),
            *(str(path) for path in files_in(self.root.path, runtime)),
        ]


class Running:
    """A pulumi command under way, in a process group of its own."""

    def __init__(self, stack: Stack, arguments: Sequence[str]) -> None:
        self._project = stack.project
        self._arguments = arguments
        self._file = stack.project.folder / f"output-{stack.name}-{time.monotonic_ns()}.log"
        with self._file.open("w") as output:
            self.process = subprocess.Popen(
                ["pulumi", *arguments, "--non-interactive", "--color", "never"],
                cwd=stack.project.folder, env=stack.project.env, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def code(self) -> int:
        return self.process.wait()

    def output(self) -> str:
        return self._file.read_text(errors="replace")

    def wait(self) -> str:
        """Wait for its end; what it printed."""
        self.process.wait()
        output = self.output()
        self._file.unlink(missing_ok=True)
        with self._project.transcript.open("a") as transcript:
            transcript.write(f"$ pulumi {' '.join(self._arguments)}\n{output}\n")
        return output

    def reached(self, text: str) -> bool:
        """Whether it prints `text`, waiting for that or its end."""
        while text not in self.output():
            if self.process.poll() is not None:
                return text in self.output()
            time.sleep(0.02)
        return True

    def helpers(self) -> list[psutil.Process]:
        """The engine's language hosts and plugins."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> None:
        """As Ctrl-C in a terminal does: to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)


def until(true: Callable[[], Any], what: str = "", seconds: float = 120) -> Any:
    """Wait until `true()` is, and return it; `seconds` only bounds a test that has failed."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        if time.monotonic() > deadline:
            raise AssertionError(f"never came: {what or true}")
        time.sleep(0.1)
    return value


def belonging_to(folder: Path) -> list[psutil.Process]:
    """Processes that `folder` is named in the command or environment of, this one left out."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            texts = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:  # has ended, or a zombie
            continue
        if any(_names(text, folder) for text in texts):
            found.append(process)
    return found


def claims(folder: Path) -> dict[str, int]:
    """The ports that stacks in or below `folder` hold in the registry that all stacks share."""
    return {
        f"{file.name} ({owner})": int(file.name)
        for file, (stack, owner) in ports.claims().items()
        if _names(str(stack), folder)
    }


def end_everything_in(folder: Path) -> None:
    """End all processes of stacks in or below `folder`, and release their ports."""
    while left := belonging_to(folder):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)
    for file, (stack, _) in ports.claims().items():
        if _names(str(stack), folder):
            file.unlink()


def _names(text: str, folder: Path) -> bool:
    """Whether `text` names `folder` itself or something in it, and no longer name beside it."""
    start = text.find(str(folder))
    return start >= 0 and text[start + len(str(folder)) :][:1] in ("", "/", ":", "'", '"', " ")


def _variables(process: psutil.Process) -> dict[str, str]:
    try:
        return dict(process.environ())
    except psutil.Error:
        return {}


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200]
    except psutil.Error:
        return "(ended)"


def _json_of(output: str) -> str:
    """The JSON document in what a command printed; warnings may stand before it."""
    return output[output.index("{") : output.rindex("}") + 1]


def client(outputs: Mapping[str, Any]) -> Any:
    """An S3 client of the artifact store that a stack's outputs name."""
    env = outputs["client_env"]
    return boto3.client(
        "s3",
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_DEFAULT_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )


class Commands:
    """Every command line that any process of this machine has shown while this watched."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="commands", daemon=True)
        self._thread.start()

    def seen(self) -> list[str]:
        return [command.decode(errors="replace") for command in set(self._seen)]

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(0.1):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self._seen.add(file.read_bytes())


def files_with(texts: Iterable[str], *folders: Path, without: Sequence[str] = ()) -> list[Path]:
    """The files below `folders` that hold one of `texts`; folders called `without` are left out."""
    done = subprocess.run(
        ["grep", "-rlFZ", "-f", "-", *(f"--exclude-dir={name}" for name in without), "--",
         *map(str, folders)],
        input="".join(f"{text}\n" for text in texts).encode(), capture_output=True,
        check=False,
    )  # fmt: skip
    return [Path(os.fsdecode(name)) for name in done.stdout.split(b"\0") if name]


def files_in(*folders: Path) -> list[Path]:
    """All files, sockets and empty folders in those of `folders` that exist."""
    found = []
    for folder in folders:
        for parent, inner, names in os.walk(folder):
            found += [Path(parent, name) for name in names]
            if not inner and not names:
                found.append(Path(parent))
    return sorted(found)


def exposed(path: Path) -> bool:
    """Whether others than its owner may read it."""
    return bool(path.stat().st_mode & 0o077)
