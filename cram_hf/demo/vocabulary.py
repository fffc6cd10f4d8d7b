"""The values that fill the slots of a passage: names built from parts, years, amounts, colours and the like."""

from __future__ import annotations

import random
from typing import Literal

Split = Literal["train", "dev"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.replace("_", " ") for word in text.split())


WOMEN = _words("""
    Ada Agnes Alma Beatrice Bertha Cecily Clara Cora Della Dora Edith Eleanor Elsa Esther Flora Frida Greta Hannah
    Harriet Helen Ida Ines Ingrid Irene Judith Klara Laura Lena Lydia Mabel Marta Matilda Miriam Nora Olga Paula
    Petra Rosa Ruth Sabina Selma Sylvia Thea Tilda Ursula Vera Wanda Winifred
""")
MEN = _words("""
    Adam Albert Anton Arthur Basil Bruno Caspar Cedric Conrad Daniel Edgar Emil Ernest Felix Franz Gideon Gilbert
    Harold Henrik Hugo Isaac Ivan Jasper Jonas Julius Karl Konrad Leo Leonard Magnus Martin Maurice Nathan Oscar Otto
    Paul Philip Ralph Roland Rufus Samuel Simon Stefan Theodore Tobias Victor Walter Wilfred
""")
SURNAME_STARTS = _words("""
    Ald And Ash Bar Beck Ben Black Bran Brom Cald Cart Clay Cole Cran Dal Dray Dun Ed Farn Fen Gar Good Gran Hal Hart
    Hol Hud Kel Lam Lang Lin Mar Mer Mor Nor Pal Pem Quil Rad Rams Red Rud Sand Shel Stan Stir Sut Thorn Tre Wal Wat
    Wil
""")
SURNAME_ENDS = _words("""
    by combe cott den der dale er ford gate ham ing kins land ley man mond more ner son ster ston ton well wick
""")
PLACE_STARTS = _words("""
    Amber Apple Barrow Bell Birch Blue Bright Castle Cherry Clear Cold Copper Crow Deep Dove Eagle East Elm Fair
    Falcon Fox Frost Glen Gold Green Grey Hay Heron High Holly King Lake Lark Long Maple Mill Moss North Oak Old
    Otter Pine Raven River Rose Salt Silver South Spring Star Stone Summer Swan Thistle West White Willow Winter Wolf
""")
PLACE_ENDS = _words("""
    acre bank bay borough bridge brook burgh bury cliff creek cross dale field ford gate grove haven head heath hill
    holm hurst lea marsh mere mouth point pool port ridge shore side stead stow thorpe vale view water wold
""")
BIRDS = _words("""
    Bittern Crane Curlew Dipper Egret Finch Gannet Grebe Gull Heron Ibis Jay Kestrel Lapwing Linnet Merlin Osprey
    Petrel Plover Puffin Rook Sparrow Starling Swift Tern Thrush Wren
""")
SHIP_ADJECTIVES = _words("""
    Bold Brave Bright Brown Dancing Faithful Gentle Gleaming Happy Laughing Lonely Lucky Noble Northern Patient Proud
    Quiet Restless Roaming Royal Silent Southern Steady Swift Tireless Wandering Western Young
""")
CHOICES: dict[str, tuple[str, ...]] = {
    "colour": _words("""
        black blue bronze brown crimson dark_red green grey lemon_yellow lilac pale_blue pink purple scarlet silver
        turquoise violet white yellow
    """),
    "material": _words("""
        bone brass bronze cedar clay copper glass horn leather lead marble oak pewter porcelain silk silver slate tin
        walnut wool
    """),
    "object": _words("""
        basket bell bowl box brooch candlestick chair chest clock comb cup dagger drum fan flask goblet jug key
        ladder lamp mask mirror necklace plate ring saddle shield spoon statue stool tray vase wheel whistle
    """),
    "building": _words("""
        bakery bath_house bridge chapel corn_hall dairy ferry_house fish_market fountain guildhall hospital library
        lighthouse mill orphanage post_office prison school theatre town_hall watchtower weavers'_hall
    """),
    "garment": _words("""
        belt bonnet cap cape cardigan cloak coat dress gown hat hood jacket jersey nightshirt robe sash scarf shawl
        shirt skirt tunic turban veil waistcoat
    """),
    "crop": _words("""
        barley beans beets cabbages carrots cherries corn flax hops lentils millet mustard oats onions pears peas
        plums potatoes quinces rye turnips wheat
    """),
    "goods": _words("""
        cloth coal coffee cork dates figs glass honey iron lace lemons oil oranges paper pepper rice rope salt sugar
        tar tea timber tin tobacco wax wine wool
    """),
    "instrument": _words("""
        bassoon cello clarinet cornet double_bass flute guitar harp horn lute mandolin oboe organ piano piccolo
        trombone trumpet tuba viola violin zither
    """),
    "work": _words("""
        ballad barcarole cradle_song dance fantasy hymn march mazurka minuet nocturne pastorale polka prelude quartet
        rhapsody rondo scherzo serenade sonata tarantella toccata waltz
    """),
    "role": _words("""
        blacksmith botanist carpenter chemist cook doctor draughtsman geologist guide interpreter map-maker mechanic
        painter photographer pilot porter secretary surveyor treasurer zoologist
    """),
    "tree": _words("""
        beech birch cedar chestnut cypress fir hawthorn hazel hornbeam juniper larch lime_tree magnolia maple
        mulberry pine plane_tree poplar rowan spruce sycamore walnut_tree willow yew
    """),
    "weekday": _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
}
MONTHS = _words("January February March April May June July August September October November December")
COUNTS = _words("two three four five six seven nine ten eleven twelve fourteen fifteen sixteen twenty thirty forty")
UNITS = _words("days weeks months hours")
COINS = _words("crowns florins guineas ducats marks shillings")


class Vocabulary:
    """Draws values for one passage; no value comes twice.

    Surnames, places and ships are two parts each; one pairing in five belongs to the dev set, so
    the two sets share none.

    Args:
        rng (`random.Random`): The only source of chance; it is advanced.
        split (`str`): `"train"` or `"dev"`.
    """

    def __init__(self, rng: random.Random, split: Split):
        self.rng = rng
        self.split = split
        self._used: set[str] = set()
        self._year = rng.randint(1760, 1890)
        self._coin = rng.choice(COINS)

    def draw(self, kind: str) -> str:
        """Return a value of a kind that this passage has not used; years come in ascending order.

        Args:
            kind (`str`): `"hero"` (a person), `"person"`, `"place"`, `"ship"`, `"year"`, `"number"`, `"small"`,
                `"money"`, `"date"`, `"duration"`, `"distance"`, `"minute"` or a key of `CHOICES`.
        """
        value = self._once(kind)
        while _identity(kind, value) in self._used:
            value = self._once(kind)
        self._used.add(_identity(kind, value))
        return value

    def _once(self, kind: str) -> str:
        rng = self.rng
        match kind:
            case "hero" | "person":
                return f"{rng.choice(WOMEN + MEN)} {self._pair(SURNAME_STARTS, SURNAME_ENDS)}"
            case "place":
                return self._pair(PLACE_STARTS, PLACE_ENDS)
            case "ship":
                return self._pair(SHIP_ADJECTIVES, BIRDS, " ")
            case "year":
                self._year += rng.randint(1, 8)
                return str(self._year)
            case "number":
                return str(rng.choice((rng.randint(13, 99), rng.randint(100, 990))))
            case "small":
                return str(rng.randint(5, 78))
            case "money":
                return f"{rng.randint(12, 900)} {self._coin}"
            case "date":
                return f"{rng.randint(1, 28)} {rng.choice(MONTHS)}"
            case "duration":
                return f"{rng.choice(COUNTS)} {rng.choice(UNITS)}"
            case "distance":
                return f"{rng.randint(3, 60)} miles"
            case "minute":
                return str(rng.randint(2, 89))
            case _:
                return rng.choice(CHOICES[kind])

    def _pair(self, starts: tuple[str, ...], ends: tuple[str, ...], joint: str = "") -> str:
        while True:
            i, j = self.rng.randrange(len(starts)), self.rng.randrange(len(ends))
            if ((i + j) % 5 == 0) == (self.split == "dev"):
                return starts[i] + joint + ends[j]


def _identity(kind: str, value: str) -> str:
    # A surname alone has to mean one person.
    return value.split(" ", 1)[1] if kind in ("hero", "person") else value


def pronouns(person: str) -> dict[str, str]:
    """Return the words that can stand for a person: `he`, `him`, `his`, `surname`, by the first name's gender."""
    first, surname = person.split(" ", 1)
    he, him, his = ("she", "her", "her") if first in WOMEN else ("he", "him", "his")
    return {"he": he, "him": him, "his": his, "surname": surname}
