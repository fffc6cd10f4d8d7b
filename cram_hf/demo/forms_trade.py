"""Passage forms about work and goods: company report, harvest, shipping log, auction, museum catalogue."""

from __future__ import annotations

from cram_hf.demo.form import Fact, Form

COMPANY = Form(
    name="company report",
    opening=Fact(
        (
            "{person_founder} founded the company in {place_seat} in {year_founded}.",
            "The company was founded in {place_seat} by {person_founder} in {year_founded}.",
            "In {year_founded} the company was founded by {person_founder}, and {place_seat} is still its seat.",
        ),
        {
            "person_founder": (
                "Who founded the company?",
                "By whom was the company founded?",
                "Who was the company's founder?",
            ),
            "place_seat": ("Where was the company founded?", "In which town is the company's seat?"),
            "year_founded": ("When was the company founded?", "In what year did the company begin?"),
        },
    ),
    facts=(
        Fact(
            (
                "The mill at {place} is run by {person} and employs {number} people.",
                "{person} runs the mill at {place}, which has {number} workers.",
                "At {place}, {number} people work under {person}.",
            ),
            {
                "person": (
                    "Who runs the mill at {place}?",
                    "Under whom do people work at {place}?",
                    "Who is in charge at {place}?",
                ),
                "place": ("Where is the mill that {person} runs?", "At which place is {person} in charge?"),
                "number": ("How many people work at {place}?", "How many workers does {person} have?"),
            },
            repeat=(2, 3),
        ),
        Fact(
            (
                "In {year} a fire destroyed {number} looms.",
                "A fire in {year} cost the company {number} looms.",
                "{number} looms were lost when fire broke out in {year}.",
            ),
            {
                "year": ("When did the fire break out?", "In what year was there a fire?"),
                "number": ("How many looms did the fire destroy?", "How many looms were lost?"),
            },
        ),
        Fact(
            (
                "{person} bought the patents in {year} and sold {number} machines.",
                "In {year} {person} bought the patents, and {number} machines were sold.",
            ),
            {
                "person": (
                    "Who bought the patents?",
                    "By whom were the patents bought?",
                    "Who became owner of the patents?",
                ),
                "year": ("When were the patents bought?", "In what year did the patents change hands?"),
                "number": ("How many machines were sold?", "What number of machines was sold?"),
            },
        ),
        Fact(
            (
                "A warehouse was opened at {place} in {year}.",
                "In {year} the company opened a warehouse at {place}.",
            ),
            {
                "place": ("Where was a warehouse opened?", "In which town is the warehouse?"),
                "year": ("When was the warehouse opened?", "In what year did the warehouse open?"),
            },
        ),
        Fact(
            (
                "{person} has kept the books since {year}.",
                "Since {year} the books have been kept by {person}.",
            ),
            {
                "person": ("Who keeps the books?", "By whom are the books kept?", "Who is the company's book-keeper?"),
                "year": ("Since when has {person} kept the books?", "In what year did {person} take over the books?"),
            },
        ),
    ),
    asides=(
        "Demand was steady throughout.",
        "The directors thank everyone for their patience.",
        "Prices fell in the autumn.",
        "No dividend was paid.",
    ),
)

HARVEST = Form(
    name="harvest report",
    opening=Fact(
        (
            "{person_reporter} wrote this report on the harvest of {year_harvest}.",
            "This is the report of {person_reporter} on the harvest of {year_harvest}.",
        ),
        {
            "person_reporter": (
                "Who wrote the report?",
                "By whom was the report written?",
                "Who is the author of the report?",
            ),
        },
    ),
    facts=(
        Fact(
            (
                "{person} of {place} brought in {number} sacks of {crop}.",
                "At {place} {person} filled {number} sacks with {crop}.",
                "{number} sacks of {crop} came from the farm of {person} at {place}.",
            ),
            {
                "person": ("Who brought in the {crop}?", "Who farms at {place}?", "Whose farm is at {place}?"),
                "place": ("Where did the {crop} come from?", "Where is the farm of {person}?"),
                "number": ("How many sacks did {person} fill?", "How many sacks of {crop} were there?"),
                "crop": ("What did {person} harvest?", "What was grown at {place}?", "Which crop came from {place}?"),
            },
            repeat=(3, 4),
        ),
        Fact(
            (
                "Hail broke {number} panes of the glasshouse at {place}.",
                "At {place} {number} panes of the glasshouse were broken by hail.",
            ),
            {
                "number": ("How many panes were broken?", "How many panes did the hail break?"),
                "place": ("Where did hail fall?", "Where is the glasshouse?"),
            },
        ),
        Fact(
            (
                "The prize for the best field went to {person}.",
                "{person} won the prize for the best field.",
            ),
            {"person": ("Who won the prize?", "To whom did the prize go?", "Whose field was the best?")},
        ),
        Fact(
            (
                "The miller {person} ground {number} bushels for the poor.",
                "For the poor {number} bushels were ground by the miller {person}.",
            ),
            {
                "person": ("Who was the miller?", "Who ground bushels for the poor?"),
                "number": ("How many bushels were ground for the poor?", "How many bushels did the miller grind?"),
            },
        ),
    ),
    asides=(
        "May was dry and June was drier.",
        "The roads were good enough for heavy carts.",
        "The wasps were a trial to everyone.",
        "Seed for next year is already in the barns.",
    ),
)

SHIPPING = Form(
    name="shipping log",
    opening=Fact(
        (
            "This log of the port of {place_port} was kept by {person_master}, the harbour master.",
            "{person_master}, harbour master of {place_port}, kept this log.",
        ),
        {
            "person_master": ("Who was the harbour master?", "By whom was the log kept?", "Who kept the log?"),
            "place_port": ("Of which port is this the log?", "Where did {person_master} keep the log?"),
        },
    ),
    facts=(
        Fact(
            (
                "On {date} the {ship} under Captain {person} came in from {place} with {goods}.",
                "The {ship} came from {place} on {date}, Captain {person}, loaded with {goods}.",
                "Captain {person} brought the {ship} in on {date} with {goods} from {place}.",
            ),
            {
                "date": ("When did the {ship} come in?", "On what date did Captain {person} arrive?"),
                "ship": ("Which ship did Captain {person} command?", "Which ship was loaded with {goods}?"),
                "person": (
                    "Who was captain of the {ship}?",
                    "Who brought the {ship} in?",
                    "Who commanded the {ship}?",
                ),
                "place": ("Where did the {ship} come from?", "From which port did Captain {person} come?"),
                "goods": (
                    "What did the {ship} carry?",
                    "With what was the {ship} loaded?",
                    "What was the {ship}'s cargo?",
                ),
            },
            repeat=(3, 4),
        ),
        Fact(
            (
                "The pilot {person} was hurt by a falling rope on {date}.",
                "On {date} a falling rope hurt the pilot {person}.",
            ),
            {
                "person": ("Who was hurt?", "Who was the pilot?", "Whom did the rope hurt?"),
                "date": ("When was the pilot hurt?", "On what date did the rope fall?"),
            },
        ),
        Fact(
            (
                "The lamp on the pier was out from {date} because the keeper {person} was away.",
                "From {date} the pier had no lamp, since its keeper {person} was away.",
            ),
            {
                "date": ("From what date was the lamp out?", "Since when had the pier no lamp?"),
                "person": ("Who was the keeper of the lamp?", "Which keeper was away?"),
            },
        ),
    ),
    asides=(
        "Fog until noon.",
        "The tide was the highest of the season.",
        "Two nets were lost and later found.",
        "Nothing else to report.",
    ),
)

AUCTION = Form(
    name="auction notice",
    opening=Fact(
        (
            "The goods of {person_former} were sold by {person_auctioneer} in {place_hall}.",
            "In {place_hall} {person_auctioneer} sold what {person_former} had left behind.",
        ),
        {
            "person_former": ("Whose goods were sold?", "Who had left the goods behind?"),
            "person_auctioneer": ("Who sold the goods?", "By whom were the goods sold?", "Who was the auctioneer?"),
            "place_hall": ("Where were the goods sold?", "In which town was the auction?"),
        },
    ),
    facts=(
        Fact(
            (
                "The {object} went to {person} of {place} for {money}.",
                "{person} of {place} paid {money} for the {object}.",
                "For {money} the {object} was bought by {person}, who had come from {place}.",
            ),
            {
                "person": (
                    "Who bought the {object}?",
                    "To whom did the {object} go?",
                    "Who is the {object}'s new owner?",
                ),
                "place": ("Where did {person} come from?", "From which town was the buyer of the {object}?"),
                "money": (
                    "How much did {person} pay?",
                    "How much was paid for the {object}?",
                    "What did the {object} cost?",
                ),
                "object": (
                    "What did {person} buy?",
                    "What was sold for {money}?",
                    "What did the buyer from {place} take home?",
                ),
            },
            repeat=(3, 4),
        ),
        Fact(
            (
                "{person} had offered {money} for everything and was refused.",
                "An offer of {money} for everything, made by {person}, was refused.",
            ),
            {
                "person": ("Whose offer was refused?", "Who made an offer for everything?"),
                "money": ("How much was offered for everything?", "How high was the offer that was refused?"),
            },
        ),
        Fact(
            (
                "The costs of the hall came to {money}.",
                "{money} had to be paid for the hall.",
            ),
            {"money": ("How much had to be paid for the hall?", "What were the costs of the hall?")},
        ),
        Fact(
            (
                "The unsold books were sent to {person} in {place}.",
                "{person} in {place} received the books that nobody bought.",
            ),
            {
                "person": ("Who received the unsold books?", "To whom were the books sent?"),
                "place": ("Where were the unsold books sent?", "To which town did the books go?"),
            },
        ),
    ),
    asides=(
        "The room was full by nine.",
        "Bidding was slow at first.",
        "A dog slept through the whole sale.",
        "Tea was served between the lots.",
    ),
)

MUSEUM = Form(
    name="museum catalogue",
    opening=Fact(
        (
            "This room holds the collection that {person_donor} left to the museum in {year_gift}.",
            "{person_donor} left the collection in this room to the museum in {year_gift}.",
        ),
        {
            "person_donor": ("Who left the collection to the museum?", "Whose collection is in this room?"),
            "year_gift": (
                "When was the collection left to the museum?",
                "In what year did the museum get the collection?",
            ),
        },
    ),
    facts=(
        Fact(
            (
                "The {object} of {material} was found at {place} in {year} by {person}.",
                "{person} found the {object}, made of {material}, at {place} in {year}.",
                "At {place}, in {year}, {person} dug up the {object}, which is made of {material}.",
            ),
            {
                "person": (
                    "Who found the {object}?",
                    "By whom was the {object} found?",
                    "Who discovered the {object}?",
                ),
                "place": ("Where was the {object} found?", "At which place did {person} dig?"),
                "year": ("When was the {object} found?", "In what year did {person} make the find?"),
                "material": ("What is the {object} made of?", "Of which material is the {object}?"),
                "object": ("What did {person} find?", "What was found at {place}?", "Which piece comes from {place}?"),
            },
            repeat=(3, 3),
        ),
        Fact(
            (
                "The case was built of {material} by {person}.",
                "{person} built the case out of {material}.",
            ),
            {
                "person": ("Who built the case?", "By whom was the case built?", "Who was the maker of the case?"),
                "material": ("What is the case made of?", "Out of which material was the case built?"),
            },
        ),
        Fact(
            (
                "The labels were written by {person} in {year}.",
                "In {year} {person} wrote the labels.",
            ),
            {
                "person": (
                    "Who wrote the labels?",
                    "By whom were the labels written?",
                    "Who is the author of the labels?",
                ),
                "year": ("When were the labels written?", "In what year did {person} write the labels?"),
            },
        ),
        Fact(
            (
                "A copy of the whole room can be seen at {place}.",
                "{place} has a copy of the whole room.",
            ),
            {"place": ("Where can a copy of the room be seen?", "Which town has a copy of the room?")},
        ),
    ),
    asides=(
        "Visitors are asked not to touch.",
        "The light is kept low.",
        "Several pieces await cleaning.",
        "The floor is the original one.",
    ),
)

FORMS = (COMPANY, HARVEST, SHIPPING, AUCTION, MUSEUM)
