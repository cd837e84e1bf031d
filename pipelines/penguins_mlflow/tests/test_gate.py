from hypothesis import given
from hypothesis import strategies as st
from penguins.gate import decide

share = st.floats(0, 1)
rank = {"rejected": 0, "kept": 1, "promoted": 2}


@given(share, st.none() | share, share, share)
def test_verdict_follows_floor_then_gain(challenger, champion, floor, delta):
    verdict = decide(challenger, champion, floor, delta).verdict
    if challenger < floor - 1e-6:
        assert verdict == "rejected"
    elif challenger > floor + 1e-6:
        if champion is None or challenger - champion > delta + 1e-6:
            assert verdict == "promoted"
        elif challenger - champion < delta - 1e-6:
            assert verdict == "kept"


@given(share, share, share, share, share)
def test_a_better_challenger_never_fares_worse(one, other, champion, floor, delta):
    worse, better = sorted((one, other))
    assert (
        rank[decide(worse, champion, floor, delta).verdict]
        <= rank[decide(better, champion, floor, delta).verdict]
    )


@given(st.integers(1, 500), st.data())
def test_gains_of_whole_rows_are_not_lost_to_rounding(rows, data):
    champion = data.draw(st.integers(0, rows))
    gained = data.draw(st.integers(0, rows - champion))
    assert decide((champion + gained) / rows, champion / rows, 0, gained / rows).verdict == (
        "promoted"
    )


@given(share)
def test_an_equal_challenger_is_promoted_unless_a_gain_is_asked(accuracy):
    assert decide(accuracy, accuracy, 0, 0).verdict == "promoted"
    assert decide(accuracy, accuracy, 0, 0.01).verdict == "kept"


def test_reasons_name_the_numbers():
    assert decide(0.5, 0.4, 0.9, 0).reason == "accuracy 0.5000 is below the minimum of 0.9000"
    assert "no champion yet" in decide(0.95, None, 0.9, 0).reason
    assert "a gain of -0.0100, required: 0.0200" in decide(0.95, 0.96, 0.9, 0.02).reason
