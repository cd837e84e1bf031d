"""What `import pulumi_mlops` gives."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

import pulumi_mlops


@pytest.mark.parametrize("collecting", [True, False])
def test_the_collector_is_left_as_it_was(collecting: bool) -> None:
    program = (
        f"import gc; gc.enable() if {collecting} else gc.disable()\n"
        "import pulumi_mlops as mlops\n"
        "from pulumi_mlops import config\n"
        "print([getattr(mlops, name) for name in mlops.__all__] and gc.isenabled())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(collecting)


def test_an_import_that_fails_leaves_the_collector_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pulumi_mlops._HOME, "Nothing", "no_such_module")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        assert pulumi_mlops.Nothing
    assert gc.isenabled()


def test_a_name_that_was_used_before_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pulumi_mlops.ArtifactStore
    calls: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append("freeze"))
    assert pulumi_mlops.ArtifactStore
    assert not calls, "what the program has made meanwhile would never be collected"


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'ArtefactStore'"):
        assert pulumi_mlops.ArtefactStore


def test_using_the_components_imports_no_target() -> None:
    program = (
        "import sys, pulumi_mlops as mlops\n"
        "[getattr(mlops, name) for name in mlops.__all__]\n"
        "heavy = ('pulumi_kubernetes', 'kr8s', 'boto3', 'supervisor', 'apscheduler', 'httpx')\n"
        "print([name for name, module in sys.modules.items() if name.split('.')[0] in heavy\n"
        "       or name.startswith('pulumi_mlops.plugin')\n"
        "       or name.startswith('pulumi_mlops.targets.') and hasattr(module, '__path__')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    # The port and the registry are modules of `targets`. A target is a package there.
    assert done.stdout.strip() == "[]"
