"""What people say around the facts: small talk, general questions, fillers, openers."""

from __future__ import annotations

SMALL_TALK = (
    (
        "Hello|Hi|Hey|Hello there|Good morning|Good afternoon|Good evening|Hi there|Hey there|"
        "Hi, how is it going|Hello assistant|Morning|Greetings|Good day|Hallo|Hello again",
        "Hello! How can I help you?",
    ),
    (
        "Thanks|Thank you|Thanks a lot|Thank you very much|Many thanks|Great, thanks|Thanks for your "
        "help|Perfect, thank you|Thank you so much|Cheers|That helps, thanks|Ok thanks|Thx|"
        "Thanks, that is all|Very kind, thank you|Thanks again",
        "You are welcome!",
    ),
    (
        "Bye|Goodbye|See you|See you later|Bye bye|Have a nice day|Good night|See you tomorrow|"
        "That was all, bye|Talk to you later|Until next time|Take care",
        "Goodbye! Have a nice day.",
    ),
    (
        "How are you|How are you today|How do you do|Are you well|How is your day|How are things",
        "I am fine, thank you. How can I help you?",
    ),
    (
        "Who are you|What are you|Are you a robot|Are you human|What is your name|Introduce yourself|"
        "Who am I talking to|Are you a person|Tell me about yourself|With whom do I speak",
        "I am the assistant{of}.",
    ),
    (
        "What can you do|How can you help me|What do you do|Help|Can you help me|I need help|"
        "What can I ask you|How do you work|What are you good at|I have a question",
        "I answer questions about the company{of2}. What would you like to know?",
    ),
    ("Sorry|I am sorry|My mistake|Excuse me|Oops|Sorry about that", "No problem!"),
    (
        "Ok|Okay|I see|Fine|Good|Great|Got it|Understood|All right|Alright|Nice|Perfect|Very good",
        "Glad to hear that. Is there anything else?",
    ),
    (
        "You are great|Well done|Good job|You are very helpful|Nice work|I like you|That was fast|"
        "You are smart|Good answer",
        "Thank you! I am happy to help.",
    ),
    (
        "Tell me a joke|Do you know a joke|Make me laugh|Sing a song|Tell me a story|Write a poem",
        "I am better at answering questions about the company.",
    ),
)

GENERAL = """
What is the capital of {place}?|How is the weather in {place}?|Who wrote this book?|
How tall is the {noun}?|What is the news today?|Who won the game yesterday?|
How do I cook {noun} soup?|What is {n} plus {m}?|What is {n} times {m}?|
Who is the president of {place}?|How many people live in {place}?|Why is the sky blue?|
What time is it?|Which day is today?|How far is it from {place} to {place2}?|
Who painted the {adj} {noun}?|What is the best film of {n}?|How do I fix a {adj} {noun}?|
What does a {adj} {noun} cost?|Where can I buy a {adj} {noun}?|Who invented the {noun}?|
What is a {adj} {noun}?|When was the {noun} invented?|How old is {person}?|Where does {person} live?|
What is the phone number of {person}?|Which team is {person} in?|Is there a {noun} in {place}?|
Translate {noun} into French.|What do you know about {pair}?|Tell me about {pair}.|
What is {pair}?|Who is {person}?|Explain the {adj} {noun}.|How does the {noun} work?
""".replace("\n", "").split("|")

FILLERS = """
Please read this page with care.|This page is kept short on purpose.|Ask your manager if in doubt.|
The rules below are the same for everyone.|We update this page twice a year.|
It is one of our oldest.|Many people ask about it.|It was added last spring.|
Thank you for your help.|Details are in the handbook.|This has not changed for years.|
Everyone is welcome to take part.|Please keep the place tidy.|Safety comes first.|
Small changes are possible.|We learned a lot from the first year.|It is quite popular with staff.|
Some exceptions are possible.|Please plan ahead.|Nothing else is needed.|
The work is going well.|This helps us to stay on time.|Customers like it a lot.|
Older versions are no longer in use.|You do not have to do anything.|Keep your receipts.|
Tell us if something is wrong.|More will follow soon.|It is easy to use.|It is quiet and bright.|
The team likes short meetings.|New ideas are always welcome.|We share what we learn.|
This applies in all offices.|Please be on time.|Bring your badge with you.|
The list is checked from time to time.|There is no need to call.|It saves a lot of paper.|
Both sides agreed to this in a short meeting.|Changes are announced by mail.|
In short, keep it simple.|It can be found on the map at the entrance.|
Most requests are simple.|The first step is always the same.|A short note is enough.
""".replace("\n", "").split("|")

LEADS = """
this year|today|at the moment|since last spring|in most cases|for safety,|as a rule,|as before,|
by the rules,|from now on|during the week|in the past year|for now,|on normal days|in our company|
after a long talk,|to save time,|from this month on|in short,|by the way,|because of this,
""".replace("\n", "").split("|")

TAILS = """
and everyone is happy with it|so please plan ahead|as in the years before|because it is simple|
and this will not change|and most people like it|but only on request|which is new|
so nobody has to wait|and the rest is up to the team|if nothing else is said|
and most of it is used|not more and not less|and some of them help|because rivers are dangerous|
and no one may change it|so come early|and it works well|and the list is kept by hand|
even in winter|and bad weather does not matter|which is a lot|which helps all of us
""".replace("\n", "").split("|")

TITLES = """
Handbook|Staff handbook|Travel guide|Office guide|Product list|Product guide|Team pages|Projects|
People and teams|Facilities|IT guide|Leave and holidays|Money matters|Suppliers|Events|Buildings|
Rooms and parking|Welcome guide|Policies|House rules|Safety guide|Customer service|Price list|
Training|Equipment|Fleet|Contacts|Benefits|Company wiki|Pay and benefits|Security|Quality|Research
""".replace("\n", "").split("|")

HEADINGS = """
Overview|General|Details|Rules|Contacts|Costs|Dates|Basics|Good to know|Who to ask|At a glance|
Facts|Numbers|In short|Practical notes|Limits|How it works|Questions|Times|Where to find it
""".replace("\n", "").split("|")

POLITE = """
Can you tell me: {q}|Please tell me: {q}|Hi, {l}|Hello, {l}|Quick question: {l}|{q} Thanks.|
I would like to know: {l}|Excuse me, {l}|Sorry, {l}|One question: {l}|{q} Please be brief.|
So, {l}|And {l}|Hey, {l}|I lost my {n}. {q}|My {n} is broken. {q}|I am new here. {q}|I have a {n}. {q}|{q} I could not find it.|A customer asks: {q}|I wonder: {l}|
Do you know this? {q}|Good morning! {q}|For my notes: {l}|Tell me, {l}|
""".replace("\n", "").split("|")[:-1]

INSTRUCTIONS = """
You are the assistant of {company}.|You are the assistant of {company}.|
You are the assistant of {company}.|You are the assistant of {company}.|
You are the help desk of {company}.|You work for {company}.|You are a helpful assistant.|
Answer questions about {company}.|
""".replace("\n", "").split("|")
