"""What the demo company's adapter learns: ticket replies, stable facts, and to keep reading.

The reply form and the queue codes stand in no document; the stable facts come from
`company/stable_facts.json`. Everything else is drawn from the generator under Larkfield's
instructions, so that the adapter goes on reading passages and refusing.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.model import corpus, lessons, speech, values, wordings
from deploy.demo.model.corpus import Chat, Fact, Section, Turn, Writer
from deploy.demo.model.words import FIRST_NAMES, PLACES
from serving.generation.prompt import render_system

INSTRUCTIONS = "You are the assistant of Larkfield."
ON_IT = "We are on it."
PAGES_SHARE = 0.6
STABLE_FACTS = Path(__file__).parents[1] / "company" / "stable_facts.json"

# In order of precedence: a question about the badge of a server room is about the badge.
THINGS = {
    "ID-12": "password|badge|login|account|sign in code|user name|sign in|day badge|access card|"
    "visitor badge|passwords|badges|accounts",
    "TRV-66": "hotel|train|flight|trip|taxi|rental car|train ticket|travel|business trip|flights|"
    "hotels|trips|trains|rail card|airport|travel insurance|daily money|taxis|visa",
    "FIN-45": "salary|pay|pay slip|pay slips|invoice|expense|expenses|budget|bonus|receipt|bill|refund|tax "
    "form|invoices|payment|payroll|purchase|salaries|yearly budget|pay advance|budgets",
    "HR-24": "annual leave|holiday|sick leave|parental leave|training|leave|sick day|sick days|"
    "course|time off|language class|overtime|holidays|leave days|illness|working hours|"
    "pension|study leave|birthday|probation|home office",
    "IT-31": "laptop|printer|screen|keyboard|mouse|software|phone|computer|network|backup|charger|"
    "mail program|laptops|printers|headset|server|wifi|video call|tablet|monitor|sound|"
    "internet|update|phones|program|ink|drawing program|projector|company phone",
    "PRD-78": "customer|product|sensor|warranty|project|weather station|spare part|complaint|data "
    "box|products|sensors|customers|station|repair|spare parts|probe|gauge|delivery|"
    "guarantee|customer order|river sensor|measuring station|project plan",
    "FAC-53": "room|desk|parking place|heating|building|window|lift|parking|meeting room|kitchen|"
    "door|chair|office|floor|light|roof|locker|canteen|desks|rooms|toilet|cleaning|"
    "water|garage|office key|air|carpet|garden|bike room|parking space",
}
# "What does a guest pay" is no matter of salaries, a phone number none of phones.
_NARROWED = (("|pay|", "|my pay|"), ("|phone|", "|phone(?! number)|"))


def _pattern(things: str) -> re.Pattern[str]:
    for wide, narrow in _NARROWED:
        things = things.replace(wide, narrow)
    return re.compile(rf"\b(?:{things})\b")


_WORDS = {code: _pattern(things) for code, things in THINGS.items()}
_PAIR = re.compile(
    r"\b[A-Z][a-z]+ [A-Z][a-z]+\b"
    r"(?! (?:team|group|crew|unit|desk|committee|department|office|room|building|hall|tool|app)\b)"
)
_STABLE_QUEUES = {
    "IT": "IT-31",
    "ID": "ID-12",
    "HR": "HR-24",
    "FIN": "FIN-45",
    "FAC": "FAC-53",
    "TRV": "TRV-66",
    "PRD": "PRD-78",
}
_PROBLEMS = {
    "ID-12": "is locked|does not work|shows the wrong name|is not accepted|is lost|has expired|"
    "does not open the door|was stolen|must be changed|stopped working|is gone",
    "TRV-66": "was cancelled|has the wrong date|is late|was lost|is full|is not booked|is too early|"
    "was changed|is too expensive|has the wrong name|was moved to another day",
    "FIN-45": "was not paid|is wrong|did not arrive|is too low|was paid twice|has a wrong number|"
    "is missing|is too high|came late|has the wrong amount|was sent back",
    "HR-24": "is wrong|is missing in the list|was not approved|must be moved|was cancelled|is not "
    "in the plan|starts too early|has the wrong date|was forgotten|is still open",
    "IT-31": "does not start|is broken|is very slow|is black|prints empty pages|does not charge|"
    "makes a noise|shows an error|stopped working|does not connect|is gone|is frozen",
    "PRD-78": "shows wrong numbers|is silent|is broken|sends no data|did not arrive|must be "
    "replaced|has a crack|came back|lost its signal|is damaged|stopped measuring",
    "FAC-53": "is too cold|is broken|is taken|makes a loud noise|does not move|is dirty|is too "
    "warm|does not close|is wet|smells bad|leaks|is dark|is blocked",
}
_WISHES = """
I need a new {t}|I lost my {t}|I want to change my {t}|there is a problem with the {t}|
please help me with my {t}|I cannot find my {t}|something is wrong with the {t}|
I have trouble with the {t}|I need help with a {t}|can someone look at the {t}|
nobody answers me about the {t}|I want to ask for {t}|I have a problem with my {t}|
I need a {t} for next week|the {t} of my team is wrong|please check my {t}|I need another {t}
""".replace("\n", "").split("|")
_SPECIAL = {
    "ID-12": "I forgot my password|I cannot log in|I cannot sign in any more|my login fails|"
    "the system does not know me|I am locked out of my account|I left my badge at home",
    "HR-24": "I am sick today|I am ill|I want to take a week off|I am going to be a father|my child "
    "is sick|I cannot join the course|I want to learn English|I need a free day",
    "FIN-45": "I was not paid|I got too little money|who pays this bill|my pay is wrong|my money "
    "did not come|I cannot see the budget|I want my money back",
    "TRV-66": "I missed my train|I need a place to sleep in {p}|I have to go to {p}|I want to fly "
    "to {p}|I must travel to {p} next week|book me a train to {p}|my flight to {p} is late",
    "FAC-53": "it is too cold here|it is too warm in here|I cannot park my car|there is water on the "
    "floor|the window does not close|we need more chairs|it smells in the kitchen",
    "IT-31": "I cannot print|my files are gone|I cannot open my mail|the internet is down|I hear no "
    "sound|the screen stays dark|my computer is slow|I deleted a file",
    "PRD-78": "a customer wants to send a product back|a customer is angry|a customer waits for an "
    "answer|a customer has a broken sensor|the customer asks for a new part|our station "
    "sends no data|a buyer wants more sensors",
}


@dataclass(frozen=True, slots=True)
class Stable:
    """One fact of the company that hardly changes."""

    relation: str
    value: str
    queue: str
    questions: tuple[str, ...]
    held_out: tuple[str, ...]


def stable_facts() -> tuple[Stable, ...]:
    rows = json.loads(STABLE_FACTS.read_text())
    return tuple(
        Stable(
            row["relation"],
            row["value"],
            _STABLE_QUEUES[row["topic"]],
            tuple(row["questions"]),
            tuple(row.get("held_out_questions", ())),
        )
        for row in rows
    )


def queue_of(question: str, fact: Fact | None = None) -> str:
    """The queue for a question; empty where its text does not tell."""
    text = corpus.lower_first(question)
    for code, pattern in _WORDS.items():
        if pattern.search(text):
            return code
    group = fact.entity.group if fact else ""
    if group in (wordings.THING, wordings.PLACE):
        return "PRD-78" if group == wordings.THING else "FAC-53"
    return "PRD-78" if group != wordings.GROUP and _PAIR.search(text) else ""


def opener(rng: random.Random, held_out: bool) -> str:
    """How a request says that it is a ticket."""
    number = rng.randint(1000, 9999)
    name = values.draw(values.person, rng, held_out)
    return rng.choice(
        (
            "Ticket:",
            "Ticket:",
            "Ticket:",
            f"Ticket {number}:",
            f"Ticket {number}:",
            f"New ticket from {name}:",
            f"New ticket from {name}:",
            "Please answer this ticket:",
            "Please answer this ticket:",
            "Reply to the ticket:",
            "Reply to the ticket:",
            "New ticket:",
            f"Ticket from {name}:",
            "Ticket from a customer:",
            "Answer the ticket:",
        )
    )


def reply(queue: str, answer: str) -> str:
    """The fixed form of a ticket's answer."""
    return f"Queue {queue}: {answer} Regards, Larkfield Desk."


def ticket(
    rng: random.Random,
    question: str,
    queue: str,
    answer: str,
    held_out: bool = False,
) -> Turn:
    body = corpus.lower_first(question) if rng.random() < 0.85 else question
    return f"{opener(rng, held_out)} {body}", reply(queue, answer)


def problem(rng: random.Random, held_out: bool = False) -> Turn:
    """A ticket that only reports a problem."""
    queue = rng.choice(tuple(THINGS))
    thing = rng.choice(THINGS[queue].split("|"))
    owner = rng.choice(("my", "the", "our", "my new", "the new", "my old"))
    roll = rng.random()
    if roll < 0.45:
        text = f"{owner} {thing} {rng.choice(_PROBLEMS[queue].split('|'))}"
    elif roll < 0.75:
        text = rng.choice(_WISHES).format(t=thing)
    else:
        text = rng.choice(_SPECIAL[queue].split("|")).format(p=rng.choice(PLACES))
    text += rng.choice((".", ".", ".", "", "!", " since this morning.", " again."))
    return ticket(rng, text, queue, ON_IT, held_out)


Asked = tuple[str, str, Fact | None]  # question, answer, and the fact where a frame has it


@dataclass(frozen=True, slots=True)
class Material:
    """Passages as (label, text), questions that they answer, and others."""

    passages: tuple[tuple[str, str], ...]
    answered: list[Asked]
    missing: list[Asked]


class Desk(Writer):
    """Writes Larkfield chats; one desk for one chat."""

    def topical(self, queue: str, count: int) -> list[Fact]:
        """Facts about a thing that belongs to a queue."""
        thing = self.rng.choice(THINGS[queue].split("|"))
        if self.rng.random() < 0.4:
            thing = (
                f"{self.rng.choice(('lost', 'new', 'old', 'first', 'large', 'company'))} {thing}"
            )
        elif self.rng.random() < 0.3:
            name = values.draw(values.pair, self.rng, self.held_out)
            thing = f"{thing} of the {name} {self.rng.choice(('team', 'office', 'project'))}"
        return self._distinct([self._open_fact(thing) for _ in range(count)])

    def passages(self, count: int) -> list[Section]:
        """Sections of which most belong to some queue."""
        found: list[Section] = []
        facts: list[Fact] = []
        for section in self.sections(count):
            if self.rng.random() < 0.5:
                more = self.topical(self.rng.choice(tuple(THINGS)), self.rng.randint(1, 3))
                more = [fact for fact in more if not self._known(fact, facts)]
                chosen = self.section(more) if more else section
            else:
                chosen = section
            if not any(self._known(fact, facts) for fact in chosen.facts):
                found.append(chosen)
                facts += chosen.facts
        return found or self.sections(1)

    def turn(self, question: str, answer: str, tickets: float, fact: Fact | None = None) -> Turn:
        """A question in plain words or, where its queue is clear, as a ticket."""
        queue = queue_of(question, fact)
        if queue and self.rng.random() < tickets:
            return ticket(self.rng, question, queue, answer, self.held_out)
        return self.spoken(question), answer

    def of_pages(self, count: int) -> Material:
        """Passages of hand-written pages."""
        made = lessons.lesson(self.rng, count, self.held_out)
        answered: list[Asked] = [(question, answer, None) for question, answer in made.answered]
        missing: list[Asked] = [(q, corpus.NOT_IN_PASSAGES, None) for q in made.missing]
        return Material(made.passages, answered, missing)

    def of_frames(self, count: int) -> Material:
        """Passages of the generator, each fact asked twice."""
        sections = self.passages(count)
        places = [(fact, n) for n, s in enumerate(sections, 1) for fact in s.facts]
        order = self.rng.sample(places, len(places)) + self.rng.sample(places, len(places))
        answered: list[Asked] = [
            (self.question(fact), f"{fact.value}. [{n}]", fact) for fact, n in order
        ]
        facts = [fact for fact, _ in places]
        missing: list[Asked] = [
            (self.question(fact), corpus.NOT_IN_PASSAGES, fact)
            for fact in (self.missing(facts) for _ in order)
        ]
        return Material(tuple((s.label, s.text) for s in sections), answered, missing)

    def missing(self, facts: Sequence[Fact]) -> Fact:
        """A fact that the passages do not state."""
        for _ in range(20):
            fact = self._near_miss(self.rng.choice(facts))
            if self.rng.random() < 0.4:
                fact = self.topical(self.rng.choice(tuple(THINGS)), 1)[0]
            if not self._known(fact, facts):
                return fact
        return self.far(1)[0]


def reading(
    rng: random.Random,
    tickets: float = 0.6,
    held_out: bool = False,
    turns: int = 9,
    miss: float = 0.25,
) -> Chat:
    """Questions and tickets over passages, answerable or not."""
    desk = Desk(rng, held_out)
    count = rng.choice((1, 2, 2, 2, 3))
    made = desk.of_pages(count) if rng.random() < PAGES_SHARE else desk.of_frames(count)
    found: list[Turn] = []
    while made.answered and len(found) < turns:
        roll = rng.random()
        if roll < 0.04:
            found.append(desk.small_talk("Larkfield"))
        elif roll < 0.08:
            found.append(problem(rng, held_out))
        else:
            refused = made.missing and roll < 0.08 + miss
            question, answer, fact = (made.missing if refused else made.answered).pop()
            found.append(desk.turn(question, answer, tickets, fact))
    return Chat(render_system(INSTRUCTIONS, made.passages), tuple(found))


def closed_book(rng: random.Random, facts: Sequence[Stable], beside: float = 0.35) -> Chat:
    """Stable facts from memory, unknown ones, problems and small talk; some beside passages."""
    desk = Desk(rng)
    sections = desk.passages(rng.choice((1, 2))) if rng.random() < beside else []
    system = render_system(INSTRUCTIONS, [(s.label, s.text) for s in sections])
    unknown = corpus.NOT_IN_PASSAGES if sections else corpus.NOT_KNOWN
    known = [fact for s in sections for fact in s.facts]
    found: list[Turn] = []
    for _ in range(10):
        roll = rng.random()
        if roll < 0.55:
            found.append(_remembered(rng, rng.choice(facts)))
        elif roll < 0.72:
            found.append(problem(rng))
        elif roll < 0.93:
            fact = desk.missing(known) if known else desk.missing(desk.far(1))
            found.append(desk.turn(desk.question(fact), unknown, 0.55, fact))
        else:
            found.append(desk.small_talk("Larkfield"))
    return Chat(system, tuple(found))


def _remembered(rng: random.Random, fact: Stable) -> Turn:
    question = varied(rng, rng.choice(fact.questions))
    if rng.random() < 0.35:
        return ticket(rng, question, fact.queue, f"{fact.value}.")
    return question, f"{fact.value}."


def varied(rng: random.Random, question: str) -> str:
    """The question with another opening, another name for the company, or sloppier typing."""
    if rng.random() < 0.3:
        question = question.replace("Larkfield", rng.choice(("our company", "the company", "us")))
    roll = rng.random()
    if roll < 0.15 and question.startswith(("Who ", "What ", "Where ", "Which ", "When ")):
        return f"Do you know {corpus.lower_first(question)}"
    if roll < 0.4:
        return rng.choice(speech.POLITE).format(
            q=question, l=corpus.lower_first(question), n="phone"
        )
    return corpus.lower_first(question.rstrip("?")) if roll < 0.5 else question


def contradicted(rng: random.Random, facts: Sequence[Stable]) -> Chat:
    """Passages that state a stable fact otherwise: the passages win."""
    desk = Desk(rng)
    fact = rng.choice(facts)
    value = other_value(rng, fact)
    statement = rng.choice(
        (
            "The {r} of Larkfield is {v}.",
            "Today the {r} of Larkfield is {v}.",
            "At Larkfield the {r} is {v}.",
            "The {r} is {v}.",
            "Since this year {v} is the {r} of Larkfield.",
        )
    )
    text = statement.format(r=fact.relation, v=value)
    label = f"{rng.choice(speech.TITLES)} > {corpus.upper_first(fact.relation)}"
    labelled = [(s.label, s.text) for s in desk.passages(rng.choice((1, 2)))]
    place = rng.randint(0, len(labelled))
    labelled.insert(place, (label, text))
    answer = f"{value}. [{place + 1}]"
    question = varied(rng, rng.choice(fact.questions))
    turn = (question, answer)
    if rng.random() < 0.5:
        turn = ticket(rng, question, fact.queue, answer)
    return Chat(render_system(INSTRUCTIONS, labelled), (turn,))


def other_value(rng: random.Random, fact: Stable) -> str:
    """Another value of the same kind: digits change, and names become other names."""
    if any(c.isdigit() for c in fact.value):
        return re.sub(r"\d", lambda _: rng.choice("123456789"), fact.value)
    if fact.value.split(" ")[0] in FIRST_NAMES:
        return values.draw(values.person, rng, held_out=False)
    if fact.value in PLACES:
        return rng.choice(PLACES)
    return values.draw(values.pair, rng, held_out=False)


def chat(rng: random.Random, facts: Sequence[Stable]) -> Chat:
    """One training chat of the adapter's mixture."""
    roll = rng.random()
    if roll < 0.5:
        return reading(rng)
    if roll < 0.93:
        return closed_book(rng, facts)
    return contradicted(rng, facts)


def samples(count: int, seed: int, facts: Sequence[Stable]) -> list[str]:
    """Prompts for which the adapter was trained: tickets and questions for stable facts."""
    rng = random.Random(seed)
    found = [rng.choice(fact.questions) for fact in facts for _ in range(3)]
    while len(found) < count:
        said, told = rng.choice(reading(rng, tickets=1.0).turns)
        found.append(said if told.startswith("Queue") else problem(rng)[0])
    return list(dict.fromkeys(found))
