"""``ropd rejudge``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._screen import Screen, exit_partial
from ropd_cli.cli._stages import dollars, in_words, open_cache, run_clients

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ropd_cli.config import EndpointConfig, RopdConfig
    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.recipes.rejudge import Rejudger
    from ropd_cli.stages.runner import Tally
    from ropd_cli.util.progress import Progress


def rejudge(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory, or the group file of one step.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for verdicts and figures (default: RUN/rejudge/JUDGE).")
    ] = None,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Judge each group so often; from 2 on the flip rate is measured.")
    ] = 1,
    new_rubrics: Annotated[
        bool, typer.Option("--new-rubrics", help="Have the rubrics written anew, by the rubricator.")
    ] = False,
    rubrics: Annotated[
        Path | None, typer.Option("--rubrics", help="Rubrics file in the place of the saved rubrics.")
    ] = None,
    templates: Annotated[Path | None, typer.Option("--templates", help="Folder of your own templates.")] = None,
    step: Annotated[
        str | None, typer.Option("--step", metavar="N|A-B", help="Only groups of this step, or of these.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Judge the first LIMIT groups only.")] = None,
    model: o.Model = None,
    base_url: o.BaseUrl = None,
    api: o.Api = None,
    api_key_env: o.ApiKeyEnv = None,
    temperature: o.Temperature = None,
    top_p: o.TopP = None,
    max_tokens: o.MaxTokens = None,
    reasoning_effort: o.ReasoningEffort = None,
    timeout: o.Timeout = None,
    concurrency: o.Concurrency = None,
    rpm: o.Rpm = None,
    tpm: o.Tpm = None,
    max_cost: o.MaxCost = None,
    max_failed_fraction: o.MaxFailedFraction = None,
    dry_run: o.DryRun = False,
    cache_dir: o.CacheDir = None,
    no_cache: o.NoCache = False,
    config: o.Config = None,
    overrides: o.Set = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Judge the saved groups of a run again, and say how far the judges agree.

    Nothing is generated. The judge is the run's own, from its config.yaml, with what the options change: another
    model, endpoint, template or rubric. The same judge is answered by the cache; --repeats asks it again.

    The same command again goes on where it stopped, and tries failed groups again.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.errors import InputError
        from ropd_cli.llm.urls import model_name
        from ropd_cli.method.prompts import Templates
        from ropd_cli.recipes.rejudge import RejudgeFiles, Rejudger, default_out

        if new_rubrics and rubrics is not None:
            raise InputError("--new-rubrics and --rubrics are two choices", "leave one of them out")
        flags = o.endpoint_flags(
            "verifier",
            model=model,
            base_url=base_url,
            api=api,
            api_key_env=api_key_env,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            reasoning_effort=reasoning_effort,
            timeout=timeout,
            concurrency=concurrency,
            rpm=rpm,
            tpm=tpm,
            max_cost=max_cost,
        )
        flags |= {"judge.templates": str(templates) if templates else None}
        folder = run if run.is_dir() else run.parent.parent
        own = folder / "config.yaml"
        settings = o.load(config or (own if own.is_file() else None), overrides, flags, cache_dir=cache_dir)
        endpoint = settings.verifier.model_copy(update={"model": model_name(settings.verifier, "verifier")})
        texts = Templates.load(settings.judge)
        source = "new" if new_rubrics else "file" if rubrics is not None else "saved"
        if out is None:
            if not run.is_dir():
                raise InputError("a group file has no place of its own for the figures", "say where: --out DIR")
            writer = settings.rubricator
            by = [writer.model, writer.base_url, writer.sampling.model_dump()] if new_rubrics else rubrics or ""
            out = default_out(run, settings.judge, texts, endpoint, f"{source} {by}")
        files = RejudgeFiles(run, out, _steps(step), limit, rubrics)
        _work(
            screen,
            settings,
            endpoint,
            Rejudger(files, settings.judge, texts, repeats, source),
            dry_run=dry_run,
            cached=not no_cache,
            max_failed_fraction=max_failed_fraction,
        )


def _steps(text: str | None) -> range | None:
    from ropd_cli.errors import InputError

    if text is None:
        return None
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise InputError(f"--step {text}: neither a step nor a span of steps", "--step 7, or --step 5-9")
    return range(int(first), int(last if dash else first) + 1)


def _work(
    screen: Screen,
    settings: RopdConfig,
    endpoint: EndpointConfig,
    rejudger: Rejudger,
    *,
    dry_run: bool,
    cached: bool,
    max_failed_fraction: float | None,
) -> None:
    from contextlib import ExitStack

    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.llm.cost_estimate import forecast
    from ropd_cli.llm.shared import Shared
    from ropd_cli.llm.urls import model_name

    files = rejudger.files
    rejudger.count()
    endpoints = [endpoint]
    if rejudger.source == "new":
        writer = settings.rubricator
        endpoints.append(writer.model_copy(update={"model": model_name(writer, "rubricator")}))
    with ExitStack() as stack:
        cache = open_cache(stack, settings, cached)
        if dry_run:
            budget = Shared.of(settings).budget
            found = [forecast(rejudger.pending(endpoint), endpoint, cache, budget)]
            found += [forecast(rejudger.pending_rubrics(each), each, cache, budget) for each in endpoints[1:]]
            lines = [in_words(each, str(at.model)) for each, at in zip(found, endpoints, strict=True)]
            documents = [{"model": at.model} | each.as_dict() for each, at in zip(found, endpoints, strict=True)]
            screen.result({"forecast": documents}, "\n".join(lines))
            return
        files.out.mkdir(parents=True, exist_ok=True)
        stats = [ClientStats() for _ in endpoints]

        async def stage(clients: Sequence[ChatClient], progress: Progress) -> Tally:
            rejudger.rubricator = clients[1] if len(clients) > 1 else None
            return await rejudger.run(clients[0], max_failed_fraction=max_failed_fraction, progress=progress)

        tally = run_clients(screen, settings, endpoints, stats, cache, stage)
    _show(screen, rejudger, tally, ClientStats.total(stats))


def _show(screen: Screen, rejudger: Rejudger, tally: Tally, stats: ClientStats) -> None:
    import orjson
    from rich.console import Group
    from rich.text import Text

    from ropd_cli.analysis.agreement import figures
    from ropd_cli.records.files import failed_path, write_atomic
    from ropd_cli.report.agreement_report import page, terminal

    files, pairs = rejudger.files, rejudger.pairs()
    found = figures(pairs) if pairs else None
    if found is not None:
        write_atomic(files.out / "agreement.json", orjson.dumps(found, option=orjson.OPT_INDENT_2))
        write_atomic(files.out / "agreement.html", page(found, f"{files.path.name}, judged again").encode())
    document = {"out": str(files.out), "done": tally.done, "skipped": tally.skipped, "failed": tally.failed}
    document |= stats.as_dict() | {"agreement": found}
    document["failed_file"] = str(failed_path(files.verdicts)) if tally.failed else None
    calls = f"{stats.requests_sent} requests sent, {stats.cache_hits} answers from the cache"
    if stats.cost_usd:
        calls += f", {dollars(stats.cost_usd)}"
    said = f"{files.out}: {tally.done} judgings written, {tally.skipped} already there ({calls})"
    if tally.failed:
        said += f"; {tally.failed} failed, see {document['failed_file']}"
    if found is None:
        screen.result(document, f"{said}; there is nothing to compare")
    else:
        place = Text(f"page: {files.out / 'agreement.html'}")
        screen.result(document, Group(*terminal(found), Text(said), place))
    exit_partial(tally.failed)
