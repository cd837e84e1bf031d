"""POSIX cron expressions: validation, and the form that APScheduler reads."""

from __future__ import annotations

import re
from datetime import datetime
from zoneinfo import ZoneInfo

# APScheduler counts the days of the week from Monday = 0, crontab from Sunday = 0 (and 7).
_FIELDS = ("minute", "hour", "day of the month", "month")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")


def for_apscheduler(cron: str) -> str:
    """The five fields of `cron` with the days of the week by name.

    Raises ValueError with the reason, also for a day that does not exist.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise ValueError(
            f"has {len(fields)} fields and must have five (minute, hour, day of the month, month, "
            "day of the week), as in `0 3 * * 1-5`"
        )
    if not fields[2].startswith("*") and not fields[4].startswith("*"):
        raise ValueError(
            "sets both a day of the month and a day of the week: use `*` for one of them"
        )
    for field, what in zip(fields, _FIELDS, strict=False):
        if not re.fullmatch(r"[0-9A-Za-z*/,-]+", field):
            raise ValueError(
                f"has {field!r} for the {what}: use the digits 0 to 9, names, `*`, `/`, `,` and `-`"
            )
    fields[4] = ",".join(_days(part.lower()) for part in fields[4].split(","))
    read = " ".join(fields)
    # This import takes half a second, and only schedules need it.
    from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415

    try:
        trigger = CronTrigger.from_crontab(read, timezone=ZoneInfo("UTC"))
    except ValueError as error:
        raise ValueError(str(error)) from None
    if trigger.get_next_fire_time(None, datetime.now(ZoneInfo("UTC"))) is None:
        raise ValueError("names a day that does not exist")
    return read


def _days(part: str) -> str:
    """One item of the day-of-week field: `*`, a day, `1-5`, `0-6/2`, `*/2`."""
    span, _, step = part.partition("/")
    if span == "*" and not step:
        return "*"
    first, _, last = ("0-6" if span == "*" else span).partition("-")
    try:
        if step and not last:
            raise ValueError(part)
        start = _number(first)
        end = _number(last) if last else start
        every = int(step) if step else 1
        if end < start and last == "sun":
            end = 7
        days = range(start, end + 1, every) if every > 0 else ()
    except ValueError:
        days = ()
    if not days:
        raise ValueError(f"has {part!r} for the day of the week: use 0 to 7, or sun to sat")
    return ",".join(_DAYS[day] for day in days)


def _number(day: str) -> int:
    if day in _DAYS:
        return _DAYS.index(day)
    if not (day.isascii() and day.isdigit() and len(day) == 1 and int(day) < len(_DAYS)):
        raise ValueError(day)
    return int(day)
