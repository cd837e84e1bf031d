"""supervisord reads its configuration as it was meant, whatever the path of the project."""

from __future__ import annotations

from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.targets.local.host import supervisord


def written(folder: Path) -> Path:
    """A configuration file with one program, all paths below `folder`."""
    (folder / "logs").mkdir(parents=True)
    command = [str(folder / "python"), "-c", "print('100 %')"]
    section = supervisord.program_section("web", command, folder / "logs" / "web.log", "TERM", 10)
    file = folder / "supervisord.conf"
    file.write_text(supervisord.configuration(folder, folder / "socket", [section]))
    return file


@pytest.mark.parametrize(
    "name",
    ["plain", "50%", "50%sure", "%%", "%s", "%(program_name)s", "two words", "ä [b] {c}", "#1;"],
)
def test_any_path(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    options = ServerOptions()
    options.realize(args=["-c", str(written(folder))])
    (group,) = options.process_group_configs
    (program,) = group.process_configs
    assert program.stdout_logfile == str(folder / "logs" / "web.log")
    assert supervisord.shlex.split(program.command)[0] == str(folder / "python")
    assert supervisord.shlex.split(program.command)[2] == "print('100 %')"
    assert options.logfile == str(folder / "supervisord.log")
    assert options.childlogdir == str(folder)
    assert options.pidfile == str(folder / "supervisord.pid")
    assert options.server_configs[0]["file"] == str(folder / "socket")


@pytest.mark.parametrize("name", ["a #b", "a ;b", "%(here)s"])
def test_a_path_that_the_configuration_cannot_contain_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="move the project"):
        written(tmp_path / name)
