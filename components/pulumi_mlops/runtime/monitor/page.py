"""The HTML of the dashboard, rendered from the status document. The script only refreshes it."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from . import quality, text
from .chart import share_bar, sparkline, stacked_bar

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MAX_CLASSES = 6
ORDER = ("down", "degraded", "unknown", "up")
STATE_WORDS = {"ok": "OK", "attention": "Attention", "waiting": "Waiting", "stale": "Stale"}
STATE_MARKS = {
    "ok": "✓", "attention": "!", "waiting": "…", "stale": "!",
    "up": "✓", "degraded": "!", "down": "✕", "unknown": "…",
}  # fmt: skip


def document(status: Mapping[str, Any], links: Mapping[str, str]) -> str:
    """The whole HTML document."""
    stack = escape(status["stack"])
    refresh = min(max(status["interval_seconds"], 1.0), 15.0)
    navigation = "".join(
        f'<li><a href="{escape(url)}">{escape(name)}</a></li>' for name, url in links.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{stack} · monitor</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="static/monitor.css">
<script src="static/monitor.js" defer></script>
<noscript><meta http-equiv="refresh" content="{max(refresh, 5):g}"></noscript>
</head>
<body data-refresh-seconds="{refresh:g}" data-stack="{stack}">
<header>
<h1>{stack}</h1>
{f'<nav aria-label="Services"><ul>{navigation}</ul></nav>' if navigation else ""}
<p id="age"></p>
</header>
<p id="announce" class="hidden" role="status"></p>
<p id="unreachable" class="banner bad" role="alert" hidden></p>
<main id="main">
{fragment(status)}
</main>
<footer>
<p>Scraped every {status["interval_seconds"]:g}{text.SPACE}s · rates over the last
{text.duration(status["window_seconds"])} · charts over the last
{text.duration(status["history_seconds"])} ·
<a href="api/status">status as JSON</a> · <a href="federate">all metrics</a> ·
<a href="metrics">metrics of the monitor</a> · <a href="sd">Prometheus targets</a></p>
</footer>
</body>
</html>
"""


def fragment(status: Mapping[str, Any]) -> str:
    """The part that refreshes: state, endpoints, prediction logs and services."""
    series = status["series"]
    parts = [
        f'<div id="state" data-time="{status["time"]:.3f}" data-state="{status["state"]}">'
        f"{_badge(status['state'], STATE_WORDS[status['state']])} "
        f'<span id="summary">{escape(status["summary"])}</span></div>'
    ]
    if status["stale"]:
        since = status["last_round"]
        last = f"were last read {_ago(status, since)}" if since else "have never been read"
        parts.append(
            f'<p class="banner bad">These figures are stale: they {last}, '
            f"but the interval is {status['interval_seconds']:g}{text.SPACE}s. "
            "Read the log of the monitor and restart it.</p>"
        )
    if series["refused"]:
        parts.append(
            f'<p class="banner warn">{series["refused"]:,} series are not recorded because the '
            f"limit is {series['limit']:,}. The figures below may be too low.</p>"
        )
    parts += [_endpoint(status, endpoint) for endpoint in status["endpoints"]]
    if not status["endpoints"]:
        parts.append(
            '<section><h2>Endpoints</h2><p class="quiet">No endpoint has reported yet.</p>'
            "</section>"
        )
    parts += [_quality(status), _prediction_logs(status["prediction_logs"]), _services(status)]
    return "\n".join(part for part in parts if part)


def _badge(state: str, word: str) -> str:
    mark = STATE_MARKS[state]
    return (
        f'<span class="badge {state}"><span aria-hidden="true">{mark}</span> {escape(word)}</span>'
    )


def _ago(status: Mapping[str, Any], unix: float) -> str:
    return (
        f'<time datetime="{text.iso(unix)}">{text.duration(status["time"] - unix)}</time>'
        f"{text.SPACE}ago"
    )


def _table(name: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table. On a narrow screen the style sheet shows it as a list of cards.

    The roles keep it a table for screen readers in both cases. The first column is the header of
    its row.
    """
    head = "".join(f'<th role="columnheader" scope="col">{column}</th>' for column in columns)
    body = []
    for row in rows:
        cells = "".join(
            f'<td role="cell" data-label="{column}">{cell}</td>'
            for column, cell in zip(columns[1:], row[1:], strict=True)
        )
        body.append(f'<tr role="row"><th role="rowheader" scope="row">{row[0]}</th>{cells}</tr>')
    return (
        f'<table role="table" class="{name}"><caption class="hidden">{escape(caption)}</caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(body)}</tbody></table>'
    )


def _endpoint(status: Mapping[str, Any], endpoint: Mapping[str, Any]) -> str:
    name = endpoint["endpoint"]
    minutes = text.duration(status["history_seconds"])
    # A class has the same colour in all versions of an endpoint.
    names = sorted({item["class"] for v in endpoint["versions"] for item in v["classes"]})
    colours = {name: min(index, MAX_CLASSES) for index, name in enumerate(names)}
    table = _table(
        "versions",
        f"Model versions of {name}",
        ["Version", "Traffic", "Requests", "Errors", "Latency", "Predicted classes", "Servers"],
        [_version(version, minutes, colours) for version in endpoint["versions"]],
    )
    figures = f"Models: {_rate_and_errors(endpoint)}"
    if endpoint["route"]:
        figures = f"Route: {_rate_and_errors(endpoint['route'])} · {figures}"
    return (
        f'<section class="endpoint"><h2>{escape(name)}</h2>'
        f'<p class="quiet">{figures}</p>{table}</section>'
    )


def _rate_and_errors(figures: Mapping[str, Any]) -> str:
    rate = text.rate(figures["requests_per_second"])
    if figures["error_ratio"] is None:
        return rate
    return f"{rate}, {_errors(figures['error_ratio'])} errors"


def _errors(share: float) -> str:
    words = text.percent(share)
    return f'<strong class="bad">{words}</strong>' if share > 0 else words


def _version(version: Mapping[str, Any], minutes: str, colours: Mapping[str, int]) -> list[str]:
    history, rate = version["history"], version["requests_per_second"]
    no_data = f'<span class="quiet">{text.rate(rate)}</span>'
    head = f"v{escape(version['version'])}"
    if version["role"]:
        head += f' <span class="role">{escape(version["role"])}</span>'
    if version["model"]:
        head += f"<small>{escape(version['model'])}</small>"

    traffic = (
        f"{text.percent(version['share_seen'])} seen"
        if version["share_seen"] is not None
        else no_data
    )
    if version["share_configured"] is not None:
        traffic += f" <small>of {text.percent(version['share_configured'])} configured</small>"
    traffic += share_bar(version["share_seen"], version["share_configured"])

    last = f"over the last {minutes}"
    requests = text.rate(rate) if rate else no_data
    if version["in_progress"]:
        requests += f" <small>{version['in_progress']:.0f} in progress</small>"
    requests += sparkline(
        history["requests_per_second"], f"requests per second {last}, now {text.rate(rate)}", "rate"
    )

    errors = no_data
    if version["error_ratio"] is not None:
        errors = _errors(version["error_ratio"])
        if version["client_error_ratio"]:
            errors += f" <small>{text.percent(version['client_error_ratio'])} bad requests</small>"
    errors += sparkline(history["error_ratio"], f"error ratio {last}", "errors")

    quantiles = version["latency_seconds"]
    latency = no_data
    if quantiles["p95"] is not None:
        bound = quantiles["highest_bound"]
        latency = (
            f"p50{text.SPACE}{text.latency(quantiles['p50'], bound)} "
            f'<span class="second">p95{text.SPACE}{text.latency(quantiles["p95"], bound)}</span>'
        )
    latency += sparkline(history["p95_seconds"], f"95th percentile of latency {last}", "latency")
    return [head, traffic, requests, errors, latency, _classes(version, colours), _servers(version)]


def _classes(version: Mapping[str, Any], colours: Mapping[str, int]) -> str:
    classes = version["classes"]
    if not classes:
        return '<span class="quiet">none yet</span>'
    shown = [(item["class"], item["share"], colours[item["class"]]) for item in classes]
    if len(classes) > MAX_CLASSES:
        rest = shown[MAX_CLASSES - 1 :]
        more = (f"{len(rest)} more", sum(share for _, share, _ in rest), MAX_CLASSES)
        shown = [*shown[: MAX_CLASSES - 1], more]
    legend = "".join(
        f'<li><span class="dot c{colour}" aria-hidden="true"></span>{escape(name)} '
        f"{text.percent(share)}</li>"
        for name, share, colour in shown
    )
    bar = stacked_bar([(share, colour) for _, share, colour in shown])
    return f'<ul class="classes">{legend}</ul>{bar}'


def _servers(version: Mapping[str, Any]) -> str:
    servers = version["servers"]
    if servers is None:
        return '<span class="quiet">not routed</span>'
    words = f"{servers['up']} of {servers['total']} up"
    return words if servers["up"] == servers["total"] else f'<strong class="bad">{words}</strong>'


def _prediction_logs(logs: Sequence[Mapping[str, Any]]) -> str:
    if not logs:
        return ""
    rows = []
    for log in logs:
        dropped = f"{log['dropped_total']:,.0f}"
        if log["dropped_recently"]:
            dropped = (
                f'<strong class="bad">{dropped}</strong> <small>rows are being dropped</small>'
            )
        waiting = f"{log['waiting']:,.0f}" if log["waiting"] is not None else text.NO_DATA
        if log["failures_recently"]:
            waiting += f"<small>{log['failures_recently']:,.0f} failed writes, retrying</small>"
        written = log["written_per_second"]
        rows.append(
            [
                f"{escape(log['endpoint'])} v{escape(log['version'])}",
                f"{log['written_total']:,.0f}",
                f"{text.number(written)}/s" if written is not None else text.NO_DATA,
                waiting,
                dropped,
            ]
        )
    columns = ["Model", "Rows written", "Write rate", "Rows waiting", "Rows dropped"]
    table = _table("logs", "Prediction logs", columns, rows)
    return f"<section><h2>Prediction log</h2>{table}</section>"


def _quality(status: Mapping[str, Any]) -> str:
    if not status["quality"]:
        return ""
    table = _table("quality", "Quality of endpoints", quality.COLUMNS, quality.rows(status))
    return f"<section><h2>Quality</h2>{table}</section>"


def _services(status: Mapping[str, Any]) -> str:
    if not status["services"]:
        return ""
    rows = []
    for service in sorted(status["services"], key=lambda one: ORDER.index(one["state"])):
        since = ""
        if service["since"] is not None:
            lasted = text.duration(status["time"] - service["since"])
            since = f'<time datetime="{text.iso(service["since"])}">{lasted}</time>'
        state = _badge(service["state"], service["state"])
        if service["error"]:
            state += f"<small>{escape(service['error'])}</small>"
        labels = [f"{name}={value}" for name, value in service["labels"].items()]
        kind = escape(" · ".join([service["job"], *labels]))
        rows.append(
            [
                f"{escape(service['instance'])}<small>{kind}</small>",
                state,
                since or text.NONE,
                text.seconds(service["latency_seconds"]),
            ]
        )
    table = _table(
        "services", "Services", ["Service", "State", "In this state", "Response time"], rows
    )
    return f"<section><h2>Services</h2>{table}</section>"
