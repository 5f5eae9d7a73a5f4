"""Invents companies: facts, passages that state them, and chats that ask about them.

Everything is drawn from pools by a seeded generator. With `held_out` all names, open values and,
where a frame has them, wordings come from the test split, which training never sees.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from deploy.demo.model import clauses, speech, values, wordings
from deploy.demo.model.words import (
    ADJECTIVES,
    ENTITY_WORDS,
    FIRST_NAMES,
    NOUNS,
    PLACES,
    RELATION_MODIFIERS,
)
from deploy.demo.model.words import STAFF as STAFF_NAMES
from serving.generation.prompt import render_system

NOT_IN_PASSAGES = "The documents do not say."
NOT_KNOWN = "I do not have that information."
KINDS = {
    wordings.GROUP: "team committee club crew department unit desk group board office".split(),
    wordings.THING: "product tool machine sensor robot app database server printer camera kit pump "
    "engine drone tablet platform vehicle van lamp scanner system device".split(),
    wordings.PLACE: "office room garden lab warehouse plant store clinic depot studio canteen "
    "building hall workshop library site".split(),
    wordings.WORK: "project project plan programme event course report fund policy service supplier "
    "conference contract campaign study scheme training".split(),
}
_ALIKE = (
    {"who", "person", "group", "name"},
    {"spot", "place", "room", "floor", "name"},
    {"date", "weekday", "clock", "year", "month", "hours", "often", "duration", "limit", "span"},
    {"duration", "measure", "span"},
    {"code", "extension", "name"},
    {"tally", "thing", "count", "sort", "span"},
    {"money", "percent", "measure"},
    {"thing", "name"},
    {"colour", "sort", "thing"},
)
EVERYONE = ("employees", "all employees", "everyone", "colleagues", "members")
_ASKERS = ("I", "we", "you", "employees", "staff", "people")
Turn = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Entity:
    """Who or what a fact is about; `kind` is empty for groups of staff and for plain topics."""

    name: str
    group: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """What is said: a frame with one of its topics, or a noun phrase with a value kind.

    An open frame also has filled slots and, since its wordings differ in the slots they use, the
    one statement that its questions have to agree with.
    """

    value: str
    topic: str
    frame: wordings.Frame | None = None
    slots: tuple[tuple[str, str], ...] = ()
    said: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    entity: Entity
    relation: Relation
    value: str


@dataclass(frozen=True, slots=True)
class Section:
    """One passage: what retrieval would return, and the facts it states."""

    label: str
    text: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation to learn from; `system` is None where there is no system message."""

    system: str | None
    turns: tuple[Turn, ...]


def company(rng: random.Random, held_out: bool) -> str:
    return values.draw(values.company, rng, held_out)


def instructions(rng: random.Random, held_out: bool) -> tuple[str, str]:
    """The operator's sentence, which may be empty, and the company it names, if any."""
    name = company(rng, held_out)
    text = rng.choice(speech.INSTRUCTIONS)
    return text.format(company=name), name if "{company}" in text else ""


def lower_first(text: str) -> str:
    """Lowers the first letter unless the first word is a name or a short form."""
    head = text.split(" ", 1)[0].strip(".,?:")
    keep = head in ENTITY_WORDS or head in FIRST_NAMES or head in PLACES or head.isupper()
    return text if keep and head != "A" else text[:1].lower() + text[1:]


def upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def new_entity(rng: random.Random, held_out: bool, near: Entity | None = None) -> Entity:
    """A new entity; with `near`, one of the same kind that often shares a word with it."""
    if near is not None and near.group == wordings.STAFF:
        return Entity(rng.choice([s for s in STAFF_NAMES if s not in EVERYONE]), near.group)
    name = values.draw(values.pair, rng, held_out)
    if near is None:
        group = rng.choice(tuple(KINDS))
        return Entity(name, group, rng.choice(KINDS[group]))
    if rng.random() < 0.4:
        name = values.draw(lambda r: _half_new(near.name, r), rng, held_out)
    return Entity(name, near.group, near.kind)


def _half_new(name: str, rng: random.Random) -> str:
    first, last = name.split(" ")
    word = rng.choice(ENTITY_WORDS)
    return f"{first} {word}" if rng.random() < 0.5 else f"{word} {last}"


def open_relation(rng: random.Random, held_out: bool, thing: str = "") -> Relation:
    """An everyday clause about anything, or about the given thing."""
    frame = rng.choice(clauses.FRAMES)
    slots = clauses.slots(frame, rng, held_out)
    if thing and "s" in slots:
        slots["s"] = thing
    asked = wordings.chosen(frame.questions, held_out)
    pool = wordings.chosen(frame.statements, held_out)
    said = rng.choice([p for p in pool if clauses.agreeing(p, asked, frame)] or frame.statements)
    return Relation(frame.value, slots.get("s") or slots["a"], frame, tuple(slots.items()), said)


def changed(relation: Relation, rng: random.Random, held_out: bool) -> Relation:
    """The same clause about something else that may well share a word with it."""
    slots = clauses.changed(dict(relation.slots), rng, held_out)
    return replace(relation, slots=tuple(slots.items()), topic=slots.get("s") or slots["a"])


def new_relation(rng: random.Random, group: str, held_out: bool) -> Relation:
    """A relation that suits one group of entities."""
    if group == clauses.OPEN:
        return open_relation(rng, held_out)
    named = group in KINDS
    if named and rng.random() < 0.4:
        return _noun_relation(rng)
    frame = rng.choice([f for f in wordings.FRAMES if f.entity == group])
    topic = rng.choice(frame.topics)
    if len(frame.topics) > 1 and rng.random() < 0.12:
        topic = rng.choice(("{a} {n}", "{n} {m}", "{n}s", "the {n}", "{a} {n}s")).format(
            a=rng.choice(ADJECTIVES), n=rng.choice(NOUNS), m=rng.choice(NOUNS)
        )
    return Relation(frame.value, topic, frame)


def _noun_relation(rng: random.Random) -> Relation:
    kind = rng.choice(tuple(wordings.HEADS))
    head = rng.choice(wordings.HEADS[kind].split())
    first = rng.choice(
        (
            rng.choice(RELATION_MODIFIERS),
            rng.choice(RELATION_MODIFIERS),
            rng.choice(NOUNS),
            rng.choice(ADJECTIVES),
        )
    )
    words = [first, head] if rng.random() < 0.85 else [rng.choice(RELATION_MODIFIERS), first, head]
    return Relation(kind, " ".join(dict.fromkeys(words)))


def clashes(one: Relation, other: Relation) -> bool:
    """Whether a question about one relation could be taken for one about the other."""
    if one.said and other.said:
        verbs = [clauses.verb(r.said, dict(r.slots)) for r in (one, other)]
        return (
            one.topic == other.topic
            and _same_kind(one, other)
            and ("" in verbs or verbs[0] == verbs[1])
        )
    if one.said or other.said:
        return False
    if one.frame is None or other.frame is None:
        return one.topic.split()[-1] == other.topic.split()[-1] or (
            one.frame is not other.frame and _same_kind(one, other)
        )
    shared = set(one.frame.questions) & set(other.frame.questions)
    return one.topic == other.topic and bool(shared)


def _same_kind(one: Relation, other: Relation) -> bool:
    """Whether two relations have values that answer the same question word."""
    kinds = {one.value, other.value}
    return len(kinds) == 1 or any(kinds <= group for group in _ALIKE)


class Writer:
    """Writes the sections and questions of one invented company."""

    def __init__(self, rng: random.Random, held_out: bool = False) -> None:
        self.rng = rng
        self.held_out = held_out
        self.company = ""

    def fact(self, entity: Entity, relation: Relation) -> Fact:
        if relation.value in ("tally", "limit", "span"):
            return Fact(entity, relation, clauses.tally(dict(relation.slots), self.rng))
        if relation.value == "sort":
            return Fact(entity, relation, clauses.sort(dict(relation.slots), self.rng))
        value = values.value(relation.value, self.rng, self.held_out)
        if relation.value == "number" and entity.group != wordings.NONE:
            value = f"{value} {relation.topic}"
        return Fact(entity, relation, value)

    def about(self, entity: Entity, count: int) -> list[Fact]:
        """Facts about one entity whose relations cannot be confused."""
        facts: list[Fact] = []
        for _ in range(count * 3):
            relation = new_relation(self.rng, entity.group, self.held_out)
            if not any(clashes(relation, fact.relation) for fact in facts):
                facts.append(self.fact(entity, relation))
                if self.rng.random() < 0.3:
                    facts[-1] = self._open_fact(f"{entity.name} {entity.kind}")
            if len(facts) == count:
                break
        return facts

    def _open_fact(self, thing: str = "") -> Fact:
        relation = open_relation(self.rng, self.held_out, thing)
        return self.fact(Entity("", clauses.OPEN), relation)

    def topics(self, count: int) -> list[Fact]:
        """Facts of a policy page: about topics, groups of staff and everyday things."""
        facts: list[Fact] = []
        for _ in range(count):
            group = self.rng.choices((wordings.NONE, wordings.STAFF, clauses.OPEN), (3, 2, 6))[0]
            if facts and self.rng.random() < 0.5:
                relation = self._sibling(facts[-1].relation)
            else:
                relation = new_relation(self.rng, group, self.held_out)
            group = relation.frame.entity if relation.frame else group
            name = self.rng.choice(STAFF_NAMES) if group == wordings.STAFF else ""
            facts.append(self.fact(Entity(name, group), relation))
        return facts

    def _sibling(self, relation: Relation) -> Relation:
        """The same frame about another topic; for open frames also the same thing otherwise."""
        frame = relation.frame
        assert frame is not None
        if relation.said and self.rng.random() < 0.5:
            return open_relation(self.rng, self.held_out, relation.topic)
        if relation.said:
            return changed(relation, self.rng, self.held_out)
        return Relation(relation.value, self.rng.choice(frame.topics), frame)

    def mention(self, entity: Entity, first: bool) -> str:
        """The entity as a noun phrase; a pronoun or its kind once it has been named."""
        if not entity.kind:
            return entity.name
        name, kind = entity.name, entity.kind
        if first:
            return self.rng.choice((name, name, f"the {name} {kind}", f"the {name}"))
        return self.rng.choice(("it", "it", f"the {kind}", f"the {kind}", name, f"the {name}"))

    def statement(self, fact: Fact, first: bool) -> str:
        """One statement, without capital and full stop."""
        relation, frame = fact.relation, fact.relation.frame
        if relation.said:
            return clauses.worded(
                relation.said, dict(relation.slots), fact.value, self.rng, again=not first
            )
        if frame is not None:
            pool = wordings.chosen(frame.statements, self.held_out)
        elif first or self.rng.random() < 0.3:
            pool = wordings.chosen(wordings.STATEMENTS, self.held_out)
        else:
            pool = wordings.chosen(wordings.IMPLICIT, self.held_out)
        if fact.value[0].islower():
            pool = tuple(p for p in pool if not p.startswith("{v}")) or pool
        entity = self.mention(fact.entity, first)
        entity = fact.entity.name if frame is None and entity == "it" else entity
        text = self.rng.choice(pool)
        return text.format(e=entity, v=fact.value, t=relation.topic, r=relation.topic)

    def question(self, fact: Fact, pronoun: str = "") -> str:
        """One question for a fact, possibly with a pronoun for the entity just spoken of."""
        relation, frame = fact.relation, fact.relation.frame
        pool = frame.questions if frame else wordings.QUESTIONS
        pool = wordings.chosen(pool, self.held_out)
        if relation.said:
            text = self.rng.choice(clauses.agreeing(relation.said, pool, frame))
            return clauses.worded(text, dict(relation.slots), "", self.rng, asked=True)
        kind = wordings.BY_KIND.get(relation.value)
        if frame is None and kind and self.rng.random() < 0.35:
            pool = kind
        text = self.rng.choice(pool)
        entity = pronoun or self._asked_entity(fact.entity, text)
        return text.format(e=entity, t=relation.topic, r=relation.topic)

    def _asked_entity(self, entity: Entity, wording: str) -> str:
        asked = any(f"{verb} {{e}}" in wording for verb in ("do", "may", "can", "should", "must"))
        if entity.name in EVERYONE and asked and self.rng.random() < 0.6:
            return self.rng.choice(_ASKERS)
        return self.mention(entity, first=True)

    def spoken(self, question: str) -> str:
        """The question as somebody would type it."""
        roll = self.rng.random()
        if roll < 0.16:
            return self.rng.choice(speech.POLITE).format(
                q=question, l=lower_first(question), n=self.rng.choice(NOUNS)
            )
        if roll < 0.22:
            return question.rstrip("?.")
        if roll < 0.28:
            return lower_first(question)
        return question.lower().rstrip("?.") if roll < 0.32 else question

    def section(self, facts: Sequence[Fact], filler: str = "") -> Section:
        """Writes facts as one passage of a few sentences under a label."""
        label, named = self._label(facts)
        sentences: list[str] = []
        seen: set[str] = {facts[0].entity.name} if named and self.rng.random() < 0.4 else set()
        for fact in facts:
            about = fact.entity.name or fact.relation.topic
            text = self._framed(self.statement(fact, about not in seen))
            seen = {about}
            if sentences and self.rng.random() < 0.12:
                sentences[-1] += self.rng.choice((", and ", "; ", " and ", ", while ")) + text
            else:
                sentences.append(upper_first(text))
        text = " ".join(sentence + "." for sentence in sentences)
        return Section(label, self._padded(text, facts, filler), tuple(facts))

    def _framed(self, text: str) -> str:
        """Some statements get a few words in front or behind that say nothing new."""
        roll = self.rng.random()
        if roll < 0.07:
            return f"{self.rng.choice(speech.LEADS)} {lower_first(text)}"
        if roll < 0.1 and self.company:
            return f"at {self.company} {lower_first(text)}"
        return f"{text}, {self.rng.choice(speech.TAILS)}" if roll < 0.2 else text

    def _padded(self, text: str, facts: Sequence[Fact], filler: str) -> str:
        """Adds an introduction or a filler sentence to some passages."""
        entity, roll = facts[0].entity, self.rng.random()
        filler = filler or self.rng.choice(speech.FILLERS)
        if entity.kind and roll < 0.12:
            article = "an" if entity.kind[0] in "aeiou" else "a"
            return f"{entity.name} is {article} {entity.kind}. {text}"
        if roll < 0.3:
            return f"{filler} {text}"
        return f"{text} {filler}" if roll < 0.55 else text

    def _label(self, facts: Sequence[Fact]) -> tuple[str, bool]:
        """A heading path, and whether it names the first fact's entity."""
        entity, rng = facts[0].entity, self.rng
        title = rng.choice(speech.TITLES)
        if entity.kind and rng.random() < 0.65:
            names = (
                entity.name,
                entity.name,
                f"The {entity.name} {entity.kind}",
                f"About {entity.name}",
            )
            heading = rng.choice(names)
            if rng.random() < 0.15:
                title, heading = entity.name, rng.choice(speech.HEADINGS)
            return f"{title} > {heading}", True
        topic = facts[0].relation.topic
        heading = upper_first(topic) if topic != "-" and rng.random() < 0.7 else ""
        return f"{title} > {heading or rng.choice(speech.HEADINGS)}", False

    def sections(self, count: int, filler: str = "") -> list[Section]:
        """Passages of one search result: often near misses of each other."""
        facts: list[Fact] = []
        found: list[Section] = []
        for _ in range(count):
            size = self.rng.choices((1, 2, 3, 4), (15, 40, 32, 13))[0]
            chosen = self._near(facts, size) if facts and self.rng.random() < 0.6 else None
            chosen = [f for f in chosen or self.far(size) if not self._known(f, facts)]
            if chosen:
                facts += chosen
                found.append(self.section(chosen, filler))
                filler = ""
        self.rng.shuffle(found)
        return found

    def far(self, size: int) -> list[Fact]:
        if self.rng.random() < 0.55:
            return self._distinct(self.topics(size))
        return self.about(new_entity(self.rng, self.held_out), size)

    def _near(self, facts: list[Fact], size: int) -> list[Fact]:
        """Facts that share relations with known ones, about another entity or topic."""
        old = self.rng.choice(facts)
        if old.entity.group not in KINDS:
            sibling = self._sibling(old.relation)
            first = self.fact(
                new_entity(self.rng, self.held_out, old.entity) if old.entity.name else old.entity,
                sibling,
            )
            return self._distinct([first, *self.topics(size - 1)])
        entity = new_entity(self.rng, self.held_out, old.entity)
        shared = [f.relation for f in facts if f.entity == old.entity][: max(1, size - 1)]
        found = [self.fact(entity, relation) for relation in shared]
        more = self.about(entity, size - len(shared)) if size > len(shared) else []
        found += [f for f in more if not any(clashes(f.relation, r) for r in shared)]
        self.rng.shuffle(found)
        return found

    def _distinct(self, facts: list[Fact]) -> list[Fact]:
        kept: list[Fact] = []
        for fact in facts:
            if not self._known(fact, kept):
                kept.append(fact)
        return kept

    def _known(self, fact: Fact, facts: Sequence[Fact]) -> bool:
        """Whether the question for this fact is answered by, or confused with, other facts."""
        for other in facts:
            same = other.entity.name == fact.entity.name
            same = same or {other.entity.name, fact.entity.name} <= set(EVERYONE)
            general = other.entity.name in EVERYONE or fact.entity.name in EVERYONE
            if (same or general) and clashes(fact.relation, other.relation):
                return True
        return False

    def unanswerable(self, facts: Sequence[Fact]) -> str:
        """A question that the facts do not answer, most often a near miss."""
        if self.rng.random() < 0.05:
            return self.general_question()
        for _ in range(20):
            fact = self._near_miss(self.rng.choice(facts))
            if not self._known(fact, facts):
                return self.question(fact)
        return self.general_question()

    def _near_miss(self, fact: Fact) -> Fact:
        entity, relation, roll = fact.entity, fact.relation, self.rng.random()
        if roll < 0.12:
            return self.far(1)[0]
        if roll < 0.55 and entity.group != clauses.OPEN:
            return self.fact(entity, new_relation(self.rng, entity.group, self.held_out))
        if not entity.name or entity.name in EVERYONE:
            return self.fact(entity, self._sibling(relation))
        return self.fact(new_entity(self.rng, self.held_out, entity), relation)

    def general_question(self) -> str:
        """A question about the world, which no passage answers."""
        rng = self.rng
        return rng.choice(speech.GENERAL).format(
            place=rng.choice(PLACES),
            place2=rng.choice(PLACES),
            noun=rng.choice(NOUNS),
            adj=rng.choice(ADJECTIVES),
            n=rng.randint(2, 99),
            m=rng.randint(2, 99),
            person=values.draw(values.person, rng, self.held_out),
            pair=values.draw(values.pair, rng, self.held_out),
        )

    def small_talk(self, company_name: str) -> Turn:
        said, reply = self.rng.choice(speech.SMALL_TALK)
        text = self.rng.choice(said.split("|")) + self.rng.choice(("", "", "!", ".", "?", "!!"))
        if self.rng.random() < 0.25:
            text = text.lower()
        of = f" of {company_name}" if company_name else ""
        return text, reply.format(of=of, of2=f" {company_name}" if company_name else "")


def context_chat(
    rng: random.Random,
    passages: int,
    held_out: bool,
    turns: int = 12,
    filler: str = "",
    miss: float = 0.25,
) -> Chat:
    """A chat over some passages: answerable questions, near misses and a little small talk."""
    writer = Writer(rng, held_out)
    text, name = instructions(rng, held_out)
    writer.company = name
    sections = writer.sections(passages, filler)
    system = render_system(text, [(s.label, s.text) for s in sections])
    places = [(fact, n) for n, section in enumerate(sections, 1) for fact in section.facts]
    facts = [fact for fact, _ in places]
    order = rng.sample(places, len(places)) + rng.sample(places, len(places))
    found: list[Turn] = []
    last: Fact | None = None
    while order and len(found) < turns:
        roll = rng.random()
        if roll < 0.05:
            found.append(writer.small_talk(name))
        elif roll < 0.05 + miss:
            found.append((writer.spoken(writer.unanswerable(facts)), NOT_IN_PASSAGES))
        else:
            fact, number = order.pop(0)
            found.append((_asked(writer, fact, last), f"{fact.value}. [{number}]"))
            last = fact
            continue
        last = None
    return Chat(system, tuple(found))


def _asked(writer: Writer, fact: Fact, last: Fact | None) -> str:
    """The question for a fact; a follow-up where the turn before makes one possible."""
    rng = writer.rng
    if last is None or rng.random() < 0.6:
        return writer.spoken(writer.question(fact))
    if last.entity == fact.entity and fact.entity.kind:
        pronoun = rng.choice(("it", f"the {fact.entity.kind}", "it"))
        question = writer.question(fact, pronoun)
        return rng.choice(("And " + lower_first(question), question))
    if last.relation == fact.relation and fact.entity.name:
        name = writer.mention(fact.entity, first=True)
        return rng.choice((f"And {name}?", f"What about {name}?", f"And for {name}?"))
    return writer.spoken(writer.question(fact))


def recall_chat(rng: random.Random) -> Chat:
    """Bare pairs of names and values, each asked for: the plainest form of looking up."""
    writer = Writer(rng)
    known: dict[str, str] = {}
    kinds = (*values.OPEN, *values.CLOSED)
    for _ in range(rng.randint(3, 9)):
        name = rng.choice((values.draw(values.pair, rng, False), clauses.thing(rng, False)))
        known[name] = values.value(rng.choice(kinds), rng, held_out=False)
    joined = rng.choice((": {}", " is {}", " has {}", " = {}"))
    text = " ".join(name + joined.format(told) + "." for name, told in known.items())
    names = rng.sample(sorted(known), len(known))
    mark = rng.choice(("?", "", " is?"))
    return Chat(text, tuple((writer.spoken(name + mark), f"{known[name]}.") for name in names))


def plain_chat(rng: random.Random, held_out: bool) -> Chat:
    """A chat without passages: small talk, and questions that cannot be answered."""
    writer = Writer(rng, held_out)
    text, name = instructions(rng, held_out)
    found: list[Turn] = []
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        if rng.random() < 0.5:
            found.append(writer.small_talk(name))
            continue
        fact = writer.fact(*_subject(writer))
        question = writer.question(fact) if rng.random() < 0.8 else writer.general_question()
        found.append((writer.spoken(question), NOT_KNOWN))
    return Chat(text or None, tuple(found))


def _subject(writer: Writer) -> tuple[Entity, Relation]:
    fact = writer.far(1)[0]
    return fact.entity, fact.relation


def prose(rng: random.Random, filler: str) -> str:
    """Plain company text for pretraining."""
    sections = Writer(rng).sections(rng.randint(1, 3), filler)
    return "\n".join(f"{section.label}: {section.text}" for section in sections)
