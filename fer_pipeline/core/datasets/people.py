"""Who is in which photo, for data sets that name people: all photos of a person stay on one side.

How such groups are dealt to splits is the business of `rows.py` and of the manifest.
"""

from collections.abc import Iterable


def people_of_photos(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The person of each photo, of (photo, person) in any order.

    Photos that several people share tie these together: all of them then go by the name of the
    first in alphabetical order.
    """
    above: dict[str, str] = {}
    first: dict[str, str] = {}
    for photo, person in pairs:
        one, other = _top(above, first.setdefault(photo, person)), _top(above, person)
        if one != other:
            above[max(one, other)] = min(one, other)
    return {photo: _top(above, person) for photo, person in first.items()}


def _top(above: dict[str, str], person: str) -> str:
    while person in above:
        # Half the way is left out for whoever asks next.
        above[person] = above.get(above[person], above[person])
        person = above[person]
    return person
