"""Draws the values of facts: people, dates, money, measures, codes and other short strings.

Every draw belongs to one split, decided by a hash of the value where its space is open; closed
sets such as weekdays and colours are shared by both splits.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from deploy.demo.model.words import (
    ADJECTIVES,
    COLOURS,
    COMPANY_HEADS,
    COMPANY_TAILS,
    ENTITY_WORDS,
    FIRST_NAMES,
    LAST_NAMES,
    NOUNS,
    PLACES,
    is_held_out,
)

MONTHS = (
    "January February March April May June July August September October November December"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
NUMBER_WORDS = "two three four five six seven eight nine ten eleven twelve".split()
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_COUNTED = """
people seats boxes units pages copies bags bottles chairs desks cars bikes pallets parcels orders
tickets licences keys tables beds staff members guests visitors rooms machines sensors batteries
samples tests visits calls emails rounds steps lessons sessions files users reports parts shelves
""".split()
_MEASURES = """
metres kilometres centimetres millimetres kilograms grams tonnes litres degrees watts volts
kilowatts gigabytes terabytes megabytes points hertz bar lumens decibels
""".split()
_SHORT_MEASURES = "m km cm mm kg g l GB TB MB kW W V mm Hz °C".split()
_MATERIALS = """
steel aluminium oak glass rubber cotton nylon copper plastic carbon paper leather wool silk tin
brass titanium bamboo cork ceramic recycled plastic stainless steel polished oak
""".split()
_LANGUAGES = "English French German Spanish Italian Dutch Danish Polish Czech Greek".split()
_STATES = """
active|closed|on hold|in progress|in review|complete|planned|delayed|cancelled|open|live|in testing|
being prepared|waiting for approval|out of stock|under repair
""".replace("\n", "").split("|")
_TRADES = (
    "Foods Tools Glass Paper Transport Systems Energy Motors Textiles Books Media Farms".split()
)
_reserved = Path(__file__).with_name("reserved.txt")
RESERVED = frozenset(line.strip().lower() for line in _reserved.read_text().splitlines())


def allowed(text: str, held_out: bool) -> bool:
    """Whether an open string belongs to the wanted split and is no reserved company string."""
    return is_held_out(text) == held_out and text.lower() not in RESERVED


def draw(make: Callable[[random.Random], str], rng: random.Random, held_out: bool) -> str:
    """Draws from `make` until the string falls into the wanted split."""
    while True:
        text = make(rng)
        if allowed(text, held_out):
            return text


def pair(rng: random.Random) -> str:
    """An entity name."""
    return " ".join(rng.sample(ENTITY_WORDS, 2))


def person(rng: random.Random) -> str:
    return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"


def company(rng: random.Random) -> str:
    return rng.choice(COMPANY_HEADS) + rng.choice(COMPANY_TAILS)


def _firm(rng: random.Random) -> str:
    trade = rng.choice(("", "", *_TRADES))
    return f"{company(rng)} {trade}".strip()


def _small(rng: random.Random) -> int:
    return rng.choice((rng.randint(2, 12), rng.randint(2, 40), rng.randint(2, 99)))


def _amount(rng: random.Random) -> str:
    number = rng.choice(
        (
            _small(rng),
            rng.randint(1, 40) * 5,
            rng.randint(1, 99) * 10,
            rng.randint(1, 95) * 100,
            rng.randint(2, 900) * 1000,
        )
    )
    if rng.random() < 0.06:
        return f"{_small(rng)}.{rng.randint(1, 99):02d}"
    return f"{number:,}" if rng.random() < 0.8 else str(number)


def _money(rng: random.Random) -> str:
    amount = _amount(rng)
    forms = [
        f"{amount} euros",
        f"{amount} euros",
        f"€{amount}",
        f"EUR {amount}",
        f"{amount} EUR",
        f"${amount}",
        f"{amount} dollars",
        f"£{amount}",
        f"{amount} pounds",
        f"{amount} Swiss francs",
        f"CHF {amount}",
        f"{amount} crowns",
    ]
    text = rng.choice(forms)
    if rng.random() < 0.15:
        text += rng.choice(
            (
                " per month",
                " per day",
                " per year",
                " a night",
                " per person",
                " a week",
                " per kilometre",
                " per order",
                " per hour",
            )
        )
    return text


def _date(rng: random.Random) -> str:
    day, month, year = rng.randint(1, 28), rng.choice(MONTHS), rng.randint(2024, 2031)
    number = MONTHS.index(month) + 1
    forms = [
        f"{day} {month}",
        f"{day} {month}",
        f"{day} {month} {year}",
        f"{month} {day}",
        f"{month} {day}, {year}",
        f"{month} {year}",
        f"{year}-{number:02d}-{day:02d}",
        f"the {rng.choice(ORDINALS[:4])} {rng.choice(DAYS)} of {month}",
        f"the end of {month}",
        f"week {rng.randint(1, 52)}",
        f"the {rng.randint(4, 20)}th of {month}",
    ]
    return rng.choice(forms)


def _duration(rng: random.Random) -> str:
    unit = rng.choice(
        (
            "days",
            "days",
            "weeks",
            "months",
            "years",
            "hours",
            "minutes",
            "working days",
            "seconds",
            "calendar days",
            "business days",
        )
    )
    if rng.random() < 0.25:
        return f"{rng.choice(NUMBER_WORDS)} {unit}"
    return f"{_small(rng)} {unit}"


def _leave(rng: random.Random) -> str:
    return f"{_small(rng)} {rng.choice(('days', 'days', 'days', 'weeks', 'hours', 'working days'))}"


def _count(rng: random.Random) -> str:
    number = rng.choice((str(_small(rng)), _amount(rng), rng.choice(NUMBER_WORDS)))
    return f"{number} {rng.choice(_COUNTED)}"


def _number(rng: random.Random) -> str:
    return rng.choice((str(_small(rng)), _amount(rng), rng.choice(NUMBER_WORDS)))


def _measure(rng: random.Random) -> str:
    return f"{_size(rng)} {rng.choice(_MEASURES + _SHORT_MEASURES)}"


def _length(rng: random.Random) -> str:
    unit = rng.choice(("m", "cm", "mm", "km", "metres", "metres", "centimetres", "kilometres"))
    return f"{_size(rng)} {unit}"


def _weight(rng: random.Random) -> str:
    return f"{_size(rng)} {rng.choice(('kg', 'kg', 'g', 'kilograms', 'tonnes', 'grams', 'kilos'))}"


def _size(rng: random.Random) -> str:
    return rng.choice((str(_small(rng)), _amount(rng), f"{_small(rng)}.{rng.randint(1, 9)}"))


def _percent(rng: random.Random) -> str:
    number = rng.choice((str(rng.randint(1, 99)), f"{rng.randint(1, 99)}.{rng.randint(1, 9)}"))
    return number + rng.choice((" percent", " percent", "%", " %", " per cent"))


def _code(rng: random.Random) -> str:
    letters = "".join(rng.choice(_LETTERS) for _ in range(rng.choice((1, 2, 2, 3))))
    digits = "".join(rng.choice("0123456789") for _ in range(rng.choice((1, 2, 3, 3, 4))))
    return letters + rng.choice(("-", "-", "-", "", " ")) + digits


def _room(rng: random.Random) -> str:
    number = rng.choice(
        (
            f"{rng.choice(_LETTERS[:8])}{rng.randint(1, 40)}",
            str(rng.randint(1, 620)),
            f"{rng.randint(0, 9)}.{rng.randint(10, 60)}",
        )
    )
    return rng.choice(
        (
            f"room {number}",
            f"Room {number}",
            number,
            f"room {pair(rng)}",
            f"building {number}",
            f"hall {number}",
            f"bay {number}",
            f"gate {number}",
            f"pier {rng.randint(1, 30)}",
            f"hall {rng.choice(_LETTERS)}",
        )
    )


def _floor(rng: random.Random) -> str:
    return rng.choice(
        (
            f"the {rng.choice(ORDINALS)} floor",
            f"level {rng.randint(1, 12)}",
            f"floor {rng.randint(1, 20)}",
            "the ground floor",
            "the basement",
            f"parking level {rng.randint(1, 6)}",
            f"level minus {rng.randint(1, 4)}",
            f"the {rng.choice(ORDINALS)} level",
            "the top floor",
        )
    )


def _clock(rng: random.Random) -> str:
    hour, minute = rng.randint(6, 21), rng.choice((0, 0, 15, 30, 45, 10, 20, 40, 50))
    forms = [
        f"{hour:02d}:{minute:02d}",
        f"{hour:02d}:{minute:02d}",
        f"{hour}:{minute:02d}",
        f"{(hour - 1) % 12 + 1} {'am' if hour < 12 else 'pm'}",
        f"{hour} o'clock",
        f"{(hour - 1) % 12 + 1}:{minute:02d} {'am' if hour < 12 else 'pm'}",
    ]
    return rng.choice(forms)


def _hours(rng: random.Random) -> str:
    start, end = rng.randint(6, 11), rng.randint(13, 22)
    half = rng.choice(("00", "30", "15", "45"))
    return rng.choice(
        (
            f"{start:02d}:{half} to {end}:00",
            f"{start} to {end}",
            f"{start} am to {end - 12} pm",
            f"from {start:02d}:00 to {end}:{half}",
            f"between {start:02d}:{half} and {end}:{half}",
        )
    )


def _place(rng: random.Random) -> str:
    return rng.choice(PLACES)


def _spot(rng: random.Random) -> str:
    """Where something stands: a town, a floor, a room or a described spot."""
    noun, other = rng.sample(NOUNS, 2)
    described = rng.choice(
        (
            f"the {noun} room",
            f"the {rng.choice(ADJECTIVES)} {noun}",
            f"next to the {noun}",
            f"behind the {noun} {other}",
            f"the {pair(rng)} building",
            f"{rng.choice(PLACES)} Street",
            f"the {noun} hall",
            f"the {rng.choice(COLOURS)} {noun}",
        )
    )
    return rng.choice((_place, _floor, _room, lambda _: described, lambda _: described))(rng)


def _thing(rng: random.Random) -> str:
    """A short noun phrase."""
    adjective, noun, other = rng.choice(ADJECTIVES), *rng.sample(NOUNS, 2)
    article = rng.choice(("a", "the", "one"))
    return rng.choice(
        (
            f"{article} {adjective} {noun}",
            f"{adjective} {noun}",
            f"{article} {noun}",
            f"{article} {rng.choice(COLOURS)} {noun}",
            f"{noun} and {other}",
            noun,
            f"{noun} {other}",
            f"{article} {noun} {other}",
            rng.choice(_MATERIALS),
            f"{rng.choice(NUMBER_WORDS)} {noun}s",
            f"{adjective} {noun}s",
        )
    )


def _name(rng: random.Random) -> str:
    return pair(rng)


def _group(rng: random.Random) -> str:
    kind = rng.choice(("team", "group", "desk", "department", "office", "lab", "unit", "crew"))
    return rng.choice((f"the {pair(rng)} {kind}", pair(rng), f"the {rng.choice(NOUNS)} {kind}"))


def _who(rng: random.Random) -> str:
    """Who approves or does something: a person, mostly, or a role or group."""
    role = rng.choice(
        (
            "manager",
            "officer",
            "lead",
            "director",
            "clerk",
            "planner",
            "nurse",
            "porter",
            "editor",
            "buyer",
            "trainer",
            "secretary",
            "chef",
            "warden",
        )
    )
    named = f"the {rng.choice([*NOUNS, 'finance', 'safety', 'sales', 'travel', 'site'])} {role}"
    return rng.choice((person, person, person, _group, lambda _: named))(rng)


def _extension(rng: random.Random) -> str:
    digits = "".join(rng.choice("0123456789") for _ in range(rng.choice((3, 4, 4, 5))))
    return rng.choice((f"extension {digits}", digits, f"ext. {digits}"))


def _email(rng: random.Random) -> str:
    box = rng.choice(
        (
            rng.choice(NOUNS),
            rng.choice(FIRST_NAMES).lower(),
            rng.choice(ENTITY_WORDS).lower(),
            "help",
            "desk",
            "office",
        )
    )
    host = rng.choice(PLACES + ENTITY_WORDS).lower()
    return f"{box}@{host}.{rng.choice(('example', 'test', 'com', 'org'))}"


def _colour(rng: random.Random) -> str:
    base = rng.choice(COLOURS)
    return rng.choice(
        (
            base,
            base,
            f"{rng.choice(('dark', 'light', 'pale', 'bright'))} {base}",
            f"{base} and {rng.choice(COLOURS)}",
        )
    )


def _weekday(rng: random.Random) -> str:
    day = rng.choice(DAYS)
    return rng.choice(
        (
            day,
            day,
            day,
            f"every {day}",
            f"each {day}",
            f"{day} only",
            f"every second {day}",
            f"{day} morning",
            f"the {rng.choice(ORDINALS[:4])} {day} of the month",
            f"{day} afternoon",
            f"{day} and {rng.choice(DAYS)}",
            f"{day} at {_clock(rng)}",
        )
    )


def _often(rng: random.Random) -> str:
    period = rng.choice(("day", "week", "month", "year", "quarter", "shift"))
    return rng.choice(
        (
            f"every {rng.choice(NUMBER_WORDS)} {period}s",
            f"once a {period}",
            f"twice a {period}",
            f"every {_small(rng)} {period}s",
            f"every {period}",
            f"{rng.choice(NUMBER_WORDS)} times a {period}",
        )
    )


def _language(rng: random.Random) -> str:
    return rng.choice((rng.choice(_LANGUAGES), " and ".join(rng.sample(_LANGUAGES, 2))))


def _state(rng: random.Random) -> str:
    return rng.choice(_STATES)


def _year(rng: random.Random) -> str:
    return str(rng.choice((rng.randint(1950, 2023), rng.randint(1985, 2031))))


def _month(rng: random.Random) -> str:
    return rng.choice(MONTHS)


OPEN = {
    "person": person,
    "money": _money,
    "count": _count,
    "measure": _measure,
    "code": _code,
    "thing": _thing,
    "name": _name,
    "group": _group,
    "who": _who,
    "extension": _extension,
    "email": _email,
    "spot": _spot,
    "room": _room,
    "date": _date,
    "hours": _hours,
    "company": _firm,
}
CLOSED = {
    "duration": _duration,
    "leave": _leave,
    "number": _number,
    "length": _length,
    "weight": _weight,
    "percent": _percent,
    "floor": _floor,
    "clock": _clock,
    "place": _place,
    "colour": _colour,
    "weekday": _weekday,
    "often": _often,
    "language": _language,
    "state": _state,
    "year": _year,
    "month": _month,
}
KINDS = frozenset((*OPEN, *CLOSED))


def value(kind: str, rng: random.Random, held_out: bool) -> str:
    """A value of one kind from one split."""
    if kind in OPEN:
        return draw(OPEN[kind], rng, held_out)
    return CLOSED[kind](rng)
