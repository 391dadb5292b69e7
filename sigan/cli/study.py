"""`sigan study`: the blind preference study, from folders of pictures to a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sigan.cli import options, render
from sigan.errors import ConfigError, InputError

if TYPE_CHECKING:
    from sigan.study.tally import Tally

app = typer.Typer()
Study = Annotated[Path, typer.Argument(metavar="STUDY", help="The folder that `sigan study build` made.")]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="study", help="The blind preference study: build, serve, tally.")


@app.command()
def build(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The study's folder, to be made.")],
    methods: Annotated[list[str], typer.Argument(metavar="METHOD=DIR...", help="Each method's folder of results.")],
    inputs: Annotated[Path | None, typer.Option(
        "--inputs", metavar="DIR", help="The photographs they came from, shown above each pair.")] = None,
    references: Annotated[Path | None, typer.Option(
        "--references", metavar="DIR", help="Examples of the style, shown above each pair.")] = None,
    trials: Annotated[int, typer.Option("--trials", metavar="N", help="Pairs that each participant sees.")] = 30,
    checks: Annotated[int, typer.Option(
        "--checks", metavar="N", help="Attention checks besides: a result beside itself in shuffled tiles.")] = 4,
    photographs: Annotated[int, typer.Option(
        "--photographs", metavar="N", help="Draw so many of the photographs in common; 0 takes all.")] = 0,
    size: Annotated[int, typer.Option("--size", metavar="PX", help="Longest side of a picture, at most.")] = 512,
    format: Annotated[str, typer.Option(
        "--format", metavar="png|jpeg|webp", help="How pictures are kept: png loses nothing, webp is small.")] = "png",
    invitations: Annotated[int, typer.Option(
        "--invitations", metavar="N", help="Write N invitations: the server admits each once, and nobody else.")] = 0,
    texts: Annotated[Path | None, typer.Option(
        "--texts", metavar="FILE.json", help="Your own title, intro, question, consent, in en and zh.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Fixes who sees what; drawn anew when left out.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a study that has no votes yet.")] = False,
    json: options.Json = False,
) -> None:
    """Makes a blind preference study of several methods.

    Pictures of one name are compared. OUT/page.html is a page that needs no server and hands back a vote file;
    `sigan study serve OUT` serves the same page and collects the votes. Keep OUT/study.json to yourself: it alone says
    which method drew what.
    """
    folders: dict[str, Path] = {}
    for word in methods:
        name, sign, folder = word.partition("=")
        if not sign or not folder:
            raise ConfigError(f"{word!r} is not METHOD=DIR", "for example: ours=results/ours")
        if name in folders:
            raise ConfigError(f"the method {name} is given twice", "name each method once")
        folders[name] = Path(folder)

    from sigan.study.build import BuildConfig, read_texts
    from sigan.study.build import build as make

    config = BuildConfig(trials=trials, checks=checks, photographs=photographs, size=size, format=format,
                         invitations=invitations, seed=seed, texts=read_texts(texts) if texts else {})
    built = make(out, folders, inputs=inputs, references=references, config=config, overwrite=overwrite)
    study = built.study
    names = sorted({study.names[picture] for picture in study.drawn_by})
    for failure in built.failures:
        render.error(failure.message, failure.hint)
    if json:
        render.data({"study": study.hash, "folder": built.folder, "methods": study.methods, "pictures": names,
                     "pairs": len(study.pairs) - study.checks, "sheets": len(study.sheets),
                     "questions": study.length, "checks": study.checks, "seed": study.seed,
                     "invitations": len(study.invitations), "page_bytes": built.page_bytes,
                     "missing": built.missing, "failures": built.failures, "notes": built.notes})
    else:
        for side, lacking in built.missing.items():
            more = ", ..." if len(lacking) > 5 else ""
            render.note(f"left out, since {side} lacks them: {len(lacking)} ({', '.join(lacking[:5])}{more})")
        for text in built.notes:
            render.note(f"note: {text}")
        render.table(str(out), ("", ""), [
            ("methods", ", ".join(study.methods)), ("photographs", len(names)),
            ("pairs", len(study.pairs) - study.checks),
            ("questions for each", f"{study.length}, of which {study.checks} attention checks"),
            ("sheets", len(study.sheets)), ("seed", study.seed),
            ("page.html", f"{built.page_bytes / 1e6:.1f} MB, for participants without a server")])
        render.note(f"next: sigan study serve {out}, or hand out {out / 'page.html'}; then sigan study tally {out}")
    raise typer.Exit(InputError.exit_code if built.failures else 0)


@app.command()
def serve(
    study: Study,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; 0.0.0.0 is everywhere.")]
    = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", help="0 takes any that is free.")] = 8000,
    joins: Annotated[float, typer.Option(
        "--joins", metavar="N", help="Participants that one address may start in an hour.")] = 60,
    behind_proxy: Annotated[bool, typer.Option(
        "--behind-proxy", help="A proxy of yours adds X-Forwarded-For: count rates by that.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Serves the study's page and collects the votes, until interrupted.

    An answer that the page was told is saved is on the disk, in STUDY/votes.sqlite, whatever kills the server.
    """
    from sigan.study.server import Limits, StudyServer

    if not joins > 0:
        raise ConfigError(f"joins is {joins}; it must be above 0")
    if not 0 <= port <= 65535:
        raise ConfigError(f"port is {port}; it must lie in 0 to 65535")
    with StudyServer(study, host, port, limits=Limits(joins_an_hour=joins), behind_proxy=behind_proxy) as server:
        if json:
            render.data({"url": server.url, "study": server.study.hash, "invitations": server.study.invitations})
        else:
            render.note(f"serving {study} on {server.url}; Ctrl-C stops it", quiet)
            if server.study.invitations:
                render.note(f"a participant's link is {server.url}#INVITATION, from {study / 'invitations.txt'}", quiet)
            if host not in ("127.0.0.1", "::1", "localhost"):
                render.note("note: no TLS here; beyond a network you trust, put a proxy in front that has it", quiet)
        try:
            server.serve_forever(poll_interval=0.2)
        finally:
            turned = ", ".join(f"{count} {reason}" for reason, count in server.refused.most_common())
            render.note(f"{server.accepted} answers saved; turned away: {turned or 'nothing'}", quiet)


@app.command()
def tally(
    paths: Annotated[list[Path], typer.Argument(
        metavar="STUDY [VOTES]...", help="The study's folder; vote files, or folders of them, are counted besides.")],
    max_failed: Annotated[int, typer.Option(
        "--max-failed", metavar="N", help="Attention checks a participant may fail; a tie is a failure.")] = 0,
    min_seconds: Annotated[float, typer.Option(
        "--min-seconds", metavar="S", help="A participant's median time for an answer, at least.")] = 0.8,
    min_share: Annotated[float, typer.Option(
        "--min-share", metavar="0..1", help="Share of the questions answered, at least.")] = 0.5,
    practised: Annotated[str, typer.Option(
        "--practised", metavar="yes|no|unsaid", help="Only participants who said so of their drawing.")] = "",
    resamples: Annotated[int, typer.Option(
        "--resamples", metavar="N", help="Bootstrap draws of participants, for the intervals.")] = 2000,
    confidence: Annotated[float, typer.Option("--confidence", metavar="0..1", help="Of the intervals.")] = 0.95,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Counts the votes: preferences with intervals, and a Bradley–Terry ranking.

    A tie counts half in a preference, and has its own parameter in the ranking (Davidson 1970). Participants are left
    out by the rules below, and it is told how many by which. The exit code is 3 when a vote file was refused.
    """
    from sigan.study.tally import TallyConfig
    from sigan.study.tally import tally as count

    result = count(paths, TallyConfig(max_failed=max_failed, min_seconds=min_seconds, min_share=min_share,
                                      practised=practised, resamples=resamples, confidence=confidence, seed=seed))
    if json:
        render.data(result)
    else:
        _show(result)
    raise typer.Exit(InputError.exit_code if result.refused else 0)


def _show(result: Tally) -> None:
    for one in result.refused:
        render.error(f"{one.source}: {one.reason}")
    out = ", ".join(f"{count} {rule}" for rule, count in result.excluded.items() if count) or "none"
    render.table("votes", ("", ""), [
        ("participants", f"{result.participants}, of whom {result.counted} are counted"), ("left out", out),
        ("vote files refused, copies", f"{len(result.refused)}, {result.copies}"),
        ("votes", f"{result.votes}, of which {result.ties} ties"),
        ("chose the left side", f"{_percent(result.left)} {_span(result.left_wilson)}"),
        ("median time", f"{result.median_seconds:.1f} s")])
    columns = ("wins", "losses", "ties", "preferred", "over participants", "votes as if independent")
    for title, shares, head in (("preference", result.preferences, ("method",)),
                                ("two by two", result.pairs, ("method", "against"))):
        render.table(title, (*head, *columns), [
            (share.method, *([share.other] if share.other else []), share.wins, share.losses, share.ties,
             _percent(share.preference), _span(share.bootstrap), _span(share.wilson)) for share in shares])
    model = "Davidson, ties" if result.ties else "Bradley–Terry"
    render.table(f"ranking ({model}; log strength)",
                 ("rank", "method", "strength", "over participants", "comes first", "above the next"), [
                     (rank.rank, rank.method, f"{rank.strength:+.2f}", _span(rank.interval, "{:+.2f}"),
                      _percent(rank.first), _percent(rank.above_next)) for rank in result.ranking])
    for text in result.warnings:
        render.note(f"warning: {text}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _span(interval: tuple[float, float] | None, form: str = "") -> str:
    if interval is None:
        return "-"
    return " to ".join(form.format(value) if form else f"{100 * value:.1f}" for value in interval)
