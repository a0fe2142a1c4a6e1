"""Orders by chance that are the same every time."""

import random
from collections.abc import Sequence

from fer_pipeline.core.files import text_digest

_ROUNDS = 100


def spread_order(count: int, pairs: Sequence[tuple[int, int]], apart: int, seed: str) -> list[int]:
    """The numbers below `count` in an order by chance in which pairs stand apart.

    The second number of each pair comes at least `apart` places after the first; no number is in
    two pairs, and `apart` is at most a quarter of `count`.
    """
    order = sorted(range(count), key=lambda item: text_digest(seed, item))
    place = {item: at for at, item in enumerate(order)}
    chance = random.Random(text_digest(seed, "pairs"))  # noqa: S311 - no secret

    def move(item: int, to: int) -> None:
        other, back = order[to], place[item]
        order[to], order[back] = item, other
        place[item], place[other] = to, back

    for _ in range(_ROUNDS):
        close = [pair for pair in pairs if place[pair[1]] - place[pair[0]] < apart]
        if not close:
            return order
        for first, again in close:
            start = chance.randrange(count - apart)
            move(first, start)
            move(again, chance.randrange(start + apart, count))
    # So many pairs that chance doesn't part them: all first numbers, the rest, all second ones.
    firsts, agains = (list(side) for side in zip(*pairs, strict=True))
    paired = {*firsts, *agains}
    return [*firsts, *(item for item in order if item not in paired), *agains]
