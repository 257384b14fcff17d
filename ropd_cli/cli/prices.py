"""``ropd prices``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from typing_extensions import TypedDict

from ropd_cli.cli._options import ConfigOptions, command
from ropd_cli.cli._screen import Screen
from ropd_cli.config.models import PriceConfig


class Price(PriceConfig):
    """A model's price, in dollars per million tokens; ``cached_input`` is null where it is that of ``input``."""

    model: str
    origin: Literal["configuration", "list"] = Field(serialization_alias="from")


class Prices(TypedDict):
    """Prices of the configuration, and of the list."""

    as_of: str
    """Month of the list."""
    source: str
    """Where it was published."""
    host: str
    """Where its prices count."""
    prices: list[Price]


@command
def prices(*, options: ConfigOptions, screen: Screen) -> None:
    """Show the prices that forecasts and limits go by, in dollars per million tokens.

    Prices of the configuration (the key prices) go before those of the list.

    The list has public prices with their date. They count at the publisher's own host only.
    """
    from rich.console import Group
    from rich.table import Table

    from ropd_cli.llm.list_prices import list_prices
    from ropd_cli.util.terminal import Text

    own, listed = options.load().prices, list_prices()
    rows = [
        {"model": model, **price.model_dump(), "from": "configuration" if model in own else "list"}
        for model, price in {**own, **{name: one for name, one in listed.prices.items() if name not in own}}.items()
    ]
    table = Table(box=None, pad_edge=False)
    for name in ("model", "input", "cached_input", "output", "from"):
        table.add_column(name.replace("_", " "), justify="left" if name in ("model", "from") else "right")
    for row in rows:
        cached = row["input"] if row["cached_input"] is None else row["cached_input"]
        table.add_row(
            Text(row["model"]), *(f"{value:g}" for value in (row["input"], cached, row["output"])), row["from"]
        )
    document = {"as_of": listed.as_of, "source": listed.source, "host": listed.host, "prices": rows}
    line = f"list of {listed.as_of}, {listed.source}; it counts at {listed.host}. Prices change: check them."
    screen.result(document, Group(table, Text(line)))
