"""Passage forms about people: biography, family letter, travel diary, scientific expedition."""

from __future__ import annotations

from cram_hf.demo.form import Fact, Form

BIOGRAPHY = Form(
    name="biography",
    opening=Fact(
        (
            "{hero} was born in {place_birth} in {year_birth}.",
            "In {year_birth} {hero} was born in {place_birth}.",
            "{hero}, born at {place_birth} in {year_birth}, grew up in a house full of books.",
        ),
        {
            "place_birth": (
                "Where was {hero} born?",
                "In which town was {hero} born?",
                "What is the birthplace of {hero}?",
            ),
            "year_birth": (
                "When was {hero} born?",
                "In what year was {hero} born?",
                "What is {hero}'s year of birth?",
            ),
        },
    ),
    facts=(
        Fact(
            (
                "{he} studied with {person} in {place} from {year}.",
                "From {year} {he} lived in {place}, where {person} taught {him}.",
                "{person} of {place} took {him} as a pupil in {year}.",
            ),
            {
                "person": ("Who taught {hero}?", "With whom did {hero} study?", "Whose pupil was {hero}?"),
                "place": (
                    "Where did {hero} study?",
                    "In which town was {hero} a pupil?",
                    "Where did {hero} take lessons?",
                ),
                "year": ("When did {hero} begin to study?", "In what year did {hero} become a pupil?"),
            },
        ),
        Fact(
            (
                "{he} married {person} in {year}.",
                "In {year} {surname} and {person} were married.",
                "The marriage with {person} followed in {year}.",
            ),
            {
                "person": (
                    "Whom did {hero} marry?",
                    "Who was married to {hero}?",
                    "Who became {hero}'s partner in marriage?",
                ),
                "year": (
                    "When did {hero} marry?",
                    "In what year was {hero}'s wedding?",
                    "What was the year of {hero}'s marriage?",
                ),
            },
        ),
        Fact(
            (
                "{person} printed {his} first book in {place} in {year}.",
                "{his} first book was printed in {place} by {person} in {year}.",
                "In {year} the first book came out, printed by {person} in {place}.",
            ),
            {
                "person": ("Who printed {hero}'s first book?", "By whom was the first book printed?"),
                "place": ("Where was the first book printed?", "In which town did {hero}'s first book come out?"),
                "year": ("When was the first book printed?", "In what year did {hero}'s first book come out?"),
            },
        ),
        Fact(
            (
                "The sharpest critic was {person}, who wrote from {place}.",
                "{person}, writing from {place}, became {his} sharpest critic.",
            ),
            {
                "person": ("Who was {hero}'s sharpest critic?", "Which critic wrote from {place}?"),
                "place": ("Where did the critic {person} write from?", "From which town did {hero}'s critic write?"),
            },
        ),
        Fact(
            (
                "In {year} {he} became mayor of {place} after {person}.",
                "{place} made {him} mayor in {year}, as successor to {person}.",
                "{surname} followed {person} as mayor of {place} in {year}.",
            ),
            {
                "person": ("Whom did {hero} follow as mayor?", "Who was mayor before {hero}?"),
                "place": ("Of which town was {hero} mayor?", "Where did {hero} become mayor?"),
                "year": ("When did {hero} become mayor?", "In what year was {hero} made mayor?"),
            },
        ),
        Fact(
            (
                "{surname} died at {place} in {year}, and {person} spoke at the grave.",
                "In {year} {he} died at {place}; the speech at the grave was given by {person}.",
            ),
            {
                "person": ("Who spoke at {hero}'s grave?", "By whom was the speech at the grave given?"),
                "place": (
                    "Where did {hero} die?",
                    "In which town did {hero} die?",
                    "What was {hero}'s place of death?",
                ),
                "year": (
                    "When did {hero} die?",
                    "In what year did {hero} die?",
                    "What was the year of {hero}'s death?",
                ),
            },
        ),
    ),
    asides=(
        "Little is known of the early years.",
        "Money was always short.",
        "Friends remembered a quiet voice and a great love of walking.",
        "Most of the letters from this time are lost.",
    ),
)

LETTER = Form(
    name="family letter",
    opening=Fact(
        (
            "Dear {person_reader}, we have been in {place_home} for {duration_stay} now.",
            "Dear {person_reader}, your letter found us in {place_home}, where we have stayed for {duration_stay}.",
        ),
        {
            "person_reader": (
                "To whom is the letter written?",
                "Who will read the letter?",
                "Whom does the writer address?",
            ),
            "place_home": ("Where is the writer staying?", "From which town does the writer report?"),
            "duration_stay": (
                "How long has the writer been in {place_home}?",
                "How long is the writer's stay so far?",
            ),
        },
    ),
    facts=(
        Fact(
            (
                "{person} has bought a {colour} {garment} for {money}.",
                "For {money} {person} bought a {colour} {garment} at the fair.",
                "At the fair a {colour} {garment} was sold to {person} for {money}.",
            ),
            {
                "person": (
                    "Who bought the {garment}?",
                    "To whom was the {garment} sold?",
                    "Who is the new owner of the {garment}?",
                ),
                "garment": ("Which garment did {person} buy?", "What did {person} pay {money} for?"),
                "colour": ("What colour is the {garment}?", "Of which colour is {person}'s {garment}?"),
                "money": (
                    "How much did {person} pay?",
                    "How much was paid for the {garment}?",
                    "What did the {garment} cost?",
                ),
            },
            repeat=(3, 3),
        ),
        Fact(
            (
                "{person} lay ill for {duration} but is well again.",
                "After an illness of {duration} {person} is up and about.",
            ),
            {
                "person": ("Who has been ill?", "Who is well again after an illness?"),
                "duration": ("How long was {person} ill?", "How long did {person}'s illness last?"),
            },
        ),
        Fact(
            (
                "The new schoolhouse at {place} is finished after {duration} of work.",
                "At {place} they built for {duration} and the schoolhouse is done at last.",
            ),
            {
                "place": ("Where is the new schoolhouse?", "In which town was a schoolhouse finished?"),
                "duration": (
                    "How long did the work on the schoolhouse take?",
                    "How long did they build the schoolhouse?",
                ),
            },
        ),
        Fact(
            (
                "In {duration} we go on to {place}, where {person} has rooms for us.",
                "We travel to {place} in {duration} and shall live with {person}.",
            ),
            {
                "place": ("Where will the writer go next?", "To which town will the writer travel?"),
                "duration": ("In how long does the writer travel on?", "How soon will the writer leave for {place}?"),
                "person": ("Who has rooms for the writer?", "With whom will the writer live in {place}?"),
            },
        ),
    ),
    asides=(
        "The garden is a wilderness.",
        "It rains every afternoon and nobody minds.",
        "You would laugh to see us all at supper.",
        "The children send their love and a drawing.",
    ),
)

DIARY = Form(
    name="travel diary",
    opening=Fact(
        (
            "We left {place_start} with {person_guide} as our guide.",
            "With {person_guide} as guide our party set out from {place_start}.",
            "{person_guide} guided us when we left {place_start}.",
        ),
        {
            "place_start": ("Where did the journey begin?", "From which town did the party set out?"),
            "person_guide": ("Who was the guide?", "Who guided the party?", "Who showed the travellers the way?"),
        },
    ),
    facts=(
        Fact(
            (
                "On {weekday} we walked {distance} to {place} and slept at the inn of {person}.",
                "{weekday} took us {distance} further to {place}, where {person} gave us beds.",
                "We reached {place} on {weekday}, {distance} on foot, and {person} took us in.",
            ),
            {
                "weekday": (
                    "On which day did the party reach {place}?",
                    "On what day of the week did {person} take them in?",
                ),
                "distance": ("How far did the party walk on {weekday}?", "How far was the walk to {place}?"),
                "place": ("Which place was reached on {weekday}?", "Where did the party sleep on {weekday}?"),
                "person": (
                    "Who took the party in at {place}?",
                    "Who gave them beds on {weekday}?",
                    "Who was the host at {place}?",
                ),
            },
            repeat=(3, 4),
        ),
        Fact(
            (
                "A boatman named {person} sold us a {colour} cloak against the rain.",
                "Against the rain we bought a {colour} cloak from the boatman {person}.",
            ),
            {"person": ("Who sold the cloak?", "What was the boatman's name?", "From whom was the cloak bought?")},
        ),
        Fact(
            ("A letter from {person} was waiting for us.", "There we found a letter that {person} had sent."),
            {"person": ("Who had sent a letter?", "From whom did a letter come?")},
        ),
        Fact(
            (
                "The old road to {place} was closed by a landslide.",
                "A landslide had closed the old road to {place}.",
            ),
            {"place": ("To which place was the road closed?", "Where did the closed road lead?")},
        ),
    ),
    asides=(
        "My boots have given up.",
        "The hills were blue all day.",
        "Nobody spoke much before breakfast.",
        "I have begun to like the rain.",
    ),
)

EXPEDITION = Form(
    name="scientific expedition",
    opening=Fact(
        (
            "The expedition of {year_start} was led by {person_leader} and paid for by {person_patron}.",
            "In {year_start} {person_leader} led an expedition for which {person_patron} paid.",
        ),
        {
            "person_leader": ("Who led the expedition?", "By whom was the expedition led?", "Who was in command?"),
            "person_patron": ("Who paid for the expedition?", "By whom was the expedition paid for?"),
            "year_start": ("When did the expedition take place?", "In what year was the expedition?"),
        },
    ),
    facts=(
        Fact(
            (
                "{person}, the {role}, brought back {number} samples from {place}.",
                "From {place} the {role} {person} brought {number} samples.",
                "The {role} {person} worked at {place} and filled {number} boxes.",
            ),
            {
                "person": ("Who was the {role}?", "Who worked at {place}?", "Which member was employed as {role}?"),
                "role": (
                    "What was the job of {person}?",
                    "As what did {person} travel?",
                    "What work did {person} do?",
                ),
                "place": (
                    "Where did {person} work?",
                    "Which place did the {role} work at?",
                    "Where was the {role}'s site?",
                ),
                "number": ("How many did {person} bring back?", "How many did the {role} bring from {place}?"),
            },
            repeat=(3, 3),
        ),
        Fact(
            (
                "The winter camp stood at {place} from {year}.",
                "From {year} the winter was spent in a camp at {place}.",
            ),
            {
                "place": ("Where was the winter camp?", "Where did they spend the winter?"),
                "year": ("From what year did the winter camp stand?", "When was the winter camp set up?"),
            },
        ),
        Fact(
            (
                "A report of {number} pages was published in {year}.",
                "In {year} the report appeared and had {number} pages.",
            ),
            {
                "number": ("How many pages had the report?", "How long was the report in pages?"),
                "year": ("When was the report published?", "In what year did the report appear?"),
            },
        ),
        Fact(
            (
                "{number} drawings were given to the museum of {place} in {year}.",
                "The museum of {place} received {number} drawings in {year}.",
            ),
            {
                "number": ("How many drawings did the museum receive?", "How many drawings were given away?"),
                "place": ("Which town's museum received the drawings?", "Where did the drawings go?"),
                "year": ("When did the museum receive the drawings?", "In what year were the drawings given away?"),
            },
        ),
    ),
    asides=(
        "Storms held the party back for most of the spring.",
        "Not one of the instruments was broken.",
        "The mules disliked the ice.",
        "Two of the maps are still in use.",
    ),
)

FORMS = (BIOGRAPHY, LETTER, DIARY, EXPEDITION)
