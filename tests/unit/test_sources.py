"""Which files of a folder are code, and when their digest changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulumi_mlops.sources import copy, digest, find_project, left_out, source_files

FILES = {"run.py": "print(1)", "penguins/__init__.py": "", "penguins/data.csv": "a,b\n"}


def make(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return make(tmp_path / "code", FILES)


def names(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in source_files(folder)]


def test_a_digest_is_short_and_the_same_anywhere_and_in_any_order(
    code: Path, tmp_path: Path
) -> None:
    other = make(tmp_path / "elsewhere", dict(reversed(FILES.items())))
    assert len(digest(code)) == 16
    assert digest(other) == digest(code)


def test_times_do_not_count(code: Path) -> None:
    before = digest(code)
    os.utime(code / "run.py", (0, 0))
    assert digest(code) == before


@pytest.mark.parametrize(
    "left_out",
    [
        ".env",
        ".git/HEAD",
        "__pycache__/run.cpython-311.pyc",
        "penguins/old.pyc",
        "mlruns/0/meta.yaml",
        "lib.egg-info/PKG-INFO",
        "node_modules/x/index.js",
    ],
)
def test_what_is_no_source_does_not_count(code: Path, left_out: str) -> None:
    before = digest(code)
    make(code, {left_out: "x"})
    assert digest(code) == before


@pytest.mark.parametrize("folder", ["build", "dist", "penguins/build"])
def test_build_output_does_not_count_next_to_the_project_that_wrote_it(
    code: Path, folder: str
) -> None:
    make(code, {f"{folder}/run.py": "x"})
    assert f"{folder}/run.py" in names(code)
    make(code, {f"{Path(folder).parent}/pyproject.toml": ""})
    assert f"{folder}/run.py" not in names(code)
    assert left_out(code) == [f"{folder}/ (build output)"]


def test_what_is_left_out_is_named_with_its_reason(code: Path, tmp_path: Path) -> None:
    make(tmp_path / "outside", {"a.csv": "1"})
    make(code, {".env": "A=1", ".config/x": "", "mlruns/0/meta.yaml": "", ".git/HEAD": ""})
    make(code, {"__pycache__/a.pyc": "", ".venv/pyvenv.cfg": "", ".gitignore": "", "e.pyc": ""})
    (code / "data").symlink_to(tmp_path / "outside")
    (code / "penguins" / "up").symlink_to(code)
    (code / "dead").symlink_to(code / "nowhere")
    os.mkfifo(code / "pipe")
    assert left_out(code) == [
        ".config/ (hidden)",
        ".env (hidden)",
        f"data (a link to a folder outside, {tmp_path / 'outside'})",
        "dead (a broken link)",
        "mlruns/ (never deployed)",
        "pipe (not a regular file)",
        "penguins/up (a link to a folder that contains it)",
    ]
    assert names(code) == ["run.py", "penguins/__init__.py", "penguins/data.csv"]


def test_a_link_to_a_folder_inside_counts_as_the_folder(code: Path, tmp_path: Path) -> None:
    (code / "linked").symlink_to("penguins")
    assert names(code)[-2:] == ["penguins/__init__.py", "penguins/data.csv"]
    assert "linked/data.csv" in names(code)
    before = digest(code)
    copy(code, tmp_path / "copied")
    assert (tmp_path / "copied" / "linked" / "data.csv").read_text() == "a,b\n"
    assert digest(tmp_path / "copied") == before
    assert left_out(code) == []


def test_links_in_a_circle_end(code: Path) -> None:
    make(code, {"a/x": "", "b/y": ""})
    (code / "a" / "to_b").symlink_to(code / "b")
    (code / "b" / "to_a").symlink_to(code / "a")
    assert "a/to_b/y" in names(code)
    assert "b/to_a/x" in names(code)
    assert len(left_out(code)) == 2


def test_a_single_file_has_a_digest_and_can_be_copied(tmp_path: Path) -> None:
    wheel = tmp_path / "x.whl"
    wheel.write_text("1")
    copy(wheel, tmp_path / "new" / "x.whl")
    assert digest(tmp_path / "new" / "x.whl") == digest(wheel)
    wheel.write_text("2")
    assert digest(tmp_path / "new" / "x.whl") != digest(wheel)


def test_a_virtual_environment_does_not_count_whatever_its_name(code: Path) -> None:
    before = digest(code)
    make(code, {"env/pyvenv.cfg": "", "env/lib/x.py": "x"})
    assert digest(code) == before


@pytest.mark.parametrize("name", ["new.py", "penguins/new.csv", "Übung.py"])
def test_a_new_file_counts(code: Path, name: str) -> None:
    before = digest(code)
    make(code, {name: ""})
    assert digest(code) != before


def test_content_name_place_and_run_bit_count(code: Path) -> None:
    seen = {digest(code)}
    (code / "run.py").write_text("print(2)")
    seen.add(digest(code))
    (code / "run.py").rename(code / "main.py")
    seen.add(digest(code))
    (code / "main.py").rename(code / "penguins" / "main.py")
    seen.add(digest(code))
    (code / "penguins" / "main.py").chmod(0o755)
    seen.add(digest(code))
    assert len(seen) == 5


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "b", "ab", "a/b", "b/a"]), st.binary(max_size=3)),
    st.dictionaries(st.sampled_from(["a", "b", "ab", "a/b", "b/a"]), st.binary(max_size=3)),
)
def test_other_files_have_another_digest(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    digests = []
    for files in (one, other):
        folder = tmp_path_factory.mktemp("code")
        for name, content in files.items():
            file = folder / name.replace("/", "_dir/")
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
        digests.append(digest(folder))
    assert (digests[0] == digests[1]) == (one == other)


def test_sockets_pipes_and_dead_links_do_not_count(code: Path) -> None:
    before = digest(code)
    os.mkfifo(code / "pipe")
    (code / "dead").symlink_to(code / "nowhere")
    assert digest(code) == before


def test_a_link_to_a_file_counts_as_the_file(code: Path, tmp_path: Path) -> None:
    outside = tmp_path / "shared.py"
    outside.write_text("x = 1")
    (code / "shared.py").symlink_to(outside)
    before = digest(code)
    outside.write_text("x = 2")
    assert digest(code) != before
    copy(code, tmp_path / "copied")
    assert (tmp_path / "copied" / "shared.py").read_text() == "x = 2"
    assert not (tmp_path / "copied" / "shared.py").is_symlink()


def test_links_in_circles_end(code: Path) -> None:
    (code / "penguins" / "up").symlink_to(code)
    assert names(code) == ["run.py", "penguins/__init__.py", "penguins/data.csv"]


def test_a_name_need_not_be_unicode(code: Path) -> None:
    before = digest(code)
    (code / os.fsdecode(b"\xff.py")).write_text("")
    assert digest(code) != before


def test_a_copy_has_the_sources_and_nothing_else(code: Path, tmp_path: Path) -> None:
    make(code, {".env": "SECRET=1", "__pycache__/x.pyc": ""})
    (code / "run.py").chmod(0o755)
    to = tmp_path / "snapshot"
    copy(code, to)
    assert digest(to) == digest(code)
    assert names(to) == names(code)
    assert not (to / ".env").exists()


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        digest(tmp_path / "none")


def test_the_project_is_the_nearest_folder_with_a_pulumi_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "project" / "stacks" / "deep"
    inner.mkdir(parents=True)
    assert find_project(inner) == inner
    (tmp_path / "project" / "Pulumi.yaml").touch()
    assert find_project(inner) == tmp_path / "project"
    monkeypatch.chdir(inner)
    assert find_project() == tmp_path / "project"
