"""Open frames: everyday sentences about almost anything, asked in many ways.

Slots beside the value `{v}`: `{s}` a thing with its article, `{a}` who acts, `{o}` plural things,
`{n}` a bare noun, `{j}` an adjective, `{m}` a role, and `{b}`, `{z}`, `{d}` one verb as base form,
third person and participle.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable

from deploy.demo.model import values, wordings
from deploy.demo.model.words import (
    ADJECTIVES,
    COLOURS,
    ENTITY_WORDS,
    NOUNS,
    PLACES,
    RELATION_MODIFIERS,
)

OPEN = "open"
VERBS = tuple(
    tuple(line.split("/"))
    for line in """
check/checks/checked clean/cleans/cleaned repair/repairs/repaired order/orders/ordered
send/sends/sent write/writes/written read/reads/read sign/signs/signed open/opens/opened
close/closes/closed print/prints/printed book/books/booked pay/pays/paid store/stores/stored
keep/keeps/kept bring/brings/brought collect/collects/collected deliver/delivers/delivered
buy/buys/bought sell/sells/sold rent/rents/rented borrow/borrows/borrowed lend/lends/lent
test/tests/tested update/updates/updated replace/replaces/replaced change/changes/changed
move/moves/moved count/counts/counted measure/measures/measured draw/draws/drawn
design/designs/designed build/builds/built make/makes/made plan/plans/planned
organise/organises/organised prepare/prepares/prepared review/reviews/reviewed
approve/approves/approved answer/answers/answered handle/handles/handled report/reports/reported
delete/deletes/deleted save/saves/saved copy/copies/copied lock/locks/locked
unlock/unlocks/unlocked wash/washes/washed paint/paints/painted cut/cuts/cut cook/cooks/cooked
serve/serves/served eat/eats/eaten drink/drinks/drunk wear/wears/worn carry/carries/carried
hold/holds/held lift/lifts/lifted load/loads/loaded drive/drives/driven park/parks/parked
teach/teaches/taught lead/leads/led run/runs/run start/starts/started stop/stops/stopped
renew/renews/renewed cancel/cancels/cancelled return/returns/returned share/shares/shared
choose/chooses/chosen give/gives/given offer/offers/offered get/gets/got need/needs/needed
use/uses/used publish/publishes/published translate/translates/translated film/films/filmed
record/records/recorded announce/announces/announced visit/visits/visited host/hosts/hosted
train/trains/trained help/helps/helped support/supports/supported protect/protects/protected
water/waters/watered feed/feeds/fed weigh/weighs/weighed pack/packs/packed ship/ships/shipped
label/labels/labelled sort/sorts/sorted burn/burns/burned fill/fills/filled empty/empties/emptied
charge/charges/charged connect/connects/connected install/installs/installed set/sets/set
switch/switches/switched found/founds/founded manage/manages/managed own/owns/owned
sponsor/sponsors/sponsored guard/guards/guarded watch/watches/watched show/shows/shown
follow/follows/followed join/joins/joined confirm/confirms/confirmed release/releases/released
launch/launches/launched promise/promises/promised produce/produces/produced insure/insures/insured
""".split()
)
ROLES = """
head|lead|deputy lead|manager|office manager|product manager|chair|deputy|owner|contact|sponsor|
director|chief executive|founder|trainer|cook|chief|driver|secretary|planner|officer|buyer|editor|
treasurer|nurse|coach|mentor|partner|designer|author|host|teacher|inspector|deputy head
""".replace("\n", "").split("|")
_ACTORS = """
an employee|each employee|a new employee|a visitor|every visitor|a guest|a customer|each customer|
a driver|a manager|each manager|a team|every team|the company|the office|our company|a supplier|
the support desk|a parent|an engineer|the warehouse|the kitchen|the factory|the shop|a trainee|
a member|the front desk|the finance office|the people office|a speaker|a traveller|a buyer|a tester
""".replace("\n", "").split("|")
_OBJECTS = """
forms|pages|sheets|letters|keys|desks|chairs|places|sensors|stations|machines|cables|probes|boats|
ships|fish|eggs|meals|trees|plants|tools|parts|samples|files|members|testers|visitors|helpers|
guests|speakers|customers|students|towns|rivers|bridges|lamps|screens|cups|bottles|bags|parcels|
offers|lessons|tests|letters a day|calls|photos|tickets|tables|books|cars|buses|trucks|drivers|
rooms|floors|doors|windows|steps|rules|questions|ideas|words|songs|shares|orders a week|buttons
""".replace("\n", "").split("|")
_EXTRAS = """
meeting|talk|trip|call|letter|mail|order|visit|course|lesson|report|invoice|bill|receipt|account|
contract|gift|prize|party|market|breakfast|lunch|dinner|holiday|break|shift|ride|flight|train ride|
hotel|office|factory|garden|yard|roof|cellar|bridge|river|pier|boat|ship|car|bus|truck|engine|motor|
machine|station|sensor|gauge|probe|camera|robot|app|program|website|file|folder|backup|computer|
laptop|keyboard|mouse|printer|server|network|tunnel|badge|account|photo|picture|logo|song|horn|siren|
test|check|review|audit|survey|raffle|game|race|concert|fair|tour|museum|school|university|nursery|
farm|mill|tower|mast|dam|pump|pipe|tank|well|fence|gate|bench|tree|hedge|lawn|dog|cat|bird|horse|
insurance|pension|salary|bonus|budget|fund|loan|advance|share|tax|fine|deposit|tip|card|pass|permit|
uniform|vest|jacket|boots|spare part|heating|light|alarm|drill|clean up|group|club|choir|library
""".replace("\n", "").split("|")
_DESCRIBED = """
lost|broken|old|new|large|small|long|short|yearly|full|first|last|free|late|early|spare|shared|
damaged|used|unused|urgent|normal|special|deleted|locked|open|big|company|staff|customer|
summer|winter|weekend|school|river|weather|data|team|city|night|morning|evening|emergency
""".replace("\n", "").split("|")
_VERB = {"verb"}
_ASKED_ONLY = {"o", "k"}  # what the value itself says: "12 pages", "a round button"
_UNITS = ("days", "weeks", "months", "years", "hours", "minutes", "seconds", "working days")

FRAMES = tuple(
    wordings.parse(block)
    for block in """
who / open / -
{v} {z} {s}; {s} is {d} by {v}; it is {v} who {z} {s}; {s} must be {d} by {v}; {s} was {d} by {v}; {v} has {d} {s}; {s} can be {d} by {v}; only {v} may {b} {s}; as a rule {v} {z} {s}
Who {z} {s}?; By whom is {s} {d}?; Who has to {b} {s}?; Who may {b} {s}?; Which person {z} {s}?; Which employee {z} {s}?; Who was it that {d} {s}?; Who should {b} {s}?; {s} is {d} by whom?; What is the name of the person who {z} {s}?

name / open / -
{v} {z} {s}; {s} is {d} by {v}; {s} was {d} by {v}; {v} has {d} {s}; we let {v} {b} {s}; {s} can be {d} by {v}
Which company {z} {s}?; Which supplier {z} {s}?; Who {z} {s}?; Which company has {d} {s}?; By which company is {s} {d}?; Which partner {z} {s}?; From which company is {s}?

name / open / -
{s} is {d} in the {v} tool; {s} is {d} with the {v} tool; use the {v} app to {b} {s}; to {b} {s}, open {v}; {s} can only be {d} in {v}; {s} is {d} in {v}
In which tool is {s} {d}?; With which tool is {s} {d}?; Which tool do I use to {b} {s}?; Where do I {b} {s}?; In which app is {s} {d}?; Which app do I need to {b} {s}?; Where is {s} {d}?

name / open / -
{s} has the name {v}; {s} is called {v}; the name of {s} is {v}; we call {s} {v}; {s} is known as {v}; {s} goes by the name of {v}; {s} with the name {v} is well known
What is {s} called?; What is the name of {s}?; Which name does {s} have?; Do you know the name of {s}?; What do we call {s}?; What name does {s} have?; Under which name is {s} known?

person / open / -
the {m} of {s} is {v}; {v} is the {m} of {s}; {v} works as {m} of {s}; {s} has {v} as its {m}; as {m} of {s}, {v} has a lot to do; the {m} for {s} is {v}; {v} became {m} of {s} last year; ask {v}, the {m} of {s}
Who is the {m} of {s}?; Who is {m} of {s}?; What is the {m} of {s} called?; What is the name of the {m} of {s}?; Who works as {m} of {s}?; Which person is the {m} of {s}?; Do you know the {m} of {s}?; Who became {m} of {s}?

person / open / -
{v} takes care of {s}; {v} is in charge of {s}; {v} answers for {s}; {v} looks after {s}; questions about {s} go to {v}; ask {v} about {s}; {v} knows all about {s}; {v} helps with {s}; {s} is in the hands of {v}
Who takes care of {s}?; Who is in charge of {s}?; Who looks after {s}?; Whom do I ask about {s}?; Who helps with {s}?; Who knows about {s}?; To whom do questions about {s} go?; Who is responsible for {s}?; Who answers questions about {s}?

weekday / open / -
{s} is {d} on {v}; {a} {z} {s} on {v}; on {v} {s} is {d}; {s} will be {d} on {v}; {s} takes place on {v}; {s} may be {d} on {v} only; {s} happens on {v}
On which day is {s}?; When is {s}?; When does {s} happen?; On which day is {s} {d}?; When is {s} {d}?; On what day is {s} {d}?; On which weekday is {s} {d}?; Which day is {s} {d}?; When can {s} be {d}?; On which day may {s} be {d}?

date / open / -
{s} is {d} on {v}; {s} was {d} on {v}; on {v} {s} is {d}; {s} will be {d} on {v}; {s} must be {d} by {v}; {s} has to be {d} before {v}; {a} {z} {s} on {v}; {s} comes on {v}; {s} begins on {v}; {s} runs until {v}
When is {s} {d}?; On which date is {s} {d}?; When was {s} {d}?; By when must {s} be {d}?; When will {s} be {d}?; Until when must {s} be {d}?; Before which date is {s} {d}?; What is the date on which {s} is {d}?; On what date is {s} {d}?; When does {s} begin?

clock / open / -
{s} is {d} at {v}; {s} starts at {v}; at {v} {s} is {d}; {a} {z} {s} at {v}; {s} must be {d} before {v}; {s} has to be {d} by {v}; {s} will be {d} at {v}; {s} closes at {v}; {s} leaves at {v}; {s} ends at {v}
At what time is {s} {d}?; When is {s} {d}?; What time is {s} {d}?; Before what time must {s} be {d}?; By what time must {s} be {d}?; At what time does {s} start?; When does {s} start?; At what time does {s} end?; At what time does {s} leave?; From what time is {s} open?

spot / open / -
{s} is {d} in {v}; {s} lies in {v}; {s} hangs in {v}; {s} stands in {v}; {a} {z} {s} in {v}; {s} waits in {v}; {s} can be found in {v}; in {v} you find {s}; {s} is kept in {v}; {s} must be {d} in {v}; the place for {s} is {v}
Where is {s} {d}?; Where is {s}?; Where do I find {s}?; Where does {s} lie?; Where does {s} hang?; Where does {s} stand?; Where can {s} be {d}?; In which place is {s} {d}?; In which room is {s} {d}?; Where is {s} kept?; Where does {a} {b} {s}?; Where do we {b} {s}?

place / open / -
{s} is {d} in {v}; {s} comes from {v}; {s} stands near {v}; {a} {z} {s} in {v}; {s} was {d} in {v}; {s} takes place in {v}; the home of {s} is {v}; {s} lies close to {v}
In which town is {s} {d}?; Where is {s} {d}?; In which city is {s} {d}?; Near which town is {s}?; From where does {s} come?; In what town was {s} {d}?; In which place is {s} {d}?; Where does {s} take place?

often / open / -
{s} is {d} {v}; {s} must be {d} {v}; {a} {z} {s} {v}; {v} {s} is {d}; {s} has to be {d} {v}; {s} should be {d} {v}; {s} can be {d} {v}
How often is {s} {d}?; How often must {s} be {d}?; How often does {a} {b} {s}?; How often should {s} be {d}?; How many times is {s} {d}?; When must {s} be {d}?; How often do we {b} {s}?

duration / open / -
{s} is {d} for {v}; {s} lasts {v}; {s} takes {v}; {s} may last up to {v}; {s} is valid for {v}; {s} can be {d} for {v}; {s} runs for {v}; {s} goes on for {v}; it takes {v} to {b} {s}; you need {v} to {b} {s}; {a} may {b} {s} for {v}
For how long is {s} {d}?; How long does {s} last?; How long does {s} take?; How long is {s} {d}?; For how long can {s} be {d}?; How long is {s} valid?; How long can {s} last?; How much time does it take to {b} {s}?; How long is {s}?; How long may {s} last?

duration / open / -
{s} is {d} within {v}; {s} must be {d} within {v}; {s} is {d} after {v}; after {v} {s} is {d}; {s} has to be {d} no later than {v}; {a} {z} {s} within {v}; {s} must be {d} at least {v} before; please {b} {s} at least {v} before the start; {s} is due after {v}; {s} comes after {v}
Within what time is {s} {d}?; How soon must {s} be {d}?; After what time is {s} {d}?; How fast is {s} {d}?; How early must {s} be {d}?; Within how many days is {s} {d}?; After how many days is {s} {d}?; After what time does {s} come?; How soon does {s} come?; When is {s} due?; How long before must {s} be {d}?; When must {s} be {d}?; How quickly is {s} {d}?; How early must I {b} {s}?

money / open / -
{s} costs {v}; {s} may cost up to {v}; {s} is sold for {v}; {a} pays {v} for {s}; the price of {s} is {v}; {s} comes at {v}; you pay {v} for {s}; for {s} the company pays {v}; {s} can be {d} for {v}; {s} is worth {v}; {a} gets {v} for {s}; {s} may cost at most {v}; the fee for {s} is {v}
How much does {s} cost?; What does {s} cost?; What is the price of {s}?; How much may {s} cost?; For how much is {s} {d}?; How much is paid for {s}?; What does {a} pay for {s}?; How much do I pay for {s}?; How much is {s}?; What may {s} cost at most?; How much money do I get for {s}?; How expensive is {s}?; Up to what amount is {s} paid?; How high is the fee for {s}?

money / open / -
{a} may {b} {o} up to {v}; {a} pays up to {v} for {o}; {a} gets {v} a year for {o}; {o} up to {v} can be {d} by {a}; {a} has {v} for {o}; above {v} {a} must ask before {o} are {d}; {o} over {v} are {d} by {a}; {a} spends {v} on {o}
Up to what amount may {a} {b} {o}?; How much does {a} pay for {o}?; How much money does {a} have for {o}?; Above what amount are {o} {d} by {a}?; How much does {a} get for {o}?; How much does {a} spend on {o}?; What does {a} get for {o}?

tally / open / -
{a} {z} {v}; {a} may {b} {v}; {a} can {b} {v} at once; {a} has to {b} at least {v}; up to {v} can be {d} by {a}; {a} {z} {v} each week; {a} {z} {v} per year; {v} are {d} by {a}; at most {v} may be {d} by {a}; last year {a} {d} {v}; every day {a} {z} {v}
How many {o} does {a} {b}?; How many {o} may {a} {b}?; How many {o} can {a} {b}?; How many {o} must {a} {b}?; How many {o} are {d} by {a}?; What number of {o} does {a} {b}?; How many {o} does {a} {b} each week?; How many {o} did {a} {b}?

tally / open / -
{s} has {v}; {s} holds {v}; {s} needs {v}; {s} offers {v}; there are {v} in {s}; {s} can serve {v}; {v} belong to {s}; {s} comes with {v}; {v} took part in {s}; {s} works with {v}; {s} uses {v}; {s} has room for {v}; {v} came to {s}; {s} needs {v} in total
How many {o} does {s} have?; How many {o} does {s} hold?; How many {o} does {s} need?; How many {o} are in {s}?; How many {o} can {s} serve?; How many {o} belong to {s}?; How many {o} took part in {s}?; How many {o} does {s} use?; How many {o} came to {s}?; What is the number of {o} of {s}?

colour / open / -
{s} is {v}; {s} has a {v} {n}; the {n} of {s} is {v}; the colour of the {n} of {s} is {v}; the {n} of {s} has the colour {v}; {s} comes with a {v} {n}; {s} is known by its {v} {n}
What colour is {s}?; What colour is the {n} of {s}?; Which colour does the {n} of {s} have?; What is the colour of the {n} of {s}?; What colour {n} does {s} have?; In which colour is {s}?

thing / open / -
{a} {z} {v}; {a} must {b} {v}; {a} may {b} {v}; {a} has to {b} {v}; {v} is {d} by {a}; {a} should {b} {v}; {a} usually {z} {v}; each day {a} {z} {v}; at the start {a} {z} {v}
What does {a} {b}?; What must {a} {b}?; What may {a} {b}?; What should {a} {b}?; What is {d} by {a}?; Which thing does {a} {b}?; What does {a} have to {b}?

thing / open / -
{s} needs {v}; for {s} you need {v}; {s} comes with {v}; {s} has {v}; {v} is part of {s}; {s} is {d} with {v}; {s} is made of {v}; {s} is opened with {v}; {v} is needed for {s}; in {s} there is {v}; the usual {s} is {v}; {s} carries {v}; {s} starts with {v}
What does {s} need?; What do I need for {s}?; What comes with {s}?; What does {s} have?; With what is {s} {d}?; What is {s} made of?; What is needed for {s}?; What is in {s}?; What is {s} {d} with?; What does {s} carry?; What mark does {s} have?

thing / open / -
{s} is used for {v}; {s} shows {v}; {s} counts {v}; {s} measures {v}; {s} is meant for {v}; we use {s} for {v}; {a} uses {s} for {v}; {s} protects {v}
What is {s} used for?; What does {s} show?; What does {s} count?; What does {s} measure?; For what is {s} used?; What is {s} meant for?; What do we use {s} for?; What does {s} do?; What does {s} protect?

code / open / -
{s} has the number {v}; the number of {s} is {v}; the code for {s} is {v}; {s} is {d} with code {v}; form {v} is needed for {s}; use {v} to {b} {s}; {s} is {d} under {v}; the form for {s} has the name {v}; {s} is listed as {v}; the order number of {s} is {v}
What is the number of {s}?; What is the code for {s}?; Which code is used for {s}?; Which form is needed for {s}?; Under which number is {s} {d}?; What number does {s} have?; What is the form for {s} called?; With which code is {s} {d}?; Which form do I need to {b} {s}?; What is the order number of {s}?

extension / open / -
the number of {s} is {v}; call {v} about {s}; {s} has the phone number {v}; for {s} call {v}; {s} is reached under {v}; to reach {s}, dial {v}
What is the phone number of {s}?; Which number do I call for {s}?; Under which number is {s} reached?; How do I reach {s}?; What number does {s} have?; How can I call {s}?

percent / open / -
{a} pays {v} of {s}; {s} is {v} of the price; {a} gets {v} off {s}; the share of {s} is {v}; {v} of {s} is paid by {a}; for {s} there is a discount of {v}; {s} rises by {v}; {s} can be as high as {v}
How much of {s} does {a} pay?; What share of {s} is paid?; How high is the discount for {s}?; How many percent is {s}?; What is the share of {s}?; How high can {s} be?; By how much does {s} rise?; What discount is there for {s}?

measure / open / -
{s} is {v} long; {s} weighs {v}; {s} is {v} high; {s} reaches {v}; {s} can stand {v}; {s} works down to {v}; {s} has {v} of space; {s} is {v} wide; {s} lies {v} away; {s} holds {v}; {s} should have at least {v}; the limit of {s} is {v}; {s} needs {v}
How long is {s}?; How much does {s} weigh?; How high is {s}?; How far does {s} reach?; How much can {s} stand?; How heavy is {s}?; How wide is {s}?; How far away is {s}?; How much does {s} hold?; How large is {s}?; What is the limit of {s}?; How much space does {s} have?; How deep is {s}?; How much does {s} need?

room / open / -
{s} meets in {v}; {s} is {d} in {v}; {a} {z} {s} in {v}; {s} takes place in {v}; {s} is held in {v}; {v} is the room for {s}; go to {v} for {s}; {s} uses {v}
In which room does {s} meet?; Where is {s} {d}?; In which room is {s} {d}?; Where does {s} take place?; Which room does {s} use?; In which room is {s} held?; To which room do I go for {s}?

name / open / -
{s} meets in the {v} room; {s} is held in the {v} room; {s} takes place in {v}; the {v} room is used for {s}; {s} uses the {v} room
In which room does {s} meet?; Which room does {s} use?; In which room is {s} held?; Where does {s} meet?; What is the room of {s}?; Where does {s} take place?

floor / open / -
{s} is on {v}; {s} stands on {v}; {s} is {d} on {v}; {v} is where {s} is; go to {v} for {s}; {s} can be found on {v}
On which floor is {s}?; Where is {s}?; On what level is {s}?; On which floor is {s} {d}?; To which floor do I go for {s}?; On which level is {s} {d}?

hours / open / -
{s} is open {v}; {a} {z} {s} {v}; {s} can be {d} {v}; the hours of {s} are {v}; {s} runs {v}; {v} {s} is open
When is {s} open?; What are the hours of {s}?; Between which hours is {s} {d}?; When can {s} be {d}?; During which hours is {s} open?; At which hours is {s} open?

year / open / -
{s} was {d} in {v}; {s} began in {v}; {s} is planned for {v}; {a} {d} {s} in {v}; since {v} {s} has been there; in {v} {s} was {d}
In which year was {s} {d}?; When was {s} {d}?; When did {s} begin?; In what year was {s} {d}?; For which year is {s} planned?; Since when has {s} been there?; What year did {s} begin?

month / open / -
{s} is {d} in {v}; {s} takes place in {v}; {a} {z} {s} in {v}; in {v} {s} is {d}; {s} comes in {v}
In which month is {s} {d}?; When is {s} {d}?; When does {s} take place?; In which month does {s} take place?; In what month does {a} {b} {s}?; Which month is {s} {d}?

sort / open / -
{s} is {d} with {v}; {s} has {v}; {s} starts with {v}; {s} comes with {v}; {a} {z} {s} with {v}; {s} needs {v}; {s} is kept in {v}; {s} carries {v}; for {s} we use {v}; {s} is marked by {v}; {s} lies in {v}
With which {k} is {s} {d}?; Which {k} does {s} have?; With which {k} does {s} start?; What kind of {k} does {s} have?; Which {k} comes with {s}?; Which {k} does {s} need?; In which {k} is {s} kept?; What {k} does {s} carry?; Which {k} do we use for {s}?; What {k} is used for {s}?; With what kind of {k} is {s} {d}?

span / open / -
{s} is {d} for {v}; {s} lasts {v}; {s} takes {v}; {s} is {d} within {v}; {s} is {d} after {v}; {a} may {b} {s} for {v}; {a} {z} {s} after {v}; {s} is valid for {v}; after {v} {s} is {d}; {s} must be {d} within {v}; {a} gets {v} for {s}; {s} must be {d} {v} before the start; {s} closes after {v}; {a} gets {v} of {s}
For how many {k} is {s} {d}?; How many {k} does {s} last?; How many {k} does {s} take?; Within how many {k} is {s} {d}?; After how many {k} is {s} {d}?; For how many {k} may {a} {b} {s}?; How many {k} is {s} valid?; How many {k} are there for {s}?; After how many {k} does {a} {b} {s}?; How many {k} does {a} get for {s}?; How many {k} before must {s} be {d}?; After how many {k} does {s} close?; How many {k} of {s} does {a} get?; How many {k} is {s}?

limit / open / -
after {v} {s} is {d}; {s} is {d} after {v}; from the {v} on {s} is {d}; {s} stops after {v}; {s} is {d} once there are {v}; {a} {z} {s} after {v}
After how many {o} is {s} {d}?; After what is {s} {d}?; When is {s} {d}?; When does {s} stop?; After how many {o} does {a} {b} {s}?
""".strip().split("\n\n")
)


def _noun(rng: random.Random) -> str:
    return rng.choice(NOUNS if rng.random() < 0.4 else _EXTRAS)


def thing(rng: random.Random, held_out: bool) -> str:
    """The name of a thing without its article: "lost badge", "key of the boat"."""
    name = values.draw(values.pair, rng, held_out)
    noun, roll = _noun(rng), rng.random()
    if roll < 0.3:
        return f"{rng.choice(_DESCRIBED + ADJECTIVES)} {noun}"
    if roll < 0.42:
        return f"{rng.choice(NOUNS + RELATION_MODIFIERS)} {noun}"
    if roll < 0.5:
        return f"{noun} {rng.choice(('of', 'for', 'in', 'at', 'with'))} the {_noun(rng)}"
    if roll < 0.56:
        return f"{noun} {rng.choice(('for', 'with', 'about'))} {rng.choice(_OBJECTS)}"
    if roll < 0.62:
        return f"{noun} {rng.choice(('in', 'near', 'from'))} {rng.choice(PLACES)}"
    if roll < 0.82:
        kind = rng.choice(("team", "project", "office", "room", "tool", "project", "team"))
        owner = rng.choice((f"{name} {kind}", name))
        return f"{noun} of the {owner}" if rng.random() < 0.5 else owner
    return noun


def slots(frame: wordings.Frame, rng: random.Random, held_out: bool) -> dict[str, str]:
    """Fills every slot that some wording of the frame uses."""
    base, third, participle = rng.choice(VERBS)
    actor = rng.choice(_ACTORS)
    if rng.random() < 0.3:
        actor = f"the {thing(rng, held_out)}"
    drawn = {
        "s": thing(rng, held_out),
        "a": actor,
        "o": rng.choice(_OBJECTS),
        "n": _noun(rng),
        "j": rng.choice(ADJECTIVES),
        "m": rng.choice(ROLES),
        "k": rng.choice(_UNITS) if frame.value == "span" else _noun(rng),
        "b": base,
        "z": third,
        "d": participle,
    }
    used = {
        name
        for text in frame.statements + frame.questions
        for _, name, _, _ in string.Formatter().parse(text)
    }
    return {name: text for name, text in drawn.items() if name in used}


def _sharing(pair: list[str]) -> Callable[[random.Random], str]:
    """Draws names that share one word with the given pair, or none."""

    def draw(rng: random.Random) -> str:
        kept = rng.choice((pair[0], rng.choice(ENTITY_WORDS)))
        return f"{kept} {rng.choice((pair[1], rng.choice(ENTITY_WORDS)))}"

    return draw


def changed(old: dict[str, str], rng: random.Random, held_out: bool) -> dict[str, str]:
    """The same slots with the thing, or who acts, a little or entirely different."""
    new = dict(old)
    if "s" in new:
        words = new["s"].split(" ")
        if new["s"][0].isupper():
            words[:2] = values.draw(_sharing(words[:2]), rng, held_out).split(" ")
            new["s"] = " ".join(words)
        elif len(words) > 1 and rng.random() < 0.5:
            words[0] = rng.choice(_DESCRIBED)
            new["s"] = " ".join(words)
        elif len(words) == 1 and rng.random() < 0.5:
            new["s"] = f"{rng.choice(_DESCRIBED)} {words[0]}"
        else:
            new["s"] = thing(rng, held_out)
    elif "a" in new:
        new["a"] = rng.choice(_ACTORS)
    return new


def verb(said: str, slot: dict[str, str]) -> str:
    """The verb of a statement, empty where its wording has one of its own."""
    return slot.get("b", "") or slot.get("d", "") if _used(said) & _VERB else ""


def _used(text: str) -> set[str]:
    """The slots of a wording; the forms of the verb count as one."""
    names = {name for _, name, _, _ in string.Formatter().parse(text) if name}
    return (names - set("bzd")) | (_VERB if names & set("bzd") else set())


def agreeing(
    said: str,
    questions: tuple[str, ...],
    frame: wordings.Frame | None,
) -> tuple[str, ...]:
    """The questions that use what the statement says: its verb, its actor, its noun."""
    given = _used(said) | _ASKED_ONLY
    found = tuple(q for q in questions if _agrees(q, given))
    more = frame.questions if frame else ()
    return found or tuple(q for q in more if _agrees(q, given))


def _agrees(question: str, given: set[str]) -> bool:
    needed = _used(question)
    return needed <= given and needed & _VERB == given & _VERB


def worded(
    text: str,
    slot: dict[str, str],
    value: str,
    rng: random.Random,
    *,
    asked: bool = False,
    again: bool = False,
) -> str:
    """Fills a wording; a thing gets a suitable article, or a pronoun when said `again`."""
    filled = dict(slot)
    if "s" in filled:
        filled["s"] = (
            "it" if again and rng.random() < 0.35 else _with_article(filled["s"], rng, asked)
        )
    return text.format(v=value, **filled)


def _with_article(name: str, rng: random.Random, asked: bool) -> str:
    if name[0].isupper():
        return f"the {name}" if rng.random() < 0.6 or name.split()[-1].islower() else name
    article = "an" if name[0] in "aeiou" else "a"
    choices = ("the", "the", article, "our") if asked else ("the", "the", article, "each", "our")
    return f"{rng.choice(choices)} {name}"


def tally(slot: dict[str, str], rng: random.Random) -> str:
    """A count of the objects or units that the question asks for."""
    number = values.value("number", rng, held_out=False)
    return f"{number} {slot.get('o') or slot['k']}"


def sort(slot: dict[str, str], rng: random.Random) -> str:
    """The kind of thing that the question asks for: "the round button"."""
    adjective = rng.choice(rng.choice((ADJECTIVES, COLOURS)))
    return rng.choice((f"the {adjective} {slot['k']}", f"a {adjective} {slot['k']}"))
