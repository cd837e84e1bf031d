"""Formatting of figures. Unknown values become a word, never zero."""

from datetime import UTC, datetime

NONE = "\u2013"  # en dash
NO_DATA = "no data"
NO_TRAFFIC = "no traffic"
SPACE = "\u202f"  # narrow no-break space, between a number and its unit


def number(value: float) -> str:
    """Three significant digits, with thousands separators."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def rate(per_second: float | None) -> str:
    """Requests per second."""
    if per_second is None:
        return NO_DATA
    if per_second == 0:
        return NO_TRAFFIC
    return f"<{SPACE}0.01/s" if per_second < 0.01 else f"{number(per_second)}/s"


def percent(share: float | None) -> str:
    """A share (0 to 1) in percent. Only exactly 0 and 1 are shown as 0 % and 100 %."""
    if share is None:
        return NONE
    if 0 < share < 0.001:
        return f"<{SPACE}0.1{SPACE}%"
    if 0.999 < share < 1:
        return f">{SPACE}99.9{SPACE}%"
    digits = 0 if share in (0, 1) or share >= 0.1 else 1
    if 0.99 < share < 1:
        digits = 1
    return f"{100 * share:.{digits}f}{SPACE}%"


def seconds(value: float | None) -> str:
    """A time in µs, ms or s."""
    if value is None:
        return NONE
    if value < 0.001:
        return f"{value * 1e6:.0f}{SPACE}µs"
    if value < 1:
        return f"{number(value * 1e3)}{SPACE}ms"
    return f"{number(value)}{SPACE}s"


def latency(value: float | None, highest_bound: float | None) -> str:
    """A quantile. In the last bucket of a histogram only its lower bound is known."""
    beyond = value is not None and highest_bound is not None and value >= highest_bound
    return f"≥{SPACE}{seconds(value)}" if beyond else seconds(value)


def duration(value: float) -> str:
    """A duration in the largest fitting unit, rounded down."""
    whole = int(max(value, 0))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size}{SPACE}{unit}"
    return f"{whole}{SPACE}s"


def iso(unix: float) -> str:
    """A unix time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
