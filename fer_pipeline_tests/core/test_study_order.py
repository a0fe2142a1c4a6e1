import math

import pytest

from fer_pipeline.core.study_order import spread_order


@pytest.mark.parametrize("count", [1, 2, 3, 4, 11, 40, 210])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 1.0])
def test_every_number_comes_once_and_pairs_stand_apart(count, share):
    firsts = math.ceil(count / (1 + share))
    pairs = [(at, firsts + at) for at in range(count - firsts)]
    apart = min(20, count // 4)
    for seed in range(20):
        order = spread_order(count, pairs, apart, str(seed))
        assert sorted(order) == list(range(count))
        place = {item: at for at, item in enumerate(order)}
        assert all(place[again] - place[first] >= max(1, apart) for first, again in pairs)


def test_one_seed_gives_one_order_and_another_another():
    orders = [tuple(spread_order(60, [(0, 59)], 15, seed)) for seed in ("a", "a", "b")]
    assert orders[0] == orders[1] != orders[2]


def test_chance_puts_any_number_anywhere():
    places = {spread_order(12, [(0, 11)], 3, str(seed)).index(5) for seed in range(300)}
    assert places == set(range(12))
