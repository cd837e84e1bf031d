"""Cron expressions mean what crontab(5) says, on every target."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given, settings
from hypothesis import strategies as st

from pulumi_mlops.crontab import for_apscheduler

UTC = ZoneInfo("UTC")
SUNDAY = datetime(2026, 11, 22, tzinfo=UTC)


def days(cron: str) -> list[str]:
    """The days of the week on which `cron` comes, from a Sunday on."""
    trigger = CronTrigger.from_crontab(for_apscheduler(cron), timezone=UTC)
    found, now = [], SUNDAY
    while (now := trigger.get_next_fire_time(None, now)) < SUNDAY + timedelta(days=7):
        found.append(now.strftime("%a").lower())
        now += timedelta(minutes=1)
    return found


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("*", "sun mon tue wed thu fri sat"),
        ("1-5", "mon tue wed thu fri"),
        ("0", "sun"),
        ("7", "sun"),
        ("6,0", "sun sat"),
        ("5-7", "sun fri sat"),
        ("fri-sun", "sun fri sat"),
        ("*/2", "sun tue thu sat"),
        ("1-5/2", "mon wed fri"),
        ("Mon,WED", "mon wed"),
    ],
)
def test_days_of_the_week_are_counted_from_sunday(field: str, expected: str) -> None:
    assert days(f"30 3 * * {field}") == expected.split()


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("* * * *", "has 4 fields"),
        ("* * * * * *", "has 6 fields"),
        ("0 0 1 * 1", "sets both a day of the month and a day of the week"),
        ("0 0 * * 8", "has '8' for the day of the week"),
        ("0 0 * * 5-1", "has '5-1' for the day of the week"),
        ("0 0 * * 1/2", "has '1/2' for the day of the week"),
        ("0 0 * * */0", "has '*/0' for the day of the week"),
        ("0 0 * * ", "has 4 fields"),
        ("0 0 * * ²", "has '²' for the day of the week"),
        ("0 25 * * *", "25"),
        ("\uff15 0 * * *", "has '\uff15' for the minute"),
        ("0 \u0663 * * *", "has '\u0663' for the hour"),
        ("0 0 L * *", "L"),
        ("0 0 30 2 *", "does not exist"),
    ],
)
def test_refused(cron: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        for_apscheduler(cron)


@settings(deadline=None)
@given(st.lists(st.text("0123456789*/-,LW#monsu²\t", max_size=4), max_size=6).map(" ".join))
def test_anything_else_is_a_value_error(cron: str) -> None:
    try:
        read = for_apscheduler(cron)
    except ValueError as error:
        assert str(error)
    else:
        assert for_apscheduler(read) == read
