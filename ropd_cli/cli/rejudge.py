"""``ropd rejudge``."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typing_extensions import TypedDict

from ropd_cli.analysis.agreement_document import Agreement
from ropd_cli.cli._options import EndpointOptions, RequestOptions, TemplatesFolder, command
from ropd_cli.cli._screen import Screen, exit_partial
from ropd_cli.cli._stages import (
    JudgingDone,
    calls_words,
    closing_lines,
    figures_of,
    in_words,
    open_cache,
    run_clients,
    with_model,
)
from ropd_cli.errors import InputError
from ropd_cli.llm.cost_estimate import Forecast, forecast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ropd_cli.config import EndpointConfig
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.recipes.rejudge import Rejudger
    from ropd_cli.stages.runner import Tally
    from ropd_cli.util.progress import Progress


@dataclass(kw_only=True)
class Rejudged(JudgingDone):
    """Judgings of groups, and how far they agree with the saved ones."""

    agreement: Agreement | None
    """Null where nothing can be compared."""


class Forecasts(TypedDict):
    """With ``--dry-run``: of the verifier, and with ``--new-rubrics`` of the rubricator."""

    forecast: list[Forecast]


@command
def rejudge(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory, or the group file of one step.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for verdicts and figures.", show_default="RUN/rejudge/JUDGE"),
    ] = None,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Judgings per group; 2 or more measure the flip rate.")
    ] = 1,
    new_rubrics: Annotated[bool, typer.Option("--new-rubrics", help="Have the rubricator write new rubrics.")] = False,
    rubrics: Annotated[
        Path | None, typer.Option("--rubrics", help="Rubrics file to use instead of the saved rubrics.")
    ] = None,
    templates: TemplatesFolder = None,
    step: Annotated[
        str | None, typer.Option("--step", metavar="N|A-B", help="Only groups of this step, or of these steps.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Judge the first LIMIT groups only.")] = None,
    trust: Annotated[
        bool,
        typer.Option("--trust-run-config", help="Send keys to the URLs that the run's config.yaml names."),
    ] = False,
    *,
    endpoint: EndpointOptions,
    requests: RequestOptions,
    screen: Screen,
) -> None:
    """Judge the saved groups of a run again, and measure how far the judges agree.

    Nothing is generated. The judge is that of the run's config.yaml, with what the options change: another model,
    endpoint, template or rubric. The cache answers for an unchanged judge; --repeats asks it again.

    The same command again continues where it stopped, and tries failed groups again.

    The run may be somebody else's: --trust-run-config is needed if one of your keys would be sent to an endpoint that
    only its config.yaml names.
    """
    from ropd_cli.analysis.group_files import step_files
    from ropd_cli.cli._stages import check_key
    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.llm.shared import Shared
    from ropd_cli.method.prompts import Templates
    from ropd_cli.recipes.rejudge import RejudgeFiles, Rejudger, RubricSource, default_out
    from ropd_cli.records.outputs import sole_writer
    from ropd_cli.stages.rubricator import Rubricator
    from ropd_cli.stages.verifier import Verifier

    if new_rubrics and rubrics is not None:
        raise InputError("--new-rubrics and --rubrics are two choices", "leave one of them out")
    if not run.exists():
        raise InputError(f"{run}: no such run directory", "give the --out of ropd train, or DIR/run of a quickstart")
    if run.is_dir():
        step_files(run)
    own = (run if run.is_dir() else run.parent.parent) / "config.yaml"
    flags = endpoint.flags("verifier") | {"judge.templates": str(templates) if templates else None}
    settings = requests.load(flags)
    if not requests.config and own.is_file():
        mine, settings = settings, replace(requests, config=[own]).load(flags)
        if not (trust or requests.dry_run):
            for section in ("verifier", "rubricator") if new_rubrics else ("verifier",):
                _check_trust(own, getattr(settings, section), getattr(mine, section))
    if new_rubrics and settings.judge.rubrics != "induced":
        raise InputError(
            f"--new-rubrics: judge.rubrics is {settings.judge.rubrics}, and a run's groups do not hold the rubrics "
            "that their prompts bring",
            "--set judge.rubrics=induced has the rubricator write all of them; without --new-rubrics the saved ones "
            "are used",
        )
    judge = with_model(settings.verifier, "verifier")
    texts = Templates.load(settings.judge)
    source: RubricSource = "new" if new_rubrics else "file" if rubrics is not None else "saved"
    if out is None:
        if not run.is_dir():
            raise InputError("the figures of a group file need an output directory", "give --out DIR")
        writer = settings.rubricator
        by = [writer.model, writer.base_url, writer.sampling.model_dump()] if new_rubrics else rubrics or ""
        out = default_out(run, settings.judge, texts, judge, f"{source} {by}")
    files = RejudgeFiles(run, out, _steps(step), limit, rubrics)
    rejudger = Rejudger(files, Verifier(judge, settings.judge, texts), repeats, source)
    if new_rubrics:
        rejudger.rubricator = Rubricator(with_model(settings.rubricator, "rubricator"), settings.judge, texts)
    rejudger.count()
    endpoints = [judge]
    if rejudger.rubricator is not None:
        endpoints.append(rejudger.rubricator.endpoint)
    with ExitStack() as stack:
        cache = open_cache(stack, settings, not requests.no_cache)
        if requests.dry_run:
            budget = Shared.of(settings).budget
            pending = [rejudger.pending(), rejudger.pending_rubrics()]
            estimates = [forecast(each, at, cache, budget) for each, at in zip(pending, endpoints, strict=False)]
            screen.result(Forecasts(forecast=estimates), "\n".join(map(in_words, estimates)))
            return
        for at, asked in zip(endpoints, (rejudger.pending(), rejudger.pending_rubrics()), strict=False):
            check_key(at, asked, cache)
        stack.enter_context(sole_writer(out, directory=True))
        stats = [ClientStats() for _ in endpoints]

        async def stage(clients: Sequence[ChatClient], progress: Progress) -> Tally:
            rejudger.verifier = Verifier(clients[0], settings.judge, texts)
            if new_rubrics:
                rejudger.rubricator = Rubricator(clients[1], settings.judge, texts)
            return await rejudger.run(max_failed_fraction=requests.max_failed_fraction, progress=progress)

        tally = run_clients(screen, settings, endpoints, stats, cache, stage)
        _show(screen, rejudger, tally, ClientStats.total(stats).as_dict())


def _check_trust(config: Path, endpoint: EndpointConfig, mine: EndpointConfig) -> None:
    """Raise InputError where variables of the environment would go to where a run's configuration says; ``mine`` is the
    endpoint without it."""
    from ropd_cli.config.masking import shown_url
    from ropd_cli.llm.api_key import variables_sent
    from ropd_cli.llm.urls import base_url

    names = ("api", "base_url", "api_key_env", "headers")
    sent = variables_sent(endpoint, os.environ)
    if sent and any(getattr(endpoint, name) != getattr(mine, name) for name in names):
        raise InputError(
            f"{config}: the environment variable {' and '.join(sent)} would be sent to {shown_url(base_url(endpoint))}",
            "if the run is yours, --trust-run-config; else name the endpoint: --config FILE, or --base-url and "
            "--api-key-env",
        )


def _steps(text: str | None) -> range | None:
    """Return the steps of ``--step``. Raises InputError for another form than N or A-B."""
    if text is None:
        return None
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise InputError(f"--step {text}: neither a step nor a span of steps", "--step 7, or --step 5-9")
    return range(int(first), int(last if dash else first) + 1)


def _show(screen: Screen, rejudger: Rejudger, tally: Tally, stats: dict[str, Any]) -> None:
    """Write the figures of agreement and print them."""
    import orjson
    from rich.console import Group

    from ropd_cli.analysis.agreement import figures
    from ropd_cli.method.scoring import group_stats
    from ropd_cli.records.files import failed_path, write_atomic
    from ropd_cli.report.agreement_report import page, terminal
    from ropd_cli.util.visible_text import print_out

    files, pairs = rejudger.files, rejudger.pairs()
    agreement = figures(pairs) if pairs else None
    if agreement is not None:
        write_atomic(files.out / "agreement.json", orjson.dumps(agreement, option=orjson.OPT_INDENT_2))
        write_atomic(files.out / "agreement.html", page(agreement, f"{files.path.name}, judged again"))
    document = {"out": str(files.out), "done": tally.done, "skipped": tally.skipped, "failed": tally.failed}
    judged = [pair.second for pair in pairs]  # what the table is of: the file may hold more groups
    found = figures_of(group_stats(each.rewards, each.teacher_scores, shaped_G=each.shaped) for each in judged)
    document |= stats | found | {"agreement": agreement}
    document["failed_file"] = str(failed_path(files.verdicts)) if tally.failed else None
    sentence = f"{files.out}: {tally.done} judgings written, {tally.skipped} already there ({calls_words(stats)})"
    if tally.failed:
        sentence += f"; {tally.failed} failed, see {document['failed_file']}"
    sentence = "\n".join([sentence, *closing_lines(found, ("ropd", "inspect-rubrics", files.verdicts))])
    if agreement is None:
        screen.result(document, f"{sentence}\nthere is nothing to compare")
    else:
        screen.result(document, Group(*terminal(agreement)))
        if not screen.json:
            print_out(f"{sentence}\npage: {files.out / 'agreement.html'}")
    exit_partial(tally.failed)
