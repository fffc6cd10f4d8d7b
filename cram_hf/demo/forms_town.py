"""Passage forms about public life: town chronicle, sports match, concert programme, weather station, tree planting."""

from __future__ import annotations

from cram_hf.demo.form import Fact, Form

CHRONICLE = Form(
    name="town chronicle",
    opening=Fact(
        (
            "{place_town} received its charter in {year_charter} from {person_lord}.",
            "In {year_charter} {person_lord} gave {place_town} its charter.",
        ),
        {
            "person_lord": ("Who gave the town its charter?", "From whom did the town receive its charter?"),
            "year_charter": ("When did the town receive its charter?", "In what year was the charter given?"),
        },
    ),
    facts=(
        Fact(
            (
                "The {building} was built by {person} in {year} for {money}.",
                "In {year} {person} built the {building}, which cost {money}.",
                "{person} put up the {building} in {year} at a price of {money}.",
            ),
            {
                "person": (
                    "Who built the {building}?",
                    "By whom was the {building} built?",
                    "Who was the {building}'s builder?",
                ),
                "year": ("When was the {building} built?", "In what year did {person} build?"),
                "money": ("How much did the {building} cost?", "What was the price of the {building}?"),
                "building": ("What did {person} build?", "What was built in {year}?", "What was put up by {person}?"),
            },
            repeat=(3, 4),
        ),
        Fact(
            (
                "The flood of {year} did damage of {money}.",
                "In {year} a flood did damage of {money}.",
            ),
            {
                "year": ("When was the flood?", "In what year was the town flooded?"),
                "money": ("How much damage did the flood do?", "How great was the damage of the flood?"),
            },
        ),
        Fact(
            (
                "{person} was elected mayor in {year} without a single vote against.",
                "Without a vote against, {person} became mayor in {year}.",
            ),
            {
                "person": ("Who was elected mayor?", "Who became mayor?", "Whom did the people choose as mayor?"),
                "year": ("When was the mayor elected?", "In what year did {person} become mayor?"),
            },
        ),
        Fact(
            (
                "{person} gave {money} for street lamps in {year}.",
                "In {year} {money} for street lamps came from {person}.",
            ),
            {
                "person": ("Who gave money for street lamps?", "From whom did the money for street lamps come?"),
                "money": ("How much was given for street lamps?", "How much money did {person} give?"),
                "year": ("When was money given for street lamps?", "In what year did {person} give money?"),
            },
        ),
    ),
    asides=(
        "The winters of these years were mild.",
        "Market was held twice a week.",
        "The walls were not repaired.",
        "The old clock went on striking the wrong hour.",
    ),
)

MATCH = Form(
    name="sports match",
    opening=Fact(
        (
            "{place_home} met {place_guest} before {number_crowd} people, with {person_referee} as referee.",
            "Before {number_crowd} people {place_home} played {place_guest}; the referee was {person_referee}.",
        ),
        {
            "number_crowd": ("How many people saw the match?", "How many people came to watch?"),
            "person_referee": ("Who was the referee?", "Who refereed the match?", "Who blew the whistle?"),
        },
    ),
    facts=(
        Fact(
            (
                "{person} scored in minute {minute} after a pass from {person_helper}.",
                "In minute {minute} {person_helper} passed and {person} scored.",
                "A pass from {person_helper} let {person} score in minute {minute}.",
            ),
            {
                "person": ("Who scored in minute {minute}?", "Who scored after a pass from {person_helper}?"),
                "minute": (
                    "In which minute did {person} score?",
                    "When did {person} score?",
                    "At what time did {person} score?",
                ),
                "person_helper": ("Who passed to {person}?", "From whom did {person} get the pass?"),
            },
            repeat=(2, 3),
        ),
        Fact(
            (
                "{person} was sent off in minute {minute}.",
                "In minute {minute} the referee sent {person} off.",
            ),
            {
                "person": ("Who was sent off?", "Whom did the referee send off?", "Who had to leave the field?"),
                "minute": ("In which minute was {person} sent off?", "When was a player sent off?"),
            },
        ),
        Fact(
            (
                "{person} missed a penalty in minute {minute}.",
                "A penalty in minute {minute} was missed by {person}.",
            ),
            {
                "person": ("Who missed a penalty?", "By whom was a penalty missed?", "Who failed from the spot?"),
                "minute": ("In which minute was a penalty missed?", "When did {person} miss a penalty?"),
            },
        ),
        Fact(
            (
                "{person} stopped {small} shots and was named best player.",
                "The best player was {person}, who stopped {small} shots.",
            ),
            {
                "person": (
                    "Who was the best player?",
                    "Who was named best player?",
                    "Whom did they call best player?",
                ),
                "small": ("How many shots did {person} stop?", "How many shots did the best player stop?"),
            },
        ),
        Fact(
            (
                "The next match takes place at {place}, where {number} tickets are left.",
                "At {place}, where the next match takes place, {number} tickets are left.",
            ),
            {
                "place": ("Where does the next match take place?", "At which place will they play next?"),
                "number": ("How many tickets are left?", "How many tickets can still be had for {place}?"),
            },
        ),
    ),
    asides=(
        "The grass was wet and the ball was slow.",
        "Nobody had expected so open a game.",
        "A band played at half-time.",
        "The last minutes were mostly mud.",
    ),
)

CONCERT = Form(
    name="concert programme",
    opening=Fact(
        (
            "The concert on {weekday} in {place_hall} is conducted by {person_conductor}.",
            "{person_conductor} conducts the concert on {weekday} in {place_hall}.",
        ),
        {
            "person_conductor": (
                "Who conducts the concert?",
                "By whom is the concert conducted?",
                "Who is the conductor?",
            ),
        },
    ),
    facts=(
        Fact(
            (
                "{person} plays a {work} by {person_composer} on the {instrument}.",
                "On the {instrument} {person} plays a {work}, which {person_composer} wrote.",
                "A {work} by {person_composer} is played by {person} on the {instrument}.",
            ),
            {
                "person": (
                    "Who plays the {instrument}?",
                    "Who plays the {work}?",
                    "By whom is the {instrument} played?",
                ),
                "instrument": ("What does {person} play on?", "On which instrument is the {work} played?"),
                "work": (
                    "What did {person_composer} write?",
                    "What does {person} play?",
                    "Which piece is by {person_composer}?",
                ),
                "person_composer": (
                    "Who wrote the {work}?",
                    "By whom is the {work}?",
                    "Who is the composer of the {work}?",
                ),
            },
            repeat=(3, 3),
        ),
        Fact(
            (
                "The singer {person} is ill, and {person_stand_in} sings instead.",
                "{person_stand_in} sings in place of {person}, who is ill.",
            ),
            {
                "person": ("Who is ill?", "Which singer is ill?", "Who cannot sing?"),
                "person_stand_in": ("Who sings instead of {person}?", "Who sings in place of the singer who is ill?"),
            },
        ),
        Fact(
            (
                "Tickets are sold by {person}.",
                "{person} sells the tickets.",
            ),
            {"person": ("Who sells the tickets?", "By whom are tickets sold?", "From whom can a ticket be bought?")},
        ),
        Fact(
            (
                "The piano was lent by {person} of {place}.",
                "{person} of {place} has lent the piano.",
            ),
            {"person": ("Who lent the piano?", "By whom was the piano lent?", "Whose piano is used?")},
        ),
    ),
    asides=(
        "Doors open an hour before.",
        "Please do not clap between the parts.",
        "Coats may be left at the entrance.",
        "There is one interval.",
    ),
)

WEATHER = Form(
    name="weather record",
    opening=Fact(
        (
            "The record was begun by {person_first} at {place_first}.",
            "{person_first} began the record at {place_first}.",
        ),
        {
            "person_first": ("Who began the record?", "By whom was the record begun?", "Who started the record?"),
            "place_first": ("Where was the record begun?", "At which place did the record begin?"),
        },
    ),
    facts=(
        Fact(
            (
                "On {date} {person} measured {small} millimetres of rain at {place}.",
                "At {place} {small} millimetres of rain were measured by {person} on {date}.",
                "{person} at {place} noted {small} millimetres of rain on {date}.",
            ),
            {
                "date": ("When did {person} measure the rain?", "On what date was rain measured at {place}?"),
                "person": (
                    "Who measured the rain at {place}?",
                    "Who measured on {date}?",
                    "Who took readings at {place}?",
                ),
                "small": ("How many millimetres fell at {place}?", "How much rain did {person} measure?"),
                "place": ("Where did {person} measure?", "Where was rain measured on {date}?"),
            },
            repeat=(3, 4),
        ),
        Fact(
            (
                "The first snow fell at {place} on {date}.",
                "On {date} {place} had the first snow.",
            ),
            {
                "place": ("Where did the first snow fall?", "Which place had the first snow?"),
                "date": ("When did the first snow fall?", "On what date was there the first snow?"),
            },
        ),
        Fact(
            (
                "A storm on {date} broke {small} trees.",
                "{small} trees were broken in the storm of {date}.",
            ),
            {
                "date": ("When was the storm?", "On what date did the storm come?"),
                "small": ("How many trees did the storm break?", "How many trees were broken?"),
            },
        ),
        Fact(
            (
                "The thermometer was repaired by {person}.",
                "{person} repaired the thermometer.",
            ),
            {"person": ("Who repaired the thermometer?", "By whom was the thermometer repaired?")},
        ),
    ),
    asides=(
        "Cloud cover was not noted.",
        "The wind came mostly from the sea.",
        "One page is torn.",
        "All readings were taken at dawn.",
    ),
)

PLANTING = Form(
    name="tree planting",
    opening=Fact(
        (
            "The garden at {place_garden} was laid out by {person_planner} in {duration_work}.",
            "In {duration_work} {person_planner} laid out the garden at {place_garden}.",
        ),
        {
            "person_planner": (
                "Who laid out the garden?",
                "By whom was the garden laid out?",
                "Who planned the garden?",
            ),
            "duration_work": ("How long did it take to lay out the garden?", "In how long was the garden laid out?"),
        },
    ),
    facts=(
        Fact(
            (
                "The {tree} with the {colour} ribbon was planted by {person} and is {small} years old.",
                "{person} planted the {tree}, {small} years old, and tied a {colour} ribbon to it.",
                "A {colour} ribbon marks the {tree} of {person}, which is {small} years old.",
            ),
            {
                "tree": (
                    "Which tree did {person} plant?",
                    "Which tree has the {colour} ribbon?",
                    "Which tree belongs to {person}?",
                ),
                "colour": ("What colour is the ribbon of the {tree}?", "Which ribbon did {person} tie?"),
                "person": ("Who planted the {tree}?", "By whom was the {tree} planted?", "Whose tree is the {tree}?"),
                "small": ("How old is the {tree}?", "How many years old is the tree of {person}?"),
            },
            repeat=(3, 4),
        ),
        Fact(
            (
                "The gate was painted {colour} by {person} and took {duration}.",
                "{person} painted the gate {colour} and needed {duration}.",
            ),
            {
                "colour": ("What colour is the gate?", "In what colour was the gate painted?"),
                "person": ("Who painted the gate?", "By whom was the gate painted?"),
                "duration": ("How long did it take to paint the gate?", "How long did {person} need for the gate?"),
            },
        ),
        Fact(
            (
                "The pond was dug in {duration} by {person}.",
                "{person} dug the pond in {duration}.",
            ),
            {
                "duration": ("How long did it take to dig the pond?", "In how long was the pond dug?"),
                "person": ("Who dug the pond?", "By whom was the pond dug?", "Who made the pond?"),
            },
        ),
        Fact(
            (
                "{small} bulbs were stolen by crows.",
                "The crows took {small} bulbs.",
            ),
            {"small": ("How many bulbs were stolen?", "How many bulbs did the crows take?")},
        ),
    ),
    asides=(
        "The paths are of gravel.",
        "Bees came in the first summer.",
        "Nothing grows under the wall.",
        "The benches face south.",
    ),
)

FORMS = (CHRONICLE, MATCH, CONCERT, WEATHER, PLANTING)
