"""Renderings of values as people and models write them, harmless tails, and pairs of values that differ."""

from __future__ import annotations

CHOICE_PROMPT = "Which gas do plants take up most?\nA) Helium\nB) Carbon dioxide\nC) Argon\nD) Neon"
CLASS_PROMPT = "Classify the message as positive, negative or neutral.\n\nText: it was fine"
EXTRACT_PROMPT = "Return JSON with city and year.\n\nThe fair was in Graz in 1987; the next one in Linz in 1990."

TAILS = (
    "", ".", "\n", " ", "\n\nLet me know if you need more.", "\n\nI hope this helps!", " (as computed above)", "  \n\n", ".\n\nThank you!",  # noqa: E501
    "\n\n---", " \u2705", "!", "\n\nExplanation: this follows from what is given.", ", because that is what follows.", " (rounded as asked).",  # noqa: E501
    "\n\nNote: please check it yourself.", ".\nHope that helps.", "\u200b", "\n\nFeel free to ask more.", "\n\nConfidence: 90 %", " [1]\n\nSources:\n[1] page 44", " (see step 3)", " \u2013 as asked.", "\u00a0", ".\n\nWhy: see the text.",  # noqa: E501
)  # fmt: skip

FRAMES = (
    "{}", "Answer: {}", "**Answer:** {}", "The answer is {}", "The final answer is {}", "**{}**", "Final answer: **{}**", "Antwort: {}", "La r\u00e9ponse est {}",  # noqa: E501
    "La respuesta es {}", "<think>It could be 77777 or Zanzibar.</think>{}", "Let me think. Wait, I made an error.\n\nThe answer is {}", "```\n{}\n```", "ANSWER: {}",  # noqa: E501
    "Answer:\n{}", "#### {}", "\u7b54\u6848\uff1a{}", "The correct answer is: {}", "So the answer is {}", '{{"answer": "{}"}}', "\\boxed{{{}}}", "Final Answer:\n\n**{}**",  # noqa: E501
)  # fmt: skip

NUMBERS: dict[str, tuple[str, ...]] = {
    "1000": ("1000", "1,000", "1 000", "1\u202f000", "1'000", "1\u2019000", "1_000", "1.000", "1000.0", "1000.00", "1e3", "10^3", "10\u00b3", "1 \u00d7 10^3",  # noqa: E501
             "1 \\times 10^{3}", "1k", "1 thousand", "one thousand", "tausend", "+1000", "$1000$", "1{,}000", "1\\,000", "2000/2", "\uff11\uff10\uff10\uff10", "\u0661\u0660\u0660\u0660", "1,000.00"),  # noqa: E501
    "0.5": ("0.5", ".5", "0,5", "1/2", "\u00bd", "\\frac{1}{2}", "\\frac12", "\\dfrac{1}{2}", "50%", "50 %", "50\\%", "one half", "half", "5e-1", "5 \\times 10^{-1}",  # noqa: E501
            "0.50", "2/4", "3/6", "50 percent", "1\u20442", "$\\frac{1}{2}$"),
    "-3": ("-3", "\u22123", "\u20133", "minus 3", "negative 3", "minus three", "- 3", "-3.0", "-6/2", "\u20103", "-\\frac{6}{2}", "(-3)", "$-3$", "x = -3", "-3e0",  # noqa: E501
           "negative three", "-03", "\\boxed{-3}", "-\\sqrt{9}", "3 - 6", "\u20113"),
    "1500000": ("1500000", "1,500,000", "1.5M", "1.5 million", "1.5 Mio.", "1,5 Millionen", "15 lakh", "15,00,000", "1.500.000", "1 500 000", "1'500'000", "1.5e6", "1500k",  # noqa: E501
                "1.5 \u00d7 10\u2076", "0.0015 bn", "1.5 millones", "1,5 millions", "150\u4e07", "1_500_000", "1500 thousand", "one and a half million"),  # noqa: E501
    "1234.5": ("1234.5", "1,234.5", "1.234,5", "1 234,5", "1'234.5", "1234,5", "1234.50", "1,234.50", "2469/2", "1.2345e3", "1.2345 \u00d7 10^3", "1_234.5", "1\u202f234,5", "1234\u00bd",  # noqa: E501
               "1234 1/2", "1.2345k", "12345/10", "+1234.5", "1\\,234.5", "1{,}234.5"),
}  # fmt: skip

VALUES: dict[str, tuple[str, ...]] = {
    "90 minutes": ("90 minutes", "90 min", "90 min.", "1 hour 30 minutes", "1 h 30 min", "1h30m", "1h 30m", "1.5 hours", "1.5 h", "1\u00bd hours", "5400 seconds", "5400 s", "1 hour and 30 minutes",  # noqa: E501
                   "1 hr 30 mins", "one and a half hours", "1,5 Stunden", "90 Minuten", "1 hour, 30 minutes", "ninety minutes", "90-minute", "1:30 h"),  # noqa: E501
    "2 km": ("2 km", "2km", "2000 m", "2,000 m", "2.0 km", "2 kilometers", "2 kilometres", "2000 meters", "200000 cm", "2 Kilometer", "2 KM", "two kilometers", "2\u00a0km", "2 000 m",  # noqa: E501
             "2,000 metres", "\\text{2 km}", "2\\,\\text{km}", "2 000 000 mm", "2e3 m", "1 km 1000 m"),
    "$20": ("$20", "20 dollars", "$20.00", "USD 20", "20 USD", "US$20", "20$", "20.00 dollars", "twenty dollars", "2000 cents", "\\$20", "20 US dollars", "$20.0", "$ 20", "20 dollar", "20 bucks",  # noqa: E501
            "$0.02k", "20,00 $", "20", "20.00"),
    "March 5, 2024": ("March 5, 2024", "5 March 2024", "2024-03-05", "Mar 5, 2024", "March 5th, 2024", "5th of March 2024", "5. M\u00e4rz 2024", "5 mars 2024", "5 de marzo de 2024", "2024/03/05", "05.03.2024",  # noqa: E501
                      "03/05/2024", "05/03/2024", "2024\u5e743\u67085\u65e5", "Tuesday, March 5, 2024", "March 05, 2024", "Mar. 5, 2024", "5 marzo 2024", "the 5th of March, 2024", "MARCH 5, 2024"),  # noqa: E501
    "2:30 pm": ("2:30 pm", "2:30 PM", "14:30", "2:30 p.m.", "14:30:00", "14:30 Uhr", "14h30", "2:30pm", "14.30 Uhr", "02:30 PM", "at 2:30 pm", "2:30 P.M.", "14:30h", "half past two", "14 Uhr 30",  # noqa: E501
                "2.30 pm", "14:30 o'clock", "2:30\u202fpm", "14\uff1a30", "1430"),
    "(0, 1)": ("(0, 1)", "(0,1)", "( 0 , 1 )", "\\left(0, 1\\right)", "$(0,1)$", "(0; 1)", "(0.0, 1.0)", "(0, 1/1)", "\\boxed{(0, 1)}", "(0,\\,1)", "(0 ,1)", "\\( (0, 1) \\)", "(+0, +1)", "(0, one)", "$\\left(0,1\\right)$",  # noqa: E501
               "\\[(0, 1)\\]", "(0,\u00a01)", "\\bigl(0, 1\\bigr)", "0, 1", "(zero, one)", "x=0, y=1"),
    "3, 5, 7": ("3, 5, 7", "3,5,7", "3, 5 and 7", "3, 5, and 7", "[3, 5, 7]", "3; 5; 7", "3\n5\n7", "3, 5 & 7", "- 3\n- 5\n- 7", "3 and 5 and 7", "{3, 5, 7}", "(3, 5, 7)", "3, 5 und 7", "3, 5 et 7", "$3, 5, 7$",  # noqa: E501
                "three, five, seven", "3.0, 5.0, 7.0", "7, 5, 3", "\\{3, 5, 7\\}", "1. 3\n2. 5\n3. 7", "3 , 5 , 7"),
    "3:4": ("3:4", "3 : 4", "3 to 4", "3/4", "3 zu 4", "6:8", "0.75", "three to four", "3\u22364", "\\frac{3}{4}", "3 \u00e0 4", "3-to-4", "3: 4", "75%", "3 :4", "9:12", "3 parts to 4", "(3:4)", "3 for every 4", "3 of 4"),  # noqa: E501
    "2\\sqrt{3}": ("2\\sqrt{3}", "2\\sqrt3", "2\u221a3", "\\sqrt{12}", "\u221a12", "2*sqrt(3)", "2 \\cdot \\sqrt{3}", "$2\\sqrt{3}$", "2 \\sqrt{3}", "sqrt(12)", "\\sqrt{3} \\cdot 2", "2 * 3^{1/2}", "2 \\times \\sqrt{3}", "2\u00b7\u221a3", "2\u22c5\u221a3",  # noqa: E501
                   "\\boxed{2\\sqrt{3}}", "12^{1/2}", "6/\\sqrt{3}", "\\frac{6}{\\sqrt{3}}", "3.4641016151377544", "3.46"),  # noqa: E501
    "x^2+2x+1": ("x^2+2x+1", "x^2 + 2x + 1", "1 + 2x + x^2", "(x+1)^2", "x\u00b2 + 2x + 1", "x^{2}+2x+1", "$x^2+2x+1$", "x^2+2*x+1", "x*x + 2x + 1", "(x+1)(x+1)", "(1+x)^2", "y = x^2+2x+1", "x(x+2)+1", "\\boxed{x^2+2x+1}", "x**2 + 2*x + 1", "x\u00b2+2x+1",  # noqa: E501
                 "x \\cdot x + 2x + 1", "f(x) = x^2+2x+1", "x^2+x+x+1", "\\left(x+1\\right)^2"),
    "25 \u00b0C": ("25 \u00b0C", "25\u00b0C", "25 degrees Celsius", "77 \u00b0F", "298.15 K", "25 degrees C", "25 Celsius", "25", "25.0 \u00b0C", "25 deg C", "25^\\circ C", "25\u2103", "+25 \u00b0C", "25 \u00baC", "twenty-five degrees Celsius", "25 Grad Celsius", "77 degrees Fahrenheit", "25,0 \u00b0C",  # noqa: E501
                 "25\\,^{\\circ}\\mathrm{C}", "25 C"),
}  # fmt: skip

CHOICES = (
    "B", "(B)", "B.", "B)", "**B**", "B) Carbon dioxide", "(B) Carbon dioxide", "Carbon dioxide", "carbon dioxide", "Option B", "option B", "B: Carbon dioxide", "**B) Carbon dioxide**", "B - Carbon dioxide", "The answer is B",  # noqa: E501
    "It is B", "[B]", "Choice B", "CARBON DIOXIDE", "b", "B (Carbon dioxide)", "\\text{B}", "Not A, it's B", "(A) is wrong; B is correct", "A) Helium is too light, so B", "\u24b7",  # noqa: E501
)  # fmt: skip
CLASSES = (
    "positive", "Positive", "POSITIVE", "**positive**", '"positive"', "positive.", "Sentiment: positive", "The sentiment is positive", "Label: Positive", "It is positive", "`positive`", "positiv", "positif", "Class: positive", "positive sentiment",  # noqa: E501
    "not negative but positive", "Clearly positive", "This text is positive", "_positive_", "Positive: the writer is pleased", "good", "\u80af\u5b9a", "positivo",  # noqa: E501
)  # fmt: skip
NAMES = (
    "The Beatles", "Beatles", "the Beatles", "THE BEATLES", "**The Beatles**", '"The Beatles"', "\u201cThe Beatles\u201d", "The Beatles (band)", "It was The Beatles", "The band is The Beatles", "The  Beatles", "`The Beatles`", "The\u00a0Beatles",  # noqa: E501
    "Die Beatles", "Les Beatles", "The Fab Four", "Beatles, The", "the band The Beatles", "The Be\u0430tles", "\u300cThe Beatles\u300d", "The Beatles of Liverpool",  # noqa: E501
)  # fmt: skip
VERDICTS = (
    "False", "false", "FALSE", "**False**", "False.", "It is false", "The statement is false", "The statement is not true", "This is not true", "That's false", '"False"', "false, it is not so", "untrue", "It isn't true", "Not true", "No", "Incorrect",  # noqa: E501
    "falsch", "faux", "The claim is false", "Answer: False", "The answer: false",
)  # fmt: skip
JSONS = (
    '{"city": "Graz", "year": 1987}', '{"year": 1987, "city": "Graz"}', '{"city":"Graz","year":1987}', '{"city": "Graz", "year": 1987.0}', '{\n  "city": "Graz",\n  "year": 1987\n}', '```json\n{"city": "Graz", "year": 1987}\n```',  # noqa: E501
    '```\n{"city": "Graz", "year": 1987}\n```', '~~~json\n{"city": "Graz", "year": 1987}\n~~~', 'Here it is: {"city": "Graz", "year": 1987}', 'Thinking of {x}: {"city": "Graz", "year": 1987}', '{"city": "Graz", "year": "1987"}',  # noqa: E501
    '{"city": "GRAZ", "year": 1987}', "{'city': 'Graz', 'year': 1987}", '{"city": "Graz", "year": 1987,}', "city: Graz\nyear: 1987", '[{"city": "Graz", "year": 1987}]', '{"result": {"city": "Graz", "year": 1987}}', '{"City": "Graz", "Year": 1987}',  # noqa: E501
    '{"city": "Graz ", "year": 1987}', '{"reasoning": "read it", "city": "Graz", "year": 1987}', '```JSON\n{"city": "Graz", "year": 1987}\n```', '{"city": "Graz", "year": 1.987e3}', '```json {"city": "Graz", "year": 1987} ```',  # noqa: E501
    '{"city": "Gra\\u007a", "year": 1987}', "| city | year |\n| --- | --- |\n| Graz | 1987 |", '<think>{"city": "Linz", "year": 1}</think>{"city": "Graz", "year": 1987}',  # noqa: E501
)  # fmt: skip
SPANS = (
    "oak (PLANT)\nred fox (ANIMAL)", "- oak (PLANT)\n- red fox (ANIMAL)", "* oak (PLANT)\n* red fox (ANIMAL)", "1. oak (PLANT)\n2. red fox (ANIMAL)", "red fox (ANIMAL)\noak (PLANT)", '[["oak", "PLANT"], ["red fox", "ANIMAL"]]',  # noqa: E501
    '```json\n[["oak", "PLANT"], ["red fox", "ANIMAL"]]\n```', "oak: PLANT\nred fox: ANIMAL", "oak - PLANT\nred fox - ANIMAL", "oak \u2014 PLANT\nred fox \u2014 ANIMAL", "oak -> PLANT\nred fox -> ANIMAL", "Answer:\noak (PLANT)\nred fox (ANIMAL)",  # noqa: E501
    '[{"text": "oak", "type": "PLANT"}, {"text": "red fox", "type": "ANIMAL"}]', "| oak | PLANT |\n| red fox | ANIMAL |", "**oak** (PLANT)\n**red fox** (ANIMAL)", "oak (plant)\nred fox (animal)", "Oak (PLANT)\nRed fox (ANIMAL)",  # noqa: E501
    "oak (PLANT), red fox (ANIMAL)", "PLANT: oak\nANIMAL: red fox", '{"PLANT": ["oak"], "ANIMAL": ["red fox"]}', "<PLANT>oak</PLANT> <ANIMAL>red fox</ANIMAL>",  # noqa: E501
)  # fmt: skip
MENTIONS = (
    "Er las Faust.", "Er las FAUST.", "Er las **Faust**.", "Er las \u201eFaust\u201c.", "Faust", "Er las Fa\u00adust.", "Er las F a u s t.", "Er las F\u00e1ust.", "Gestern las er Faust, glaube ich.", "Faust!", "faust", "Er las Faust I.", "Er las Faust-Dramen.", "'Faust' las er.",  # noqa: E501
    "Er las *Faust*.", "Er las \u00abFaust\u00bb.", "Faust (Goethe)", "Er las\nFaust.", "Er las `Faust`.", "Er las \uff26\uff41\uff55\uff53\uff54.", "Er hat Faust gelesen.",  # noqa: E501
)  # fmt: skip
CODES = (
    "def add(a, b):\n    return a + b\n", "```python\ndef add(a, b):\n    return a + b\n```", "```py\ndef add(a, b):\n    return a + b\n```", "```Python3\ndef add(a, b):\n    return a + b\n```", "```\ndef add(a, b):\n    return a + b\n```",  # noqa: E501
    "~~~python\ndef add(a, b):\n    return a + b\n~~~", "````python\ndef add(a, b):\n    return a + b\n````", "Here it is:\n\n```python\ndef add(a, b):\n    return a + b\n```", "```bash\npip install numpy\n```\n```python\ndef add(a, b):\n    return a + b\n```",  # noqa: E501
    "```python\ndef add(a, b):\n    return a + b\n```\n```\n3\n```", "```python\ndef add(a, b):\n    return a + b", "  ```python\n  def add(a, b):\n      return a + b\n  ```", '```python title="add.py"\ndef add(a, b):\n    return a + b\n```',  # noqa: E501
    "```python\nadd = lambda a, b: a + b\n```", "Here it is:\n\ndef add(a, b):\n    return a + b", "```python\ndef add(a, b):\n    return a + b\n```\n\nUse it:\n\n```python\nprint(add(int(input()), 2))\n```", "> ```python\n> def add(a, b):\n>     return a + b\n> ```",  # noqa: E501
    "```ipython\ndef add(a, b):\n    return a + b\n```", "```python\r\ndef add(a, b):\r\n    return a + b\r\n```", "<think>def add(a, b): return 0</think>\n```python\ndef add(a, b):\n    return a + b\n```", "1. Write it:\n   ```python\n   def add(a, b):\n       return a + b\n   ```",  # noqa: E501
)  # fmt: skip

DIFFERENT: tuple[tuple[str, str], ...] = (
    ("100 MB", "100 GB"), ("5 years", "5 months"), ("3 kW", "3 MW"), ("3 mW", "3 MW"), ("5 kg", "5 lb"), ("5 m", "5 km"), ("5 m", "5 min"), ("1,000", "1.000,5"), ("3", "-3"), ("3.14", "314"), ("1/2", "1/3"), ("12", "1 2"),  # noqa: E501
    ("0.5", "5%"), ("10^2", "102"), ("10\u00b2", "102"), ("2**3", "23"), ("1 1/2", "11/2"), ("3\u00bd", "31/2"), ("2\\sqrt{3}", "3"), ("2\\sqrt{3}", "2"), ("(0, 1)", "(1, 0)"), ("(0, 1)", "[0, 1]"), ("[0, 1)", "[0, 1]"), ("3, 5, 7", "3, 5"),  # noqa: E501
    ("3, 5, 7", "3, 5, 8"), ("3:4", "4:3"), ("March 5, 2024", "May 3, 2024"), ("2024-03-05", "2024-03-06"), ("March 5, 2024", "March 5, 2023"), ("2:30 pm", "2:30 am"), ("14:30", "4:30"), ("1 h 30 min", "1 h 3 min"), ("90 minutes", "90 hours"),  # noqa: E501
    ("$20", "\u20ac20"), ("$20", "20 cents"), ("$5 million", "$5 billion"), ("5 million", "5"), ("5k", "5"), ("12%", "12"), ("12", "0.12"), ("x^2+1", "x^2-1"), ("x^2", "x^3"), ("x > 5", "x < 5"), ("x \u2265 5", "x > 5"), ("x", "y"), ("sin(x)", "cos(x)"),  # noqa: E501
    ("25 \u00b0C", "25 \u00b0F"), ("positive", "negative"), ("yes", "no"), ("true", "false"), ("true", "not true"), ("Paris", "not Paris"), ("1.5", "15"), ("1,5", "15"), ("\\frac{1}{2}", "\\frac{2}{1}"), ("5!", "5"), ("-5", "5"), ("a_1", "a_2"),  # noqa: E501
    ("5 apples", "5 oranges"), ("5 GB/s", "5 Gb/s"), ("1000", "1000000"), ("two", "three"), ("twelve", "twenty"), ("half", "third"), ("1e3", "1e4"), ("1.2.3", "1.2.4"), ("10-20", "10-30"), ("10-20", "-10"), ("\u22645", "5"), (">5", "5"),  # noqa: E501
    ("5 \u00b1 1", "5"), ("5-6", "5"), ("log(x)", "ln(x)"), ("e", "i"), ("\\pi", "3"), ("{1, 2}", "{1, 3}"), ("H2O", "H2O2"), ("CO2", "CO"), ("Fe2+", "Fe3+"), ("p.m.", "a.m."), ("Monday", "Tuesday"), ("5'11\"", "5'10\""), ("v1.10", "v1.1"),  # noqa: E501
    ("192.168.0.1", "192.168.0.10"), ("USD", "EUR"), ("3 weeks", "3 months"), ("I", "II"), ("12,5", "125"), ("0.1", "0.10001"), ("99.9", "99.99"), ("1:30", "1:3"), ("5th", "6th"), ("2023", "2024"), ("1/2/2024", "2/1/2025"), ("10 cm", "10 cm^2"), ("5 kWh", "5 kW"),  # noqa: E501
)  # fmt: skip
