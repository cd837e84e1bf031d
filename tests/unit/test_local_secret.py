"""`mlops:local:Secret`: its file is what the state says, or is written again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulumi_mlops.targets.local.resources.secret import SecretHandler, SecretInputs

from .provider_fixtures import make_context


@pytest.mark.parametrize("content", [None, "", "abc"], ids=["missing", "empty", "cut off"])
def test_a_file_that_a_full_disk_cut_off_is_written_again(
    content: str | None, tmp_path: Path
) -> None:
    handler, ctx = SecretHandler(), make_context(tmp_path, SecretHandler.token, "key")
    resource_id, state = handler.create(ctx, SecretInputs())
    file = Path(state["path"])
    assert handler.drift(ctx, resource_id, state) == {}
    assert (handler.read(ctx, resource_id, state) or {})["status"] == "present"
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert handler.drift(ctx, resource_id, state) == {"status": "missing"}
    assert (handler.read(ctx, resource_id, state) or {})["status"] == "missing"
    assert handler.update(ctx, resource_id, state, SecretInputs()) == state
    assert file.read_text() == state["value"]
