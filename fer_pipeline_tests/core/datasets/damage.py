"""Files with bytes changed at random, for tests of what a parser makes of any of them."""

from collections.abc import Sequence

from hypothesis import strategies as st


@st.composite
def damaged(
    draw: st.DrawFn, whole: bytes, pieces: Sequence[bytes], most: int, lengths: Sequence[int]
) -> bytes:
    """The file with one to `most` places overwritten, inserted, cut out, moved or cut off.

    `pieces` are written, and as many bytes as one of `lengths` says are cut out or moved.
    """
    data = bytearray(whole)
    for kind in draw(st.lists(st.sampled_from("oioxmt"), min_size=1, max_size=most)):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.sampled_from(lengths))
        if kind == "o":
            piece = draw(st.sampled_from(pieces))
            data[at : at + max(1, len(piece))] = piece
        elif kind == "i":
            data[at:at] = draw(st.sampled_from(pieces))
        elif kind == "x":
            del data[at : at + length]
        elif kind == "m":
            place = draw(st.integers(0, len(data)))
            data[place:place] = data[at : at + length]
        else:
            del data[max(1, len(data) - length) :]
    return bytes(data)
