"""Words for what data sets tell of a face besides its expression, the same for all of them."""

from bisect import bisect_right
from collections.abc import Mapping

GENDERS: Mapping[str, str] = {"0": "male", "1": "female", "2": "unsure"}
"""What RAF-DB's attributes write (Li et al., 2017)."""
RACES: Mapping[str, str] = {"0": "Caucasian", "1": "African-American", "2": "Asian"}
"""What RAF-DB's attributes write."""
AGE_GROUPS = ("0-3", "4-19", "20-39", "40-69", "70+")
"""RAF-DB's age groups, in years; the position is the number that it writes."""
_FIRST_YEARS = (0, 4, 20, 40, 70)


def age_group(years: float) -> str:
    """The group of an age in years; empty where it is no age."""
    return AGE_GROUPS[bisect_right(_FIRST_YEARS, years) - 1] if 0 <= years <= 130 else ""
