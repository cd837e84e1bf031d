"""The table as Markdown: one row for each model and request."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .reasons import why
from .servers import Reply, Row

HEAD = "| flavor | model | signature | example | request | MLflow | here | difference |"


def write(rows: list[Row], file: Path) -> None:
    """Write all rows, after a summary by reason."""
    reasons = Counter("equal" if why(row) == "" else why(row) or "NO REASON" for row in rows)
    answered = sum(row.theirs.ok and row.ours.ok for row in rows)
    lines = ["# Answers of /invocations beside MLflow's scoring server", ""]
    lines += [f"{len(rows)} rows, of which both answer {answered} with 200.", ""]
    lines += ["| rows | difference |", "|---:|---|"]
    lines += [f"| {count} | {reason} |" for reason, count in reasons.most_common()]
    lines += ["", HEAD, "|" + "---|" * HEAD.count(" | ") + "---|"]
    for row in rows:
        model = row.model
        cells = [model.flavor, model.name, model.signature, model.example, row.request,
                 _reply(row.theirs), _reply(row.ours), why(row) or ""]  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="backslashreplace")


def _reply(reply: Reply) -> str:
    if not reply.ok:
        return str(reply.status)
    text = " ".join(reply.text.split())
    return f"200 `{text[:60]}`".replace("``", "`")
