"""`turnout prices`: which prices hold here, and whether a list of your own can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.table import Table

from turnout.serving.cli.options import AsJson, say
from turnout.serving.cli.tables import console
from turnout.serving.decision.prices import PRICES, Price, load_prices, read_prices, shown

Models = Annotated[tuple[str, ...], Parameter(help="Models as requests name them; all that are known when none is.")]


class Shown(msgspec.Struct, frozen=True):
    """A price in USD per million tokens, and whether it is from the operator's own list."""

    price: Price
    is_own: bool


def show(*models: str, as_json: AsJson = False) -> None:
    """Show the prices that hold: the shipped list, and above it the one of --prices or TURNOUT_PRICES.

    Args:
        models: As requests name them; without any: all that are known.
    """
    known = load_prices()
    asked = {known.price(model).model for model in models}
    found = [Shown(one, one.model in known.own) for one in known.prices if not models or one.model in asked]
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    table = Table("model", "since", "input", "cached input", "output", "batch: input", "output", "from")
    for one in sorted(found, key=lambda one: (one.price.model, one.price.since)):
        table.add_row(*_cells(one))
    console().print(table)
    print("USD per million tokens; '=' where cached input costs as much as other input, '-' where nothing is known")


def check(file: Path, /, *, as_json: AsJson = False) -> None:
    """Check a price list of your own, TOML or LiteLLM's map as JSON, and say what it would replace.

    Args:
        file: The list.
    """
    own, shipped = read_prices(file), read_prices(PRICES)
    models = sorted({price.model for price in own.prices})
    replaced = sorted({price.model for price in shipped.prices} & set(models))
    kept = sorted({price.model for price in shipped.prices} - set(models))
    told = (
        f"; they replace the shipped ones of {shown(replaced)}" if replaced else "; none of them is in the shipped list"
    )
    say(
        f"{file}: {len(own.prices)} prices of {len(models)} models; {told}. Use it by --prices {file}",
        {"file": file, "prices": len(own.prices), "models": len(models), "replaces": replaced, "keeps": kept},
        as_json=as_json,
    )


def _cells(one: Shown) -> tuple[str, ...]:
    price = one.price
    cached = "=" if price.cached_input is None else f"{price.cached_input:g}"
    since = "always" if price.since.year == 1 else str(price.since)
    batch = ("-" if amount is None else f"{amount:g}" for amount in (price.batch_input, price.batch_output))
    return (
        price.model,
        since,
        f"{price.input:g}",
        cached,
        f"{price.output:g}",
        *batch,
        "yours" if one.is_own else "ours",
    )
