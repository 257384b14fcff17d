"""Public list prices of well-known models, as the package's ``list_prices.yaml`` has them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from ropd_cli.config.models import PriceConfig
from ropd_cli.config.section import Section
from ropd_cli.util.yaml_text import load_yaml


class ListPrices(Section):
    """Prices by model, the month they are of, where they were published, and the host at which they hold."""

    as_of: str
    source: str
    host: str
    prices: dict[str, PriceConfig]


@cache
def list_prices() -> ListPrices:
    """Read the list."""
    file = Path(__file__).with_name("list_prices.yaml")
    return ListPrices.model_validate(load_yaml(file.read_text(encoding="utf-8")))


def list_price(model: str, base_url: str) -> PriceConfig | None:
    """Return the list price of a model; None where the list lacks it, or for another host than the publisher's, which
    may serve something else under the name."""
    if not base_url.startswith("https://"):
        return None
    listed = list_prices()
    return listed.prices.get(model) if urlsplit(base_url).hostname == listed.host else None
