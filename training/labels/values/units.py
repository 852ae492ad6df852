"""Units: what a word or sign beside a number makes of its value.

Comes in: the text before or after a number. Goes out: the units that it may mean, the likeliest first. Usual ones stand
in the table; of others, `pint` is asked (0.3 to 0.6 ms a word, kept; 0.6 s to load, once), and its word counts only to
find two quantities equal: it reads "cats" as hundredths of a technical atmosphere. A word that is neither stays a word:
it is another unit than any other word.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, NamedTuple


class Unit(NamedTuple):
    """A dimension, and how many of its base units one of these is; the empty dimension is a plain count.

    Attributes:
        dimension: such as `length`; `word` for a word that is in no table.
        factor: to the dimension's base.
        word: as written, folded; empty for no unit.
        offset: in base units, for temperatures.
        beside: what else stands beside an amount of money: "each" of "$5 each".
    """

    dimension: str = ""
    factor: Fraction = Fraction(1)
    word: str = ""
    offset: Fraction = Fraction(0)
    beside: str = ""


PLAIN = Unit()
PERCENT, MAGNITUDE, WORD, MONEY = "percent", "magnitude", "word", "money"
ORDINAL, ERA, DECADE = "ordinal", "era", "decade"

_FACTORS: dict[str, dict[str, str]] = {
    PERCENT: {
        "% percent pct prozent pourcent porcento percento procent процентов процента процент per_cent pour_cent"
        " por_ciento por_cento per_cento": "1/100",
        "‰ permille promille": "1/1000",
        "bps bp basis_points basis_point": "1/10000",
    },
    MAGNITUDE: {
        "dozen dozens dutzend douzaine": "12",
        "hundred hundreds hundert cent_fois 百": "100",
        "k thousand thousands tausend tsd mille mil mila tys тыс тысяч 千 천": "1000",
        "万 萬 만 myriad": "10000",
        "lakh lakhs lac lacs": "100000",
        "million millions mio mn mln millionen millones millón milhões milhão milioni milione миллион миллионов млн mm"
        " mill 百万": "1000000",
        "crore crores cr": "10000000",
        "億 亿 억": "100000000",
        "billion billions bn mrd mld milliarde milliarden milliard milliards miliardi miliardo mia bln млрд миллиард"
        " миллиардов": "1000000000",
        "trillion trillions tn trn billionen 兆 조": "1000000000000",
    },
    ORDINAL: {"st nd rd th": "1"},
    ERA: {"bc bce b.c b.c.e v._chr": "-1", "ad ce a.d c.e n._chr": "1"},
    "length": {
        "nm nanometer nanometers nanometre nanometres": "1/1000000000",
        "µm μm um micrometer micrometers micrometre micrometres micron microns": "1/1000000",
        "mm millimeter millimeters millimetre millimetres": "1/1000",
        "cm centimeter centimeters centimetre centimetres zentimeter": "1/100",
        "dm decimeter decimeters decimetre decimetres dezimeter": "1/10",
        "m meter meters metre metres metro metros mètre mètres metri": "1",
        "km kilometer kilometers kilometre kilometres kilómetro kilómetros kilomètre kilomètres quilômetros": "1000",
        "in inch inches zoll": "127/5000",
        "ft foot feet": "381/1250",
        "yd yds yard yards": "1143/1250",
        "mi mile miles meilen": "201168/125",
        "nmi nautical_mile nautical_miles": "1852",
    },
    "area": {
        "cm^2 cm2 sq_cm square_centimeters square_centimetres square_centimeter": "1/10000",
        "m^2 m2 sq_m sqm square_meters square_metres square_meter square_metre quadratmeter": "1",
        "km^2 km2 sq_km square_kilometers square_kilometres": "1000000",
        "ha hectare hectares hektar": "10000",
        "acre acres": "316160658/78125",
        "ft^2 ft2 sq_ft sqft square_feet square_foot": "145161/1562500",
    },
    "mass": {
        "µg μg ug mcg microgram micrograms": "1/1000000000",
        "mg milligram milligrams milligramm": "1/1000000",
        "g gram grams gramm gramme grammes gramos": "1/1000",
        "kg kgs kilogram kilograms kilo kilos kilogramm kilogramme kilogrammes": "1",
        "tonne tonnes metric_ton metric_tons": "1000",
        "oz ounce ounces": "45359237/1600000000",
        "lb lbs pound_mass": "45359237/100000000",
    },
    "time": {
        "ns nanosecond nanoseconds": "1/1000000000",
        "µs μs us microsecond microseconds": "1/1000000",
        "ms millisecond milliseconds millisekunden": "1/1000",
        "s sec secs second seconds sekunde sekunden seconde secondes segundo segundos secondi 秒 초": "1",
        "min mins minute minutes minuten minuto minutos minuti 分 分鐘 分钟 분": "60",
        "h hr hrs hour hours stunde stunden std heure heures hora horas ora ore 時間 小时 小時 시간": "3600",
        "d day days tag tage tagen jour jours día días dias giorno giorni 日 天 日間 일": "86400",
        "wk wks week weeks woche wochen semaine semaines semana semanas settimana settimane 週間 周 週 주": "604800",
        "fortnight fortnights": "1209600",
    },
    "calendar": {
        "mo mos month months monat monate monaten mois mes meses mese mesi か月 ヶ月 個月 个月 개월": "1",
        "quarter_years": "3",
        "y yr yrs year years jahr jahre jahren an ans année années año años ano anos anno anni 年 年間 년": "12",
        "decade decades": "120",
        "century centuries": "1200",
    },
    "volume": {
        "ml milliliter milliliters millilitre millilitres": "1/1000",
        "cl centiliter centiliters centilitre centilitres": "1/100",
        "dl deciliter deciliters decilitre decilitres": "1/10",
        "l liter liters litre litres litro litros": "1",
        "m^3 m3 cubic_meters cubic_metres cubic_meter cubic_metre": "1000",
        "cm^3 cm3 cc cubic_centimeters cubic_centimetres": "1/1000",
    },
    "speed": {
        "m/s meters_per_second metres_per_second": "1",
        "km/h kph kmh km_per_hour kilometers_per_hour kilometres_per_hour": "5/18",
        "mph miles_per_hour mi/h": "1397/3125",
    },
    "energy": {
        "j joule joules": "1", "kj kilojoule kilojoules": "1000", "mj_energy megajoule megajoules": "1000000",
        "cal calorie calories": "523/125", "kcal kilocalorie kilocalories": "4184",
        "wh watt_hour watt_hours": "3600", "kwh kilowatt_hour kilowatt_hours kilowatt-hours": "3600000",
    },
    "frequency": {"hz hertz": "1", "khz kilohertz": "1000", "mhz_ megahertz": "1000000", "ghz gigahertz": "1000000000"},
}  # fmt: skip

_CASED: dict[str, dict[str, str]] = {
    "data": {
        "B byte bytes Bytes": "1", "kB KB kilobyte kilobytes": "1000", "MB megabyte megabytes": "1000000",
        "GB gigabyte gigabytes": "1000000000", "TB terabyte terabytes": "1000000000000",
        "PB petabyte petabytes": "1000000000000000", "KiB kibibytes": "1024", "MiB mebibytes": "1048576",
        "GiB gibibytes": "1073741824", "TiB tebibytes": "1099511627776",
        "bit bits b": "1/8", "kbit kb kilobit kilobits": "125", "Mbit Mb megabit megabits": "125000",
        "Gbit Gb gigabit gigabits": "125000000",
    },
    "data rate": {
        "kbps kbit/s kb/s": "1000", "Mbps Mbit/s Mb/s": "1000000", "Gbps Gbit/s Gb/s": "1000000000",
        "kB/s KB/s kBps KBps": "8000", "MB/s MBps": "8000000", "GB/s GBps": "8000000000",
    },
    "power": {
        "mW milliwatt milliwatts": "1/1000", "W watt watts Watt Watts": "1", "kW KW kilowatt kilowatts": "1000",
        "MW megawatt megawatts": "1000000", "GW gigawatt gigawatts": "1000000000",
    },
    "voltage": {"mV millivolt millivolts": "1/1000", "V volt volts Volt": "1", "kV kilovolt kilovolts": "1000"},
    "current": {"µA": "1/1000000", "mA milliampere milliamperes milliamps": "1/1000", "A ampere amperes amp amps": "1"},
    "resistance": {"Ω ohm ohms Ohm": "1", "kΩ kilohm kilohms kiloohm": "1000", "MΩ megohm megaohm": "1000000"},
    "frequency": {"mHz": "1/1000", "Hz": "1", "kHz": "1000", "MHz": "1000000", "GHz": "1000000000"},
    "energy": {"mJ millijoule": "1/1000", "J": "1", "kJ": "1000", "MJ": "1000000", "GJ": "1000000000", "MWh": "3600000000", "GWh": "3600000000000"},  # noqa: E501
    "force": {"N newton newtons Newton": "1", "kN kilonewton kilonewtons": "1000"},
    "pressure": {"Pa pascal pascals": "1", "hPa mbar millibar": "100", "kPa kilopascal kilopascals": "1000", "bar bars": "100000", "MPa megapascal megapascals": "1000000", "GPa": "1000000000"},  # noqa: E501
    "amount": {"mmol": "1/1000", "mol mole moles": "1", "kmol": "1000"},
    "concentration": {"mM": "1/1000", "µM": "1/1000000"},
    "length": {"Mm": "1000000", "m": "1", "mm": "1/1000"},
    "mass": {"mg": "1/1000000", "Mg": "1000", "g": "1/1000"},
    "time": {"ms": "1/1000", "s": "1"},
    "volume": {"mL": "1/1000", "ml": "1/1000", "L": "1"},
}  # fmt: skip
"""Names in which case tells units apart: `mW` is a billionth of `MW`."""

_MONEY: dict[str, tuple[str, str]] = {
    name: (currency, factor)
    for currency, rows in {
        "usd": {"$ us$ usd dollar dollars buck bucks dólares dollaro dollari": "1", "cent cents ¢": "1/100"},
        "eur": {"€ eur euro euros": "1"},
        "gbp": {"£ gbp quid pounds_sterling pound_sterling": "1", "pence penny": "1/100"},
        "jpy": {"¥ jpy yen 円 엔": "1"},
        "inr": {"₹ rs inr rupee rupees": "1"},
        "chf": {"chf sfr fr franken": "1"},
        "krw": {"₩ krw won 원": "1"},
        "cny": {"cny rmb yuan 元": "1"},
        "rub": {"₽ rub ruble rubles roubles рублей": "1"},
        "cad": {"cad c$ ca$": "1"},
        "aud": {"aud a$ au$": "1"},
        "brl": {"r$ brl reais": "1"},
        "hkd": {"hkd hk$": "1"},
        "nzd": {"nzd nz$": "1"},
        "sgd": {"sgd s$ sg$": "1"},
        "twd": {"twd nt$": "1"},
        "mxn": {"mxn mx$ mex$": "1"},
        "sek": {"sek kr kronor": "1"},
        "pln": {"pln zł złotych": "1"},
    }.items()
    for names, factor in rows.items()
    for name in names.split()
}
DOLLARS = frozenset(f"{MONEY}:{code}" for code in ("usd", "cad", "aud", "hkd", "nzd", "sgd", "twd", "mxn"))
"""Currencies of which each is just `$` where it is the only one."""
BARE_DOLLARS = frozenset({"$", "dollar", "dollars", "buck", "bucks"})
_TEMPERATURES = {
    "c": ("1", "5463/20"), "f": ("5/9", "45967/180"), "k": ("1", "0"),
}  # fmt: skip
_DEGREES = re.compile(
    r"(?:°|º|deg(?:ree)?s?|\^\s*\{?\s*\\?circ\}?|\\?circ|˚)\s*(celsius|fahrenheit|kelvin|[cfk])?\b\.?", re.IGNORECASE
)

UNITS: dict[str, Unit] = {
    name: Unit(dimension, Fraction(factor), name.replace("_", " "))
    for dimension, rows in _FACTORS.items()
    for names, factor in rows.items()
    for name in names.split()
}
"""By name in lower case, spaces as `_`. Names with two usual meanings in one dimension are left out (ton, gallon)."""

CASED: dict[str, Unit] = {
    name: Unit(dimension, Fraction(factor), name)
    for dimension, rows in _CASED.items()
    for names, factor in rows.items()
    for name in names.split()
}
RATIOS: dict[str, frozenset[Fraction]] = {}
for _unit in (*UNITS.values(), *CASED.values()):
    RATIOS[_unit.dimension] = RATIOS.get(_unit.dimension, frozenset()) | {_unit.factor}
_POUND_MASS, _POUND_MONEY = UNITS["lb"], Unit("money:gbp", Fraction(1), "£")
_SPACES = re.compile(r"[\s\u00a0]+")
MAX_CHARS = 40


def money(text: str) -> Unit | None:
    """Return the currency that a sign, a code or a name is; None for none."""
    found = _MONEY.get(text.casefold().strip(" .").replace(" ", "_"))
    return Unit(f"{MONEY}:{found[0]}", Fraction(found[1]), text.casefold()) if found else None


@lru_cache(maxsize=4096)
def units_of(text: str) -> tuple[Unit, ...]:
    """Return what the text beside a number may mean, the likeliest first; empty where it is no unit at all."""
    plain = _SPACES.sub(" ", text.strip(" .,;:()[]").replace("\\", ""))
    if not plain:
        return (PLAIN,)
    if len(plain) > MAX_CHARS:
        return ()
    if found := _CAPITALS.get(plain):
        return found
    if (unit := CASED.get(plain) or CASED.get(plain.replace(" ", "_"))) is not None:
        return (unit,)
    folded = plain.casefold()
    return _AMBIGUOUS.get(folded) or _named(folded, plain) or _unlisted(folded, plain)


_CAPITALS: dict[str, tuple[Unit, ...]] = {
    **dict.fromkeys(["M", "MM", "Mio", "Mn"], (Unit(MAGNITUDE, Fraction(10**6), "million"),)),
    "K": (Unit(MAGNITUDE, Fraction(1000), "thousand"), Unit("temperature", Fraction(1), "k")),
    "B": (Unit(MAGNITUDE, Fraction(10**9), "billion"), CASED["B"]),
    "T": (Unit(MAGNITUDE, Fraction(10**12), "trillion"), UNITS["tonne"]),
    "t": (UNITS["tonne"],),
}
_AMBIGUOUS: dict[str, tuple[Unit, ...]] = {
    "mm": (UNITS["millimeter"],),
    "m": (UNITS["m"], Unit("time", Fraction(60), "min")),
    "pound": (_POUND_MASS, _POUND_MONEY),
    "pounds": (_POUND_MASS, _POUND_MONEY),
}


def _named(folded: str, plain: str) -> tuple[Unit, ...]:
    """Return the unit of the tables, the currency, the temperature or the large amount of money that a name is."""
    if (unit := UNITS.get(folded.replace(" ", "_")) or money(plain)) is not None:
        return (unit,)
    if degrees := _DEGREES.fullmatch(plain):
        return (_temperature(degrees[1]),)
    scaled = _scaled_money(folded)
    return () if scaled is None else (scaled,)


def _unlisted(folded: str, plain: str) -> tuple[Unit, ...]:
    """Return a word of no table as a unit of its own; none where it says more: `12x`, `12 squared`, `12 out of`."""
    words = folded.split()
    if not _OPERATORS.isdisjoint(words) or words[-1] in _JOINING or _NO_UNIT.fullmatch(plain):
        return ()
    is_plain_case = plain == folded or plain.istitle() or plain.isupper()
    return (Unit(WORD, Fraction(1), singular(folded) if is_plain_case else plain),)


_OPERATORS = frozenset(
    ["is", "are", "was", "were", "and", "plus", "minus", "squared", "cubed", "half", "halves", "thirds", "quarters", "fifths", "tenths",  # noqa: E501
     "hundredths", "thousandths", "factorial", "divided"]
)  # fmt: skip
_JOINING = frozenset(
    ["of", "per", "to", "in", "or", "a", "an", "the", "from", "than", "by", "for", "with", "but", "not"]
)
_NO_UNIT = re.compile(r"[A-Za-z\u0370-\u03ff]|.*[^\W\d_]{4} [23]")


def _temperature(scale: str | None) -> Unit:
    if not scale:
        return Unit("degrees", Fraction(1), "degree")
    factor, offset = _TEMPERATURES[scale[0].casefold()]
    return Unit("temperature", Fraction(factor), scale[0].casefold(), Fraction(offset))


def _scaled_money(folded: str) -> Unit | None:
    """Return `million dollars` as money; None for anything else of two words."""
    scale, _, rest = folded.partition(" ")
    rest = rest.removeprefix("of ").removeprefix("de ").removeprefix("us ")
    found = UNITS.get(scale)
    if found is None or found.dimension != MAGNITUDE or not rest:
        return None
    currency = money(rest)
    if currency is not None:
        return currency._replace(factor=found.factor * currency.factor)
    # `2 million people`: the magnitude with its word.
    return Unit(WORD, found.factor, singular(rest))


def singular(word: str) -> str:
    """Return an English word without its plural ending; rough, and the same for both forms."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


@cache
def _registry() -> Any:
    import pint  # noqa: PLC0415  # 0.6 s, for the few who need it

    return pint.UnitRegistry(cache_folder=None)


@lru_cache(maxsize=1024)
def pint_factor(word: str) -> tuple[str, float] | None:
    """Return the dimension and the factor to base units of a unit that only `pint` knows; None where it doesn't."""
    if (
        not re.fullmatch(r"[A-Za-zµμΩ°/*^²³0-9 -]{1,40}", word)
        or word[0].isdigit()
        or "**" in word
        or word.count("^") > 2
    ):
        return None
    try:
        quantity = _registry().Quantity(1, _registry().Unit(word)).to_base_units()
        return str(quantity.dimensionality), float(quantity.magnitude)
    except Exception:  # noqa: BLE001  # pint raises errors of many kinds on words that are no units
        return None
