"""How facts are stated and asked: frames with several statements and questions each.

`{e}` is the entity as a noun phrase, `{v}` the value, `{t}` a topic drawn from the frame's list,
`{r}` the relation of the generic frames. A hash holds some wordings out for the test split.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploy.demo.model.words import is_held_out

GROUP, THING, PLACE, WORK, STAFF, NONE = "group", "thing", "place", "work", "staff", "none"


@dataclass(frozen=True, slots=True)
class Frame:
    """One way in which a kind of entity relates to a kind of value."""

    value: str
    entity: str
    topics: tuple[str, ...]
    statements: tuple[str, ...]
    questions: tuple[str, ...]


def chosen(wordings: tuple[str, ...], held_out: bool) -> tuple[str, ...]:
    """The wordings of one split; all of them where the split would have none."""
    return tuple(text for text in wordings if is_held_out(text) == held_out) or wordings


def parse(block: str) -> Frame:
    """Reads `value / entity / topics`, then the statements, then the questions, one per line."""
    head, statements, questions = block.strip().split("\n")
    value, entity, topics = (part.strip() for part in head.split("/"))
    split = [tuple(text.strip() for text in line.split(";")) for line in (statements, questions)]
    return Frame(value, entity, tuple(t.strip() for t in topics.split(",")), split[0], split[1])


FRAMES = tuple(
    parse(block)
    for block in """
who / group / -
{e} is led by {v}; {v} leads {e}; {v} is in charge of {e}; {v} runs {e}; the head of {e} is {v}; {e} is run by {v}; {e} reports to {v}; {v} has led {e} for some years; the lead of {e} is {v}; {e} works under {v}
Who leads {e}?; Who is in charge of {e}?; Who is the head of {e}?; Who runs {e}?; By whom is {e} led?; Who heads {e}?; Who is the lead of {e}?; Who is the boss of {e}?

number / group / people,members,engineers,staff,drivers,trainees,technicians
{e} has {v}; there are {v} in {e}; {v} work in {e}; {e} counts {v}; {v} belong to {e}; {e} is made up of {v}
How many {t} does {e} have?; How many {t} are in {e}?; How many {t} work in {e}?; What is the number of {t} in {e}?

spot / group / -
{e} sits in {v}; {e} is based in {v}; you will find {e} in {v}; the home of {e} is {v}; {e} works from {v}; {e} has its desks in {v}; the desks of {e} are in {v}; {e} moved to {v}
Where does {e} sit?; Where is {e} based?; Where can I find {e}?; Where is the home of {e}?; Where does {e} work?; Where are the desks of {e}?

weekday / group / team meeting,review,planning meeting,stand-up,training,handover,open hour
{e} holds its {t} on {v}; the {t} of {e} is on {v}; {e} meets for the {t} on {v}; on {v} {e} has its {t}; the {t} of {e} takes place on {v}
When is the {t} of {e}?; On which day does {e} hold its {t}?; When does {e} have its {t}?; Which day is the {t} of {e}?

who / thing / -
{e} was designed by {v}; {v} designed {e}; the designer of {e} is {v}; {v} is the designer of {e}; {e} is the work of {v}; the design of {e} comes from {v}
Who designed {e}?; Who is the designer of {e}?; By whom was {e} designed?; Whose design is {e}?

who / thing / -
{e} is looked after by {v}; {v} looks after {e}; {v} maintains {e}; {e} is maintained by {v}; the owner of {e} is {v}; {v} takes care of {e}; {v} owns {e}; {v} is responsible for {e}
Who looks after {e}?; Who maintains {e}?; Who owns {e}?; Who is the owner of {e}?; Who takes care of {e}?; Who is responsible for {e}?

money / thing / -
{e} costs {v}; the price of {e} is {v}; {e} is sold for {v}; {v} is the price of {e}; you can buy {e} for {v}; one unit of {e} costs {v}; {e} sells at {v}; customers pay {v} for {e}
How much does {e} cost?; What does {e} cost?; What is the price of {e}?; For how much is {e} sold?; How much do customers pay for {e}?; How expensive is {e}?; At what price does {e} sell?

duration / thing / warranty,guarantee,battery,free support,licence,subscription,test phase,trial period
the {t} of {e} lasts {v}; {e} has a {t} of {v}; {e} comes with a {t} of {v}; {v} is the length of the {t} of {e}; the {t} of {e} runs for {v}; {e} carries a {t} of {v}; the {t} of {e} ends after {v}; the {t} for {e} is {v}; with {e} you get {v} of {t}
How long is the {t} of {e}?; How long does the {t} of {e} last?; What is the {t} of {e}?; How long does the {t} run for {e}?; For how long is the {t} of {e}?; What {t} does {e} have?; What {t} does {e} come with?; When does the {t} of {e} end?

measure / thing / range,weight,height,width,length,depth,memory,power,load,reach,tank,top speed
the {t} of {e} is {v}; {e} has a {t} of {v}; {e} offers a {t} of {v}; {v} is the {t} of {e}; the {t} of {e} is about {v}; the {t} of {e} goes up to {v}; {e} has up to {v} of {t}; with {e} you get a {t} of {v}
What is the {t} of {e}?; What {t} does {e} have?; How much {t} does {e} have?; How large is the {t} of {e}?; What is the maximum {t} of {e}?; How big is the {t} of {e}?; Which {t} does {e} offer?

measure / thing / -
{e} weighs {v}; the weight of {e} is {v}; {e} has a weight of {v}; {e} comes to {v} on the scale
How much does {e} weigh?; What is the weight of {e}?; How heavy is {e}?; What does {e} weigh?

measure / thing / -
{e} reaches {v}; {e} can reach {v}; {e} works up to {v}; {e} carries up to {v}; {e} can hold {v}
How far does {e} reach?; How much can {e} carry?; What does {e} reach?; How much can {e} hold?; What is the limit of {e}?

date / thing / -
{e} was released on {v}; {e} came out on {v}; the release of {e} is planned for {v}; {v} is the release date of {e}; {e} will be released on {v}; {e} goes on sale on {v}; {e} will be launched on {v}; {e} ships on {v}; on {v} {e} comes out
When was {e} released?; When does {e} come out?; What is the release date of {e}?; When is the release of {e}?; When will {e} be released?; When does {e} go on sale?; When will {e} be launched?; When does {e} ship?

often / thing / checked,cleaned,calibrated,serviced,backed up,updated,tested,inspected,charged,replaced
{e} is {t} {v}; {e} must be {t} {v}; {v} {e} is {t}; {e} has to be {t} {v}; {e} should be {t} {v}; {e} needs to be {t} {v}
How often is {e} {t}?; How often must {e} be {t}?; When is {e} {t}?; How often should {e} be {t}?; How often does {e} have to be {t}?

thing / thing / -
{e} is made of {v}; {e} is built from {v}; the case of {e} is {v}; {e} consists of {v}; {v} is what {e} is made of
What is {e} made of?; What is {e} built from?; From what is {e} made?; Which material is used for {e}?

thing / thing / batteries,a charger,a cable,a manual,a bag,spare parts,a case
{e} comes with {v}; {e} is delivered with {v}; {v} comes with {e}; in the box of {e} you find {v}; {e} includes {v}; each {e} ships with {v}
What comes with {e}?; What is delivered with {e}?; What does {e} include?; What do I find in the box of {e}?; What is in the box of {e}?

thing / thing / -
{e} measures {v}; {e} is used for {v}; {e} checks {v}; {e} was made for {v}; {e} counts {v}
What does {e} measure?; What is {e} used for?; What is {e} for?; What does {e} do?

colour / thing / lid,case,handle,label,light,button,door,cover,display,cable,status light,box
the {t} of {e} is {v}; {e} has a {v} {t}; {e} comes with a {v} {t}; you can tell {e} by its {v} {t}; the {t} of {e} is painted {v}; {v} is the colour of the {t} of {e}
What colour is the {t} of {e}?; Which colour does the {t} of {e} have?; What is the colour of the {t} of {e}?; What colour {t} does {e} have?

code / thing / serial number,part number,order code,product code,model number,asset tag,error code,access code
the {t} of {e} is {v}; {e} has the {t} {v}; {e} is listed under {v}; {v} is the {t} of {e}; order {e} with the {t} {v}; {e} carries the {t} {v}; use {t} {v} for {e}; for {e} the {t} {v} is used
What is the {t} of {e}?; Which {t} does {e} have?; What {t} belongs to {e}?; Under which {t} is {e} listed?; Which {t} do I use for {e}?; Give me the {t} of {e}.

spot / thing / -
{e} is stored in {v}; {e} is kept in {v}; {e} stands in {v}; {v} is where {e} is kept; you can find {e} in {v}; {e} has its place in {v}; look for {e} in {v}; we keep {e} in {v}
Where is {e} stored?; Where is {e} kept?; Where does {e} stand?; Where can I find {e}?; Where do I find {e}?; Where is {e}?; Where do we keep {e}?

place / thing / -
{e} is built in {v}; {e} is made in {v}; {e} comes from {v}; {e} is produced in {v}; we build {e} in {v}; the factory of {e} is in {v}; {v} is where {e} is made
Where is {e} built?; Where is {e} made?; Where does {e} come from?; Where is {e} produced?; In which town is {e} made?; In which city is {e} built?

name / thing / -
{e} replaces {v}; {e} is the successor of {v}; {v} was replaced by {e}; {e} follows {v}; before {e} we used {v}; {e} took over from {v}
What does {e} replace?; Which model did {e} replace?; What was used before {e}?; What was there before {e}?; Whose successor is {e}?

number / place / seats,desks,chairs,screens,parking spaces,beds,lockers,shelves,tables,windows
{e} has {v}; there are {v} in {e}; {e} offers {v}; {v} are in {e}; you find {v} in {e}; {e} is fitted with {v}; {e} has space for {v}
How many {t} does {e} have?; How many {t} are in {e}?; How many {t} are there in {e}?; What is the number of {t} in {e}?; How many {t} does {e} offer?

count / place / -
{e} holds {v}; {e} has room for {v}; {e} can take {v}; {e} fits {v}; up to {v} fit in {e}; {v} fit into {e}; {e} is meant for {v}
How many does {e} hold?; How many people fit in {e}?; For how many is there room in {e}?; What is the capacity of {e}?; How much fits into {e}?; How many can {e} take?

spot / place / -
{e} is on {v}; {e} is in {v}; {e} lies in {v}; {e} is located in {v}; {v} is where you find {e}; you find {e} in {v}; go to {v} for {e}; {e} is found in {v}; the address of {e} is {v}
Where is {e}?; Where can I find {e}?; Where is {e} located?; On which floor is {e}?; Where do I find {e}?; In which building is {e}?; What is the address of {e}?; How do I get to {e}?

hours / place / -
{e} is open {v}; {e} opens {v}; the opening hours of {e} are {v}; {v} {e} is open; you can visit {e} {v}; {e} can be used {v}; {e} is staffed {v}
When is {e} open?; What are the opening hours of {e}?; When can I visit {e}?; When can {e} be used?; During which hours is {e} open?

clock / place / opens,closes,is locked,is cleaned,starts work
{e} {t} at {v}; at {v} {e} {t}; {v} is when {e} {t}; {e} {t} every day at {v}; on weekdays {e} {t} at {v}
When is it that {e} {t}?; At what time {t} {e}?; What time {t} {e}?; Tell me when {e} {t}.

clock / place / open,close,start,end
{e} will {t} at {v}; {e} may {t} no later than {v}; we {t} {e} at {v}; you should {t} {e} at {v}; {e} must {t} by {v}
When does {e} {t}?; At what time does {e} {t}?; What time does {e} {t}?; When will {e} {t}?; When do we {t} {e}?

who / place / -
{e} is booked through {v}; to book {e}, ask {v}; {v} takes bookings for {e}; bookings for {e} go to {v}; {v} gives out {e}; ask {v} if you want to use {e}
Who books {e}?; Whom do I ask to book {e}?; Who takes bookings for {e}?; Where do bookings for {e} go?; How can I book {e}?

code / place / door code,gate code,alarm code,key number,floor plan,network name,booking code
the {t} of {e} is {v}; the {t} for {e} is {v}; use {v} as the {t} of {e}; {e} has the {t} {v}; {v} is the {t} for {e}; the {t} {v} opens {e}
What is the {t} of {e}?; Which {t} does {e} have?; What is the {t} for {e}?; Which {t} opens {e}?; I need the {t} of {e}.

date / work / -
{e} starts on {v}; {e} begins on {v}; the start of {e} is {v}; {v} is the first day of {e}; work on {e} begins on {v}; on {v} {e} starts; {e} will kick off on {v}; {e} started on {v}
When does {e} start?; When does {e} begin?; What is the start date of {e}?; On which date does {e} start?; When is the first day of {e}?; When did {e} start?; When does work on {e} begin?

date / work / -
{e} ends on {v}; {e} is due on {v}; {e} must be finished by {v}; {e} runs until {v}; the deadline for {e} is {v}; the last day of {e} is {v}; {e} should be done by {v}; {e} is planned to end on {v}
When does {e} end?; When is {e} due?; What is the deadline for {e}?; Until when does {e} run?; What is the last day of {e}?; By when must {e} be finished?; When should {e} be done?

money / work / budget,fee,funding,first payment,yearly cost,contract value,travel money
the {t} of {e} is {v}; {e} has a {t} of {v}; {v} is the {t} of {e}; for {e} there is a {t} of {v}; {e} works with a {t} of {v}; the {t} of {e} was set at {v}; the {t} of {e} was raised to {v}; {e} got a {t} of {v}
What is the {t} of {e}?; How much is the {t} of {e}?; How large is the {t} of {e}?; What {t} does {e} have?; How high is the {t} of {e}?; Which {t} was set for {e}?

money / work / -
{e} costs {v}; you pay {v} for {e}; {e} is offered for {v}; the price of {e} is {v}; {v} is what {e} costs; for {e} we pay {v}; {e} charges {v}; {e} cost us {v}
How much does {e} cost?; What does {e} cost?; What is the price of {e}?; How much do we pay for {e}?; How much does {e} charge?; What do you pay for {e}?

who / work / -
{e} is managed by {v}; {v} manages {e}; {v} is the manager of {e}; the project lead of {e} is {v}; {v} is responsible for {e}; {v} leads {e}; {e} is led by {v}; {e} is in the hands of {v}; {v} took over {e}; responsibility for {e} lies with {v}
Who manages {e}?; Who is the manager of {e}?; Who is responsible for {e}?; Who leads {e}?; Who is in charge of {e}?; Who is the lead of {e}?; In whose hands is {e}?; Who runs {e}?

who / work / -
{e} is sponsored by {v}; {v} sponsors {e}; the sponsor of {e} is {v}; {e} is paid for by {v}; {v} pays for {e}; the money for {e} comes from {v}
Who sponsors {e}?; Who is the sponsor of {e}?; Who pays for {e}?; Where does the money for {e} come from?; By whom is {e} sponsored?

who / work / -
{e} is taught by {v}; {v} teaches {e}; {v} gives {e}; the trainer of {e} is {v}; {e} is held by {v}; the speaker at {e} is {v}
Who teaches {e}?; Who gives {e}?; Who is the trainer of {e}?; Who holds {e}?; Who is the speaker at {e}?

place / work / -
{e} takes place in {v}; {e} is held in {v}; {v} is the place of {e}; {e} happens in {v}; {e} is run from {v}; we hold {e} in {v}; {e} is based in {v}
Where does {e} take place?; Where is {e} held?; Where does {e} happen?; In which town is {e} held?; In which city does {e} take place?; Where is {e} based?; From where is {e} run?

spot / work / -
{e} takes place in {v}; {e} is held in {v}; {e} happens in {v}; {e} meets in {v}; for {e} go to {v}; {v} hosts {e}
Where does {e} take place?; Where is {e} held?; Where does {e} happen?; Where does {e} meet?; Where do I go for {e}?

duration / work / -
{e} lasts {v}; {e} takes {v}; {v} is the length of {e}; {e} runs for {v}; {e} will take {v}; {e} is planned for {v}; {e} goes on for {v}
How long does {e} last?; How long does {e} take?; How long is {e}?; What is the length of {e}?; For how long does {e} run?; How much time does {e} take?

weekday / work / -
{e} takes place on {v}; {e} is held on {v}; {e} is on {v}; {e} runs on {v}; {v} is the day of {e}; {e} happens on {v}; {e} comes on {v}; {e} delivers on {v}
On which day is {e}?; When is {e} held?; When does {e} take place?; What day is {e}?; Which day is {e} on?; On what day does {e} run?; When does {e} come?; When does {e} deliver?

state / work / -
{e} is {v}; the status of {e} is {v}; at the moment {e} is {v}; {e} is now {v}; {e} is marked as {v}
What is the status of {e}?; What is the state of {e}?; How is {e} doing?; What is the current status of {e}?; In what state is {e}?

code / work / account number,customer number,contract number,cost centre,project code,order code,file number,booking code,queue
the {t} of {e} is {v}; {e} has the {t} {v}; {v} is the {t} of {e}; {e} is booked under {t} {v}; use the {t} {v} for {e}; costs of {e} go to {t} {v}; write {t} {v} on papers for {e}; {e} runs under {t} {v}
What is the {t} of {e}?; Which {t} does {e} have?; Which {t} do I use for {e}?; What {t} belongs to {e}?; Under which {t} does {e} run?; Give me the {t} for {e}.

thing / work / coffee,paper,boxes,parts,cables,tools,food,fruit,plants,uniforms,chairs,glass
{e} supplies {v}; {e} delivers {v}; {v} is supplied by {e}; we buy {v} from {e}; we order {v} from {e}; {e} sells {v} to us; we get {v} from {e}
What does {e} supply?; What does {e} deliver?; What do we buy from {e}?; What do we order from {e}?; What does {e} sell to us?; What do we get from {e}?

name / none / coffee,paper,office chairs,batteries,cleaning,fruit,glass parts,cables,steel plates,boxes,the canteen food,taxis,repairs,printing,uniforms,screws
{t} comes from {v}; we buy {t} from {v}; our supplier for {t} is {v}; {v} supplies {t}; {t} is ordered from {v}; {v} is our supplier for {t}; {v} delivers {t}; {v} takes care of {t}; for {t} we work with {v}
Who supplies {t}?; Which supplier delivers {t}?; From whom do we buy {t}?; Who is our supplier for {t}?; Where do we order {t}?; Who takes care of {t}?; With whom do we work for {t}?; Who delivers {t}?

email / none / invoices,complaints,lost items,press questions,job applications,repairs,travel questions,orders,security reports,ideas,returns,sick notes
send {t} to {v}; {t} go to {v}; write to {v} about {t}; for {t} the address is {v}; {v} is the mailbox for {t}; mail {t} to {v}; the address for {t} is {v}; {v} takes {t} by mail
Where do I send {t}?; What is the address for {t}?; Which mailbox takes {t}?; To which address do {t} go?; What is the mail address for {t}?; Where should {t} be sent?; Who gets {t} by mail?

extension / none / the front desk,the help desk,reception,security,the first-aid room,the night porter,the canteen,the travel desk,the payroll office,the warehouse,the doctor,the control room,emergencies,the nurse,the workshop
{t} can be reached on {v}; call {v} for {t}; the number of {t} is {v}; dial {v} to reach {t}; {v} is the number of {t}; the phone number of {t} is {v}; for {t} dial {v}; you reach {t} at {v}; {t} answers on {v}
What is the number of {t}?; How do I reach {t}?; Which number do I dial for {t}?; On which extension is {t}?; What is the phone number of {t}?; Which extension does {t} have?; How can {t} be reached?; What number do I call for {t}?

extension / work / -
{e} can be reached on {v}; call {e} on {v}; the phone number of {e} is {v}; dial {v} for {e}; {e} answers on {v}; the extension of {e} is {v}
How do I reach {e}?; What is the phone number of {e}?; Which number do I dial for {e}?; What is the extension of {e}?; On which extension can {e} be reached?

extension / group / -
{e} can be reached on {v}; call {e} on {v}; the phone number of {e} is {v}; dial {v} for {e}; {e} answers on {v}; the extension of {e} is {v}
How do I reach {e}?; What is the phone number of {e}?; Which number do I dial for {e}?; What is the extension of {e}?; On which extension can {e} be reached?

leave / staff / leave,annual leave,holiday,sick leave,training leave,parental leave,study leave,paid time off,special leave,volunteer leave,care leave,wedding leave,moving leave
{e} receive {v} of {t} per year; {e} get {v} of {t} each year; {e} have {v} of {t}; {e} are given {v} of {t}; {e} can take {v} of {t}; the {t} for {e} is {v} a year; each year {e} may take {v} of {t}; {v} of {t} are given to {e}; {e} have a right to {v} of {t}; for {e} there are {v} of {t}
How much {t} do {e} get?; How many days of {t} do {e} get?; How many days of {t} do {e} receive?; How much {t} can {e} take?; What is the {t} for {e}?; How long is the {t} for {e}?; How many days of {t} are there for {e}?; How much {t} do {e} have?; How many days can {e} take as {t}?

leave / none / leave,annual leave,unused leave,holiday,sick leave,parental leave,overtime,training days,flex time,care leave
you may carry over up to {v} of {t}; up to {v} of {t} may be carried over; up to {v} of {t} can be moved to the next year; at most {v} of {t} may be saved; unused {t} of up to {v} is kept; no more than {v} of {t} can be carried into the next year
How many days of {t} may be carried over?; How much {t} can I carry over?; How much {t} can be moved to the next year?; How many days of {t} can I save?; How many days of {t} can I carry over?; How much unused {t} is kept?

leave / none / sick leave,leave,annual leave,parental leave,holiday,unpaid leave,study leave,training,home office,travel,visits,moving days,overtime
{t} must be asked for {v} in advance; ask for {t} at least {v} before; {t} needs {v} of notice; the notice for {t} is {v}; requests for {t} must come in {v} before; plan {t} at least {v} ahead; {t} has to be requested {v} before the first day; hand in requests for {t} {v} early
How early must I ask for {t}?; How long before must {t} be requested?; How much notice does {t} need?; How far ahead must {t} be planned?; What is the notice for {t}?; How early do I have to request {t}?; How many days before do I ask for {t}?

duration / none / refunds,invoices,expenses,claims,returns,complaints,orders,tickets,travel costs,repairs,requests,applications,bonuses,deposits,questions
{t} are paid within {v}; {t} are handled within {v}; {t} take {v}; {t} must be sent in within {v}; we answer {t} within {v}; {t} are settled after {v}; {t} are closed after {v}; allow {v} for {t}; {t} have to be handed in within {v}; it takes {v} until {t} are done
How long do {t} take?; Within what time are {t} paid?; How fast are {t} handled?; When are {t} paid?; How soon must {t} be sent in?; Within which time must {t} be handed in?; How quickly are {t} settled?; After what time are {t} closed?; How long does it take until {t} are done?

money / staff / meals,hotels,travel,phone costs,a home office,training,books,lunch,moving,sports,child care,glasses,work shoes,a bicycle,public transport,parking,gifts,taxis,clothing,internet
{e} get {v} for {t}; {e} receive up to {v} for {t}; {e} may spend {v} on {t}; the company pays {e} {v} for {t}; {e} are paid {v} for {t}; the allowance of {e} for {t} is {v}; for {t} {e} get {v}; {e} can claim {v} for {t}; there is a grant of {v} for {t} for {e}; {v} is paid to {e} for {t}
How much do {e} get for {t}?; What do {e} get for {t}?; How much may {e} spend on {t}?; How much can {e} claim for {t}?; What is the allowance of {e} for {t}?; How much is paid to {e} for {t}?; How much money do {e} receive for {t}?; What does the company pay {e} for {t}?

money / none / meals,hotels,travel,phone costs,the home office,training,books,lunch,moving,sports,child care,glasses,work shoes,bicycles,public transport,parking,gifts,taxis,clothing,internet,flights,trains,rental cars,a night in a hotel,breakfast,dinner,team events,tips
the limit for {t} is {v}; for {t} we pay up to {v}; {t} are paid up to {v}; we pay {v} for {t}; {t} may cost up to {v}; no more than {v} is paid for {t}; you can claim {v} for {t}; the allowance for {t} is {v}; spending on {t} is limited to {v}; costs for {t} are covered up to {v}; the rate for {t} is {v}; the company covers {v} for {t}
What is the limit for {t}?; How much is paid for {t}?; How much can I claim for {t}?; How much may I spend on {t}?; Up to what amount are {t} paid?; What is the allowance for {t}?; How much do we pay for {t}?; What do I get for {t}?; How much does the company cover for {t}?; How much money is there for {t}?; What is the rate for {t}?

who / none / leave,expenses,travel,overtime,orders,purchases,hotel bookings,home office,training,new laptops,visitor badges,contracts,refunds,discounts,parking,sick notes,salary changes,press releases,software,new suppliers
{t} must be approved by {v}; {v} approves {t}; {t} are approved by {v}; ask {v} about {t}; {t} are signed by {v}; {v} is the contact for {t}; {v} handles {t}; {t} need the approval of {v}; for {t} talk to {v}; {v} signs {t}; questions about {t} go to {v}; {v} decides about {t}
Who approves {t}?; By whom are {t} approved?; Who must approve {t}?; Who handles {t}?; Whom do I ask about {t}?; Who is the contact for {t}?; Who signs {t}?; Whose approval do {t} need?; Who decides about {t}?; To whom do I talk about {t}?; Who answers questions about {t}?

thing / none / leave,expenses,travel,a new laptop,a parking space,a visitor badge,lost keys,repairs,the gym,the bike room,home office,a refund,the archive,overtime,a locker,deliveries,the laboratory,the roof
for {t} you need {v}; {t} requires {v}; you must bring {v} for {t}; {v} is needed for {t}; use {v} for {t}; to get {t}, hand in {v}; {t} is only possible with {v}; please fill in {v} for {t}; anyone asking for {t} needs {v}
What do I need for {t}?; What is needed for {t}?; What does {t} require?; What must I bring for {t}?; What do I use for {t}?; What do I hand in for {t}?; What do I fill in for {t}?; What do you need to get {t}?

thing / staff / a locker,the store,the site,the canteen,the workshop,the first day,the night shift,the yard,the cold room,the laboratory,the test track,the roof
{e} wear {v} in {t}; {e} must carry {v} for {t}; {e} get {v} for {t}; {e} have to bring {v} to {t}; in {t} {e} wear {v}; {e} need {v} for {t}; {v} is given to {e} for {t}
What do {e} wear in {t}?; What must {e} carry for {t}?; What do {e} get for {t}?; What do {e} have to bring to {t}?; What do {e} need for {t}?; What is given to {e} for {t}?

colour / staff / badge,vest,helmet,card,jacket,lanyard,sticker,wristband,key ring,folder
{e} wear a {v} {t}; the {t} of {e} is {v}; {e} get a {v} {t}; {e} carry a {v} {t}; {e} have a {v} {t}; a {v} {t} is given to {e}; you know {e} by their {v} {t}
What colour is the {t} of {e}?; Which colour is the {t} of {e}?; What colour {t} do {e} wear?; What is the colour of the {t} of {e}?; Which colour {t} do {e} get?; What {t} do {e} carry?

spot / staff / park,eat,sign in,meet,enter,leave their bags,change clothes,hand in keys,wait,get badges,check in,find tools
{e} {t} in {v}; {e} can {t} in {v}; {e} may {t} in {v}; {e} must {t} at {v}; {v} is where {e} {t}; to {t}, {e} go to {v}; {e} should {t} in {v}
Where do {e} {t}?; Where can {e} {t}?; Where may {e} {t}?; Where should {e} {t}?; Where must {e} {t}?; Where do {e} go to {t}?

spot / none / the printer,the first-aid box,the coffee machine,the bike room,the post room,the lost property box,the spare keys,the recycling bins,the fire exit,the meeting point,the canteen,the lockers,paper,the defibrillator,the showers,the bins,clean towels,the projector,the loading dock,visitor parking
{t} is in {v}; you find {t} in {v}; {t} can be found in {v}; {v} is where {t} is; {t} is kept in {v}; look for {t} in {v}; we keep {t} in {v}; {t} is located in {v}; {t} stands in {v}; {t} moved to {v}
Where is {t}?; Where can I find {t}?; Where do I find {t}?; Where is {t} kept?; Where are {t}?; In which place is {t}?; Where is {t} located?; Where do we keep {t}?

clock / none / breakfast,lunch,dinner,the morning shift,the night shift,the late shift,the shuttle bus,the post,the canteen,reception,the gym,the garage,the archive,core time,quiet time,the town meeting,the last bus,the fire test
{t} starts at {v}; {t} opens at {v}; {t} begins at {v}; {t} leaves at {v}; {t} comes at {v}; at {v} {t} starts; {v} is the start of {t}; {t} is at {v}; from {v} {t} is open
When does {t} start?; At what time does {t} start?; What time does {t} begin?; When does {t} open?; When does {t} leave?; When is {t}?; What time is {t}?; What is the start of {t}?; When does {t} come?

clock / none / breakfast,lunch,dinner,the morning shift,the night shift,the late shift,the canteen,reception,the gym,the garage,the archive,core time,quiet time,the office,the shop,the main gate
{t} ends at {v}; {t} closes at {v}; {t} is over at {v}; {t} stops at {v}; at {v} {t} closes; {t} is open until {v}; {t} runs until {v}; {v} is the end of {t}; after {v} {t} is closed
When does {t} end?; At what time does {t} end?; When does {t} close?; What time does {t} close?; Until when is {t} open?; When is {t} over?; When does {t} stop?; How long is {t} open?

weekday / none / the bins,salaries,the windows,deliveries,the fruit basket,the fire alarm test,the plants,payments,the post,orders,laundry,the newsletter,the backup,invoices,the report,the all-hands meeting,the gym class,the market
{t} comes on {v}; {t} takes place on {v}; {t} is on {v}; {t} are handled on {v}; {v} is the day for {t}; on {v} we take care of {t}; {t} are done on {v}; {t} goes out on {v}; we do {t} on {v}; {t} are scheduled for {v}
On which day is {t}?; When are {t} handled?; What day is {t}?; Which day is for {t}?; When is {t} done?; When does {t} take place?; When does {t} come?; When does {t} go out?; On what day do we do {t}?; For when are {t} scheduled?

date / none / salaries,the bonus,the holiday plan,tax forms,the yearly review,budget plans,the summer party,the audit,the stock count,the safety course,contracts,time sheets,the move,the price list,applications,the open day
{t} are due on {v}; {t} is planned for {v}; {t} must be handed in by {v}; the date for {t} is {v}; {t} takes place on {v}; {v} is the deadline for {t}; {t} will be on {v}; {t} are paid on {v}; hand in {t} by {v}; {t} is set for {v}
When are {t} due?; When is {t}?; By when must {t} be handed in?; What is the date for {t}?; When does {t} take place?; What is the deadline for {t}?; When are {t} paid?; On which date is {t}?; For when is {t} planned?

percent / none / overtime,early payment,large orders,damaged goods,pension,night work,weekend work,the sales bonus,late returns,sick pay,staff purchases,parental pay,repeat orders,meal costs,train cards,travel insurance
the rate for {t} is {v}; {t} earns {v}; {t} is paid at {v}; for {t} we add {v}; the discount for {t} is {v}; {v} is given for {t}; the company pays {v} of {t}; we give {v} for {t}; {t} is covered at {v}; the company adds {v} for {t}
What is the rate for {t}?; How much is added for {t}?; What is the discount for {t}?; What percentage is given for {t}?; How much of {t} does the company pay?; What does {t} earn?; At what rate is {t} paid?; How many percent do we give for {t}?; What share of {t} is covered?

often / none / passwords,backups,the water filters,fire doors,the lifts,safety shoes,first-aid courses,the servers,the air filters,keys,contracts,prices,laptops,machines,the alarm,stock,the cars,training,budgets,the policy
{t} are changed {v}; {t} are checked {v}; {t} must be renewed {v}; {v} {t} are tested; we check {t} {v}; {t} are replaced {v}; {t} must be changed {v}; {t} are reviewed {v}; {t} is cleaned {v}; change {t} {v}
How often are {t} changed?; How often are {t} checked?; How often must {t} be renewed?; How often are {t} tested?; When are {t} replaced?; How often must I change {t}?; How often is {t} reviewed?; How often do we check {t}?; How often is {t} cleaned?

number / none / characters in a password,guests per employee,days of home office a week,signatures on a contract,copies of a form,vacation days in a row,tries to log in,people per car,bags per person,screens per desk,spare badges per floor,persons in the lift,meetings a week,drinks a day
the number of {t} is {v}; at most {v} is the limit for {t}; the limit of {t} is {v}; we allow {v} as the number of {t}; the highest number of {t} is {v}; {t} are limited to {v}; the rule for {t} is {v}
What is the number of {t}?; How many {t} are allowed?; What is the limit of {t}?; How many {t} are there?; What is the highest number of {t}?; What is the rule for {t}?; How many {t}?

number / staff / days of home office,guests,bags,training days,free drinks,parking tickets,keys,shirts,meals,test runs,visits,vouchers
{e} may have {v}; {e} get {v}; {e} are allowed {v}; {e} can use {v}; {v} are allowed for {e}; {e} have up to {v}; for {e} there are {v}; {e} may take up to {v}
How many {t} may {e} have?; How many {t} do {e} get?; How many {t} are allowed for {e}?; How many {t} can {e} use?; How many {t} are there for {e}?; How many {t} do {e} have?

duration / staff / notice period,probation,trial period,contract,induction,first training,parking permit,badge,loan of a laptop,night shift,break,lunch break
the {t} of {e} is {v}; the {t} for {e} lasts {v}; {e} have a {t} of {v}; {v} is the {t} for {e}; for {e} the {t} is {v}; the {t} of {e} takes {v}; the {t} of {e} is valid for {v}; {e} have {v} of {t}
How long is the {t} of {e}?; How long does the {t} for {e} last?; What is the {t} of {e}?; What {t} do {e} have?; How long is the {t} for {e}?; For how long is the {t} of {e} valid?; What is the length of the {t} for {e}?

duration / none / notice period,probation period,trial period,warranty,return period,lunch break,induction,parking permit,visitor badge,password,loan of a laptop,waiting time,delivery time,payment term,record keeping,guarantee,training,cooling time,storage time,support
the {t} is {v}; the {t} lasts {v}; our {t} is {v}; {v} is the {t}; there is a {t} of {v}; the {t} is valid for {v}; the {t} runs for {v}; the {t} ends after {v}; we have a {t} of {v}; the {t} takes {v}
How long is the {t}?; How long does the {t} last?; What is the {t}?; What is our {t}?; How long is the {t} valid?; How long does the {t} run?; When does the {t} end?; What is the length of the {t}?; How long does the {t} take?

language / none / meetings,contracts,the handbook,training,labels,the website,customer mails,reports,safety signs,the town meeting
{t} are in {v}; we use {v} for {t}; the language of {t} is {v}; {t} are written in {v}; {v} is used for {t}; {t} are held in {v}
In which language are {t}?; What is the language of {t}?; Which language do we use for {t}?; In what language are {t} written?; Which language is used for {t}?

code / none / paper orders,sick leave,travel costs,training costs,visitor meals,overtime,small purchases,taxi rides,repairs,the guest network,the fax,home office,the photo archive,returns,warranty cases,lost badges
use code {v} for {t}; {t} are booked under {v}; the code for {t} is {v}; {v} is the code for {t}; write {v} on papers for {t}; {t} go to cost centre {v}; form {v} is used for {t}; for {t} use form {v}; fill in form {v} for {t}; {t} need form {v}
Which code do I use for {t}?; What is the code for {t}?; Under which code are {t} booked?; Which form is used for {t}?; Which form do I need for {t}?; What form do {t} need?; To which cost centre do {t} go?; What code belongs to {t}?

group / none / laptops,badges,passwords,broken chairs,the heating,parking,visitors,travel bookings,new phones,the website,training,the archive,waste,payroll,new hires,safety,the gardens,catering,orders,events
{v} is responsible for {t}; {t} are handled by {v}; {v} takes care of {t}; ask {v} about {t}; {v} looks after {t}; {t} belong to {v}; for {t} go to {v}; {v} deals with {t}; problems with {t} go to {v}; contact {v} for {t}
Who is responsible for {t}?; Who takes care of {t}?; Which team handles {t}?; Whom do I ask about {t}?; Who looks after {t}?; To whom do {t} belong?; Who deals with {t}?; Where do I go for {t}?; Which team is responsible for {t}?; Whom do I contact for {t}?
""".strip().split("\n\n")
)

# Statements and questions of the generic relations, which are noun phrases ("repair fee").
STATEMENTS = tuple(
    text.strip()
    for text in """
the {r} of {e} is {v}; {e} has the {r} {v}; for {e}, the {r} is {v}; {v} is the {r} of {e};
the {r} for {e} is {v}; {e} uses {v} as its {r}; {v} serves as {r} for {e};
the current {r} of {e} is {v}; the {r} at {e} is {v}; the {r} of {e} was changed to {v};
{e} lists {v} as its {r}; as {r}, {e} has {v}; in the case of {e} the {r} is {v};
since last year the {r} of {e} is {v}; {e} works with {v} as {r}; the {r} that goes with {e} is {v};
we set the {r} of {e} to {v}; {v} was chosen as {r} of {e}
""".split(";")
)
IMPLICIT = tuple(
    text.strip()
    for text in """
the {r} is {v}; its {r} is {v}; it has the {r} {v}; {v} is the {r}; as {r} it uses {v};
its {r} was set to {v}; the {r} was changed to {v}; here the {r} is {v}; it lists {v} as {r}
""".split(";")
)
QUESTIONS = tuple(
    text.strip()
    for text in """
What is the {r} of {e}?; What is the {r} for {e}?; Which {r} does {e} have?; What {r} does {e} use?;
Tell me the {r} of {e}.; Do you know the {r} of {e}?; {e}: what is the {r}?; What is {e}'s {r}?;
I need the {r} of {e}.; For {e}, what is the {r}?; Could you give me the {r} of {e}?;
What is listed as {r} of {e}?; Give me the {r} for {e}.; What was set as the {r} of {e}?;
Which {r} was chosen for {e}?; What {r} goes with {e}?
""".split(";")
)
BY_KIND = {
    "person": (
        "Who is the {r} of {e}?",
        "Who acts as {r} of {e}?",
        "Who serves as {r} for {e}?",
        "Who is {e}'s {r}?",
        "Which person is the {r} of {e}?",
    ),
    "money": (
        "How much is the {r} of {e}?",
        "How high is the {r} of {e}?",
        "How much money is the {r} of {e}?",
        "How large is the {r} for {e}?",
    ),
    "duration": (
        "How long is the {r} of {e}?",
        "How long does the {r} of {e} last?",
        "How much time is the {r} of {e}?",
    ),
    "date": (
        "When is the {r} of {e}?",
        "On which date is the {r} of {e}?",
        "What date is the {r} of {e}?",
    ),
    "clock": ("When is the {r} of {e}?", "At what time is the {r} of {e}?"),
    "weekday": ("When is the {r} of {e}?", "On which day is the {r} of {e}?"),
    "spot": ("Where is the {r} of {e}?", "Where can I find the {r} of {e}?"),
    "place": ("Where is the {r} of {e}?", "In which town is the {r} of {e}?"),
    "count": ("How large is the {r} of {e}?", "How many is the {r} of {e}?"),
    "percent": ("How high is the {r} of {e}?", "How many percent is the {r} of {e}?"),
    "measure": ("How large is the {r} of {e}?", "How much is the {r} of {e}?"),
}
HEADS = {
    "money": "allowance fee price budget deposit discount bonus grant fine charge cost limit rate",
    "duration": "period time duration lifetime interval length window age limit",
    "date": "deadline date start end release launch review",
    "measure": "size weight height width range speed capacity length limit load",
    "count": "capacity stock count size target limit",
    "code": "code number label tag zone key reference",
    "person": "owner lead manager contact sponsor coach reviewer author supervisor approver deputy "
    "coordinator buyer planner trainer guide",
    "spot": "location office site place room store entrance desk",
    "place": "location office site place address base",
    "extension": "extension hotline number line",
    "email": "mailbox address channel contact",
    "colour": "colour label light cover",
    "thing": "form tool method material fuel drink dish gift format cover prize",
    "name": "supplier vendor partner tool project system agency",
    "percent": "share discount rate target bonus",
    "weekday": "day date slot",
    "clock": "start end time slot",
    "often": "interval cycle rhythm",
    "floor": "level floor",
    "language": "language",
    "room": "room hall office",
}
