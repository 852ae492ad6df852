"""Texts of the synthetic sample: templates of our own in five languages.

Goes out: `LANGUAGES`, from which `turnout.training.sample.sample` builds its prompts. Nothing here comes from a data set.
Slots: `{name}`, `{other}`, `{city}`, `{thing}`, `{n}`, `{m}`, `{year}`; tasks add `{text}` and their own.
"""
# ruff: noqa: E501, SIM905  # one sentence a line, one list of words a line

from __future__ import annotations

from dataclasses import dataclass

NAMES = "Ada Bruno Chloe Dimitri Elif Farid Greta Hugo Ines Jonas Keiko Lars Mira Noor Olga Pavel Quinn Rosa Sven Tariq Uma Vera Wanda Xenia Yusuf Zora Amadou Birgit Cosima Darius".split()
CITIES = "Aarhus Bilbao Cork Dresden Evora Fukuoka Ghent Halifax Izmir Jena Kazan Lyon Malmo Nantes Oporto Perth Quito Riga Split Turku Utrecht Varna Windhoek Xalapa York Zadar Bergen Cusco".split()
SYMBOLS = "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr".split()
"""Chemical elements in the order of their atomic number, which is the position counted from 1."""


@dataclass(frozen=True, slots=True)
class Language:
    """The templates of one language.

    Attributes:
        code: ISO 639-1.
        logit: what the language adds to the logit of P(match).
        things: countable nouns, in the plural.
        facts: sentences that passages are made of.
        steps: one step of a sum each, in the order: get, give away, double.
        older: one clue of an ordering puzzle.
        rules: constraints on a piece of code.
        moods: the three classes, positive, negative and mixed.
        praise, blame: sentences that carry a mood.
        call: one order that a tool must carry out.
        prompts: task to its instruction.
    """

    code: str
    logit: float
    things: tuple[str, ...]
    facts: tuple[str, ...]
    steps: tuple[str, str, str]
    older: str
    rules: tuple[str, ...]
    moods: tuple[str, str, str]
    praise: tuple[str, ...]
    blame: tuple[str, ...]
    call: str
    prompts: dict[str, str]


ENGLISH = Language(
    code="en",
    logit=0.0,
    things=(
        "lanterns",
        "barrels",
        "kites",
        "ledgers",
        "pumps",
        "violins",
        "tiles",
        "saddles",
        "maps",
        "ropes",
        "clocks",
        "crates",
    ),
    facts=(
        "In {year} {name} moved from {city} to the coast and opened a workshop for {thing}.",
        "The council of {city} counted {n} {thing} in its cellars, {m} of them broken.",
        "{name} wrote to {other} that the ferry to {city} was late by {n} minutes.",
        "Nobody in {city} remembers who paid for the {n} {thing} delivered in {year}.",
        "According to {other}, the price of {thing} rose by {m} percent within {n} weeks.",
        "{name} and {other} agreed to store {n} {thing} in a barn outside {city}.",
        "A storm in {year} damaged {m} roofs and delayed the fair of {city}.",
        "The museum lent {m} {thing} to {other}, who returned only {n}.",
    ),
    steps=(
        "then {name} adds {n} {thing}",
        "then {name} hands {n} of them to {other}",
        "then {name} doubles what is there",
    ),
    older="{name} arrived before {other}.",
    rules=(
        "reject negative numbers",
        "keep the order of the input",
        "run in linear time",
        "use no third-party package",
        "handle an empty list",
        "write a docstring",
        "return a new object",
        "raise a clear error for None",
    ),
    moods=("positive", "negative", "mixed"),
    praise=(
        "The {thing} from {city} arrived early and work beautifully.",
        "{name} explained everything and threw in {n} spare {thing}.",
    ),
    blame=(
        "After {n} days the {thing} fell apart and {city} never answered.",
        "{name} charged us {m} extra and was rude to {other}.",
    ),
    call="book {n} seats in {city} for {name} on day {m}",
    prompts={
        "classification": "Classify the mood of this review as positive, negative or mixed. Answer with one word.\n\n{text}",
        "extraction": "List all people named below, separated by commas, in order of appearance.\n\n{text}",
        "summarisation": "Summarise the following in {k} sentence(s) for {name} in {city}:\n\n{text}",
        "translation": "Translate into {target}:\n\n{text}",
        "arithmetic": "In {city}, {name} starts with {n} {thing}; {text}. How many {thing} are there in the end?",
        "code": "Write a Python function `{function}` that groups {thing} by {key}. It must: {text}.",
        "reasoning": "{text} Who arrived first at the station of {city}?",
        "factual-qa": "Give the atomic numbers of {text}, in this order, separated by commas.",
        "function-calling": "Please {text}.",
        "json": "Return a JSON object with the keys {keys} from this note:\n\n{text}",
    },
)

GERMAN = Language(
    code="de",
    logit=-0.2,
    things=(
        "Laternen",
        "Fässer",
        "Drachen",
        "Hefte",
        "Pumpen",
        "Geigen",
        "Kacheln",
        "Sättel",
        "Karten",
        "Seile",
        "Uhren",
        "Kisten",
    ),
    facts=(
        "Im Jahr {year} zog {name} von {city} ans Meer und eröffnete eine Werkstatt für {thing}.",
        "Der Rat von {city} zählte {n} {thing} im Keller, davon {m} beschädigt.",
        "{name} schrieb an {other}, dass die Fähre nach {city} {n} Minuten Verspätung hatte.",
        "Niemand in {city} weiß noch, wer {year} die {n} {thing} bezahlt hat.",
        "Laut {other} stieg der Preis für {thing} in {n} Wochen um {m} Prozent.",
        "{name} und {other} lagerten {n} {thing} in einer Scheune bei {city}.",
        "Ein Sturm beschädigte {year} genau {m} Dächer und verzögerte den Markt in {city}.",
    ),
    steps=(
        "dann legt {name} {n} {thing} dazu",
        "dann gibt {name} {n} davon an {other}",
        "dann verdoppelt {name} den Bestand",
    ),
    older="{name} kam vor {other} an.",
    rules=(
        "negative Zahlen ablehnen",
        "die Reihenfolge erhalten",
        "in linearer Zeit laufen",
        "ohne Fremdpakete auskommen",
        "eine leere Liste vertragen",
        "einen Docstring haben",
        "ein neues Objekt liefern",
    ),
    moods=("positiv", "negativ", "gemischt"),
    praise=(
        "Die {thing} aus {city} kamen früh und funktionieren wunderbar.",
        "{name} hat alles erklärt und {n} {thing} dazugelegt.",
    ),
    blame=(
        "Nach {n} Tagen waren die {thing} kaputt und {city} hat nie geantwortet.",
        "{name} verlangte {m} Euro mehr und war unhöflich zu {other}.",
    ),
    call="reserviere {n} Plätze in {city} für {name} am Tag {m}",
    prompts={
        "classification": "Ordne die Stimmung dieser Bewertung ein: positiv, negativ oder gemischt. Antworte mit einem Wort.\n\n{text}",
        "extraction": "Nenne alle Personen im Text in ihrer Reihenfolge, durch Kommas getrennt.\n\n{text}",
        "summarisation": "Fasse den Text in {k} Satz/Sätzen für {name} in {city} zusammen:\n\n{text}",
        "translation": "Übersetze in {target}:\n\n{text}",
        "arithmetic": "In {city} beginnt {name} mit {n} {thing}; {text}. Wie viele {thing} sind es am Ende?",
        "code": "Schreibe eine Python-Funktion `{function}`, die {thing} nach {key} gruppiert. Sie soll: {text}.",
        "reasoning": "{text} Wer kam zuerst am Bahnhof von {city} an?",
        "factual-qa": "Nenne die Ordnungszahlen von {text} in dieser Reihenfolge, durch Kommas getrennt.",
        "function-calling": "Bitte {text}.",
        "json": "Gib ein JSON-Objekt mit den Schlüsseln {keys} aus dieser Notiz zurück:\n\n{text}",
    },
)

FRENCH = Language(
    code="fr",
    logit=-0.2,
    things=(
        "lanternes",
        "barils",
        "cerfs-volants",
        "registres",
        "pompes",
        "violons",
        "carreaux",
        "selles",
        "cartes",
        "cordes",
        "horloges",
        "caisses",
    ),
    facts=(
        "En {year}, {name} a quitté {city} pour la côte et ouvert un atelier de {thing}.",
        "La mairie de {city} a compté {n} {thing} dans ses caves, dont {m} cassés.",
        "{name} a écrit à {other} que le bac pour {city} avait {n} minutes de retard.",
        "Personne à {city} ne sait qui a payé les {n} {thing} livrés en {year}.",
        "Selon {other}, le prix des {thing} a monté de {m} pour cent en {n} semaines.",
        "{name} et {other} gardent {n} {thing} dans une grange près de {city}.",
        "Une tempête a abîmé {m} toits en {year} et retardé la foire de {city}.",
    ),
    steps=("puis {name} ajoute {n} {thing}", "puis {name} en donne {n} à {other}", "puis {name} double le total"),
    older="{name} est arrivé avant {other}.",
    rules=(
        "refuser les nombres négatifs",
        "garder l'ordre",
        "tourner en temps linéaire",
        "se passer de paquet tiers",
        "accepter une liste vide",
        "avoir une docstring",
        "rendre un nouvel objet",
    ),
    moods=("positif", "négatif", "mitigé"),
    praise=(
        "Les {thing} de {city} sont arrivés tôt et marchent à merveille.",
        "{name} a tout expliqué et offert {n} {thing}.",
    ),
    blame=(
        "Après {n} jours les {thing} étaient en morceaux et {city} n'a jamais répondu.",
        "{name} a pris {m} euros de trop et parlé mal à {other}.",
    ),
    call="réserve {n} places à {city} pour {name} le jour {m}",
    prompts={
        "classification": "Classe le ton de cet avis : positif, négatif ou mitigé. Réponds en un mot.\n\n{text}",
        "extraction": "Cite toutes les personnes du texte dans l'ordre, séparées par des virgules.\n\n{text}",
        "summarisation": "Résume ce texte en {k} phrase(s) pour {name} à {city} :\n\n{text}",
        "translation": "Traduis en {target} :\n\n{text}",
        "arithmetic": "À {city}, {name} commence avec {n} {thing} ; {text}. Combien de {thing} y a-t-il à la fin ?",
        "code": "Écris une fonction Python `{function}` qui regroupe des {thing} par {key}. Elle doit : {text}.",
        "reasoning": "{text} Qui est arrivé en premier à la gare de {city} ?",
        "factual-qa": "Donne les numéros atomiques de {text}, dans cet ordre, séparés par des virgules.",
        "function-calling": "S'il te plaît, {text}.",
        "json": "Rends un objet JSON avec les clés {keys} à partir de cette note :\n\n{text}",
    },
)

SPANISH = Language(
    code="es",
    logit=-0.2,
    things=(
        "faroles",
        "barriles",
        "cometas",
        "libros",
        "bombas",
        "violines",
        "azulejos",
        "sillas",
        "mapas",
        "cuerdas",
        "relojes",
        "cajas",
    ),
    facts=(
        "En {year} {name} se mudó de {city} a la costa y abrió un taller de {thing}.",
        "El ayuntamiento de {city} contó {n} {thing} en el sótano, {m} en mal estado.",
        "{name} escribió a {other} que el barco a {city} llegó {n} minutos tarde.",
        "Nadie en {city} recuerda quién pagó {n} {thing} en {year}.",
        "Según {other}, el precio de {thing} subió un {m} por ciento en {n} semanas.",
        "{name} y {other} guardan {n} {thing} en un granero cerca de {city}.",
        "Una tormenta dañó {m} tejados en {year} y retrasó la feria de {city}.",
    ),
    steps=("luego {name} añade {n} {thing}", "luego {name} da {n} a {other}", "luego {name} duplica lo que hay"),
    older="{name} llegó antes que {other}.",
    rules=(
        "rechazar números negativos",
        "mantener el orden",
        "tardar un tiempo lineal",
        "no usar paquetes ajenos",
        "admitir una lista vacía",
        "llevar docstring",
        "devolver un objeto nuevo",
    ),
    moods=("positivo", "negativo", "mixto"),
    praise=(
        "Los {thing} de {city} llegaron pronto y van de maravilla.",
        "{name} lo explicó todo y regaló {n} {thing}.",
    ),
    blame=(
        "A los {n} días los {thing} se rompieron y {city} nunca contestó.",
        "{name} cobró {m} euros de más y trató mal a {other}.",
    ),
    call="reserva {n} plazas en {city} para {name} el día {m}",
    prompts={
        "classification": "Clasifica el tono de esta reseña: positivo, negativo o mixto. Responde con una palabra.\n\n{text}",
        "extraction": "Enumera las personas del texto en orden, separadas por comas.\n\n{text}",
        "summarisation": "Resume el texto en {k} frase(s) para {name} en {city}:\n\n{text}",
        "translation": "Traduce al {target}:\n\n{text}",
        "arithmetic": "En {city}, {name} empieza con {n} {thing}; {text}. ¿Cuántos {thing} hay al final?",
        "code": "Escribe una función de Python `{function}` que agrupe {thing} por {key}. Debe: {text}.",
        "reasoning": "{text} ¿Quién llegó primero a la estación de {city}?",
        "factual-qa": "Da los números atómicos de {text}, en este orden, separados por comas.",
        "function-calling": "Por favor, {text}.",
        "json": "Devuelve un objeto JSON con las claves {keys} a partir de esta nota:\n\n{text}",
    },
)

JAPANESE = Language(
    code="ja",
    logit=-0.6,
    things=("提灯", "樽", "凧", "帳簿", "ポンプ", "バイオリン", "タイル", "鞍", "地図", "縄", "時計", "木箱"),
    facts=(
        "{year}年、{name}は{city}から海辺へ移り、{thing}の工房を開いた。",
        "{city}の役場は地下に{thing}を{n}個数え、そのうち{m}個が壊れていた。",
        "{name}は{other}に、{city}行きの船が{n}分遅れたと書いた。",
        "{year}年に届いた{n}個の{thing}の代金を誰が払ったか、{city}では誰も覚えていない。",
        "{other}によると、{thing}の値段は{n}週間で{m}パーセント上がった。",
        "{name}と{other}は{city}近くの納屋に{thing}を{n}個しまった。",
        "{year}年の嵐で屋根が{m}枚壊れ、{city}の市が遅れた。",
    ),
    steps=("次に{name}が{thing}を{n}個足し", "次に{name}が{other}に{n}個渡し", "次に{name}が数を二倍にし"),
    older="{name}は{other}より先に着いた。",
    rules=(
        "負の数を拒む",
        "順序を保つ",
        "線形時間で動く",
        "外部パッケージを使わない",
        "空のリストを扱う",
        "docstringを付ける",
        "新しいオブジェクトを返す",
    ),
    moods=("肯定的", "否定的", "中立的"),
    praise=("{city}の{thing}は早く届き、とても良い。", "{name}は全部説明し、{thing}を{n}個おまけしてくれた。"),
    blame=("{n}日で{thing}が壊れ、{city}からは返事がない。", "{name}は{m}円多く取り、{other}に失礼だった。"),
    call="{m}日目に{name}の名前で{city}の席を{n}つ予約して",
    prompts={
        "classification": "次のレビューの調子を、肯定的・否定的・中立的のどれか一語で答えてください。\n\n{text}",
        "extraction": "次の文に出る人名を出た順にコンマで区切って挙げてください。\n\n{text}",
        "summarisation": "次の文を{city}の{name}のために{k}文で要約してください。\n\n{text}",
        "translation": "次の文を{target}に訳してください。\n\n{text}",
        "arithmetic": "{city}で{name}は{thing}を{n}個持っています。{text}ました。最後に{thing}は何個ですか。",
        "code": "{thing}を{key}ごとにまとめるPython関数`{function}`を書いてください。条件: {text}。",
        "reasoning": "{text}{city}の駅に最初に着いたのは誰ですか。",
        "factual-qa": "{text}の原子番号をこの順にコンマで区切って答えてください。",
        "function-calling": "{text}ください。",
        "json": "次のメモから、キー {keys} を持つJSONオブジェクトを返してください。\n\n{text}",
    },
)

LANGUAGES = (ENGLISH, GERMAN, FRENCH, SPANISH, JAPANESE)
