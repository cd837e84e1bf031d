"""Reading, merging and writing Prometheus' text format."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pulumi_mlops.runtime.monitor.exposition import (
    Family,
    ParseError,
    Sample,
    merge,
    parse,
    relabel,
    render,
)

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}[a-z0-9]", fullmatch=True).filter(
    lambda name: not name.endswith(("_total", "_created", "_info", "_bucket", "_sum", "_count"))
)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]) | st.just("\n"))
values = st.floats(allow_nan=False)
samples = st.dictionaries(names.filter(lambda name: name != "le"), texts, max_size=3)


def families_of(kind: str) -> st.SearchStrategy[Family]:
    def build(name: str, labels: list[dict[str, str]], value: float) -> Family:
        full = name + "_total" if kind == "counter" else name
        unique = {tuple(sorted(one.items())): one for one in labels}
        return Family(full, kind, "help", [Sample(full, one, value) for one in unique.values()])

    return st.builds(build, names, st.lists(samples, min_size=1, max_size=3), values)


exposed = st.lists(
    families_of("gauge") | families_of("counter") | families_of("untyped"),
    max_size=4,
    unique_by=lambda family: family.name,
)


@given(exposed)
def test_what_is_written_reads_back(families: list[Family]) -> None:
    # The parser strips lines, as the format lets it: blank ends of a label's last value stay.
    assert parse(render(families)) == families


@given(st.lists(exposed, max_size=4))
def test_merging_keeps_every_sample_in_one_family_a_name(targets: list[list[Family]]) -> None:
    sources = [({"job": "j", "instance": str(i)}, one) for i, one in enumerate(targets)]
    text = render(merge(sources))
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    read = [s for family in text_string_to_metric_families(text) for s in family.samples]
    assert len(read) == sum(len(f.samples) for target in targets for f in target)
    assert all(s.labels["job"] == "j" for s in read)
    keys = [(s.name, tuple(sorted(s.labels.items()))) for s in read]
    assert len(keys) == len(set(keys))


def exporter(amount: int) -> str:
    registry = CollectorRegistry()
    Counter("requests", "Requests.", ["code"], registry=registry).labels("200").inc(amount)
    Gauge("weight", 'A "quoted"\nhelp \\ text.', registry=registry).set(math.inf)
    Histogram("seconds", "Durations.", buckets=(0.1, 1), registry=registry).observe(0.5)
    Summary("bytes", "Sizes.", registry=registry).observe(7)
    return generate_latest(registry).decode()


def test_real_exporters_pass_through_unchanged() -> None:
    once = render(merge([({}, parse(exporter(3)))]))
    as_read = {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(once)
        for s in family.samples
    }
    expected = {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(exporter(3))
        for s in family.samples
    }
    # Creation times differ by when the two registries were made.
    assert {k: v for k, v in as_read.items() if not k[0].endswith("_created")} == {
        k: v for k, v in expected.items() if not k[0].endswith("_created")
    }
    assert "# TYPE requests_total counter" in once
    assert "# TYPE seconds histogram" in once
    assert "# TYPE bytes summary" in once


def test_a_counter_without_total_keeps_its_name() -> None:
    families = parse("# TYPE hits counter\nhits 3\n")
    assert families == [Family("hits", "counter", "", [Sample("hits", {}, 3.0)])]
    assert render(families) == "# TYPE hits counter\nhits 3.0\n"


def test_types_that_conflict_do_not_duplicate_a_family() -> None:
    one = parse("# TYPE load gauge\nload 1\n")
    other = parse('# TYPE load histogram\nload_bucket{le="+Inf"} 2\nload_sum 1\nload_count 2\n')
    text = render(merge([({"instance": "a"}, one), ({"instance": "b"}, other)]))
    assert text.count("# TYPE load gauge") == 1
    assert "# TYPE load histogram" not in text
    assert 'load_count{instance="b"} 2.0' in text


def test_labels_of_the_target_win_and_the_scraped_ones_are_kept() -> None:
    scraped = {"job": "own", "exported_job": "older", "code": "200"}
    assert relabel(scraped, {"job": "serving"}) == {
        "exported_exported_job": "own",
        "exported_job": "older",
        "code": "200",
        "job": "serving",
    }


def test_timestamps_survive() -> None:
    assert render(parse("# TYPE a gauge\na 1 1700000000123\n")).endswith("a 1.0 1700000000123\n")


@pytest.mark.parametrize("text", ["<html>", 'a{b="c} 1', "a one", "a{b=c} 1", "# TYPE a"])
def test_what_is_not_the_format_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ParseError) as error:
        parse(text + "\n")
    assert str(error.value).startswith("not Prometheus text format")
    assert "\n" not in str(error.value)
