"""What may a value in a config be?

A rule is a test and the words that an error message ends with. Rules take whatever a JSON file may
hold and never raise.
"""

import reprlib
from collections.abc import Callable, Collection
from typing import NamedTuple

__all__ = [
    "Rule",
    "even",
    "flag",
    "number",
    "one_of",
    "optional",
    "pair_or_one",
    "several",
    "shown",
    "whole",
]


class Rule(NamedTuple):
    """A test for a value, and what a value that passes is called."""

    wants: str
    holds: Callable[[object], bool]


def whole(low: int, high: int) -> Rule:
    """An integer in [low, high]; True is not one."""
    return Rule(
        f"a whole number from {low} to {high}",
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high,
    )


def even(low: int, high: int) -> Rule:
    """An even integer in [low, high]."""
    return Rule(
        f"an even number from {low} to {high}",
        lambda v: isinstance(v, int) and whole(low, high).holds(v) and v % 2 == 0,
    )


def number(low: float, high: float) -> Rule:
    """An integer or float in [low, high]; NaN is not."""
    return Rule(
        f"a number from {low:g} to {high:g}",
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and low <= v <= high,
    )


flag = Rule("true or false", lambda v: isinstance(v, bool))


def one_of(names: Collection[str]) -> Rule:
    """One of the names."""
    return Rule(
        " or ".join(f"'{name}'" for name in names), lambda v: isinstance(v, str) and v in names
    )


def optional(rule: Rule) -> Rule:
    """What the rule allows, or nothing."""
    return Rule(f"{rule.wants} or null", lambda v: v is None or rule.holds(v))


def several(rule: Rule, most: int) -> Rule:
    """From one to `most` of what the rule allows."""
    return Rule(
        f"a list of 1 to {most}, each {rule.wants}",
        lambda v: isinstance(v, tuple) and 1 <= len(v) <= most and all(map(rule.holds, v)),
    )


def pair_or_one(rule: Rule) -> Rule:
    """One of what the rule allows, or a list of two."""
    return Rule(
        f"{rule.wants}, or a list of two",
        lambda v: (
            rule.holds(v) or (isinstance(v, tuple) and len(v) == 2 and all(map(rule.holds, v)))
        ),
    )


def shown(value: object) -> str:
    """Write a value in a few characters, whatever it is.

    Example:
        >>> shown("3"), shown([0] * 99)
        ("'3'", '[0, 0, 0, 0, 0, 0, ...]')
    """
    try:
        text = reprlib.repr(value)
    except ValueError:  # Python does not write out integers of thousands of digits
        return f"a {type(value).__name__} too long to write here"
    return text if len(text) <= 120 else f"{text[:117]}..."
