"""Small charts as inline SVG. They have no inline styles, which the dashboard's policy forbids."""

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, PAD = 120, 28, 2


def sparkline(values: Sequence[float | None], label: str, kind: str) -> str:
    """A line chart from zero to the largest value, with a gap for each None.

    ``label`` is the text for screen readers, ``kind`` a CSS class. Empty if all values are None.
    """
    known = [value for value in values if value is not None]
    if not known:
        return ""
    top = max(known) or 1.0
    stride = WIDTH / max(len(values) - 1, 1)
    usable = HEIGHT - 2 * PAD
    shapes: list[str] = []
    for run in _runs(values):
        points = [(index * stride, HEIGHT - PAD - usable * value / top) for index, value in run]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        if len(points) == 1:
            shapes.append(f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="1.5"/>')
            continue
        left, right = points[0][0], points[-1][0]
        shapes.append(
            f'<polygon points="{left:.1f},{HEIGHT} {line} {right:.1f},{HEIGHT}"/>'
            f'<polyline points="{line}"/>'
        )
    return (
        f'<svg class="spark {escape(kind)}" viewBox="-2 0 {WIDTH + 4} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}" preserveAspectRatio="none">{"".join(shapes)}</svg>'
    )


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The runs of values without a gap, each value with its index."""
    runs: list[list[tuple[int, float]]] = []
    previous: float | None = None
    for index, value in enumerate(values):
        if value is not None:
            if previous is None:
                runs.append([])
            runs[-1].append((index, value))
        previous = value
    return runs


def share_bar(seen: float | None, configured: float | None) -> str:
    """A bar for the measured share of traffic (0 to 1), with a mark at the configured share."""
    bar = f'<rect class="seen" width="{100 * (seen or 0):.2f}" height="6"/>'
    mark = ""
    if configured is not None:
        mark = f'<rect class="mark" x="{min(98.5, 100 * configured):.2f}" width="1.5" height="6"/>'
    return (
        '<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f"{bar}{mark}</svg>"
    )


def stacked_bar(shares: Sequence[tuple[float, int]]) -> str:
    """One bar of ``(share, colour)`` segments. The colour is a number of the style sheet."""
    left, parts = 0.0, []
    for share, colour in shares:
        parts.append(
            f'<rect class="c{colour}" x="{left:.2f}" width="{100 * share:.2f}" height="6"/>'
        )
        left += 100 * share
    return (
        '<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )
