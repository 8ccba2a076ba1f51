"""`capstan profile fit | estimate | predict | queueing`: physics from measurements or a config.json; what they say.

Bad input is one sentence and exit code 2.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict, Unpack

import click
import yaml
from rich.console import Console
from rich.table import Table

from capstan.api import convert
from capstan.api.errors import Invalid
from capstan.app import queueing
from capstan.calibrate import errors, fitted, manifest, measurements, parameters, predict, shipped, solve
from capstan.calibrate import estimate as estimates
from capstan.model.profile import Profile
from capstan.replay import traces

PACKAGE_FILE = Path(fitted.__file__).with_name(fitted.FILE)
ESTIMATE_HEADER = (
    "# Written by `capstan profile estimate`. Estimated, not measured here; every parameter names its source below.\n"
)


class Flags(TypedDict):
    """What `predict` is asked: single steps, or (closed_loop) the steady state of a saturated engine."""

    batch: float
    context: float
    prompt_tokens: float
    clock_mhz: float | None
    closed_loop: bool
    max_num_seqs: float
    output_tokens: float
    as_json: bool


class Finite(click.FloatRange):
    """A number in a range; "nan" and "inf" are none."""

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value} is no finite number.", param, ctx)
        return found


@click.group("profile", help="Fit, estimate and question the physics of an LLM on a GPU.")
def command() -> None:
    """Fit, estimate and question the physics of an LLM on a GPU."""


command.add_command(queueing.command)


@command.command("fit")
@click.option("--data", type=click.Path(path_type=Path), help="The shared measurements; default: found as shared/data.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("policies/profiles"), show_default=True)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where a file differs from what the fit gives.")
@click.option("--leave-out/--no-leave-out", default=False, help="Also refit without each tp, batch and LLM (minutes).")
def fit_command(data: Path | None, out: Path, check: bool, leave_out: bool) -> None:
    """Fit the global model to every published set, write the shipped profiles, print the errors."""
    seen = _observations(data)
    found = errors.with_errors(solve.fit(seen), seen)
    table = errors.in_sample(found, seen)
    if leave_out:
        for protocol, groups in errors.protocols(seen).items():
            pairs = [pair for hidden in groups for pair in errors.left_out(found, seen, hidden)]
            table += errors.lines(protocol, pairs)
    _print_errors(table)
    kept = fitted.loads(fitted.dumps(found))  # what an estimate without the data will read
    files = {PACKAGE_FILE: fitted.dumps(found)} | {out / name: text for name, text in shipped.files(kept).items()}
    _check(files) if check else _write(files)


@command.command("estimate")
@click.option("--config", "config_file", type=click.Path(path_type=Path), required=True, help="The LLM's config.json.")
@click.option("--gpu", required=True, help="A100-40GB, A100-80GB, H100-SXM5-80GB, H200, B200 or MI300X.")
@click.option("--tp", type=int, required=True, help="Tensor-parallel degree.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The profile to write.")
@click.option("--model", default="", help="The LLM's name in policies; default: what the config or the data calls it.")
@click.option("--dtype", help="bfloat16, float16 or fp8; default: the config's.")
def estimate_command(config_file: Path, gpu: str, tp: int, output: Path, model: str, dtype: str | None) -> None:
    """Write a profile for an LLM from its config.json and a GPU's data sheet."""
    try:
        found = estimates.estimate(fitted.shipped(), _config(config_file), gpu, tp, model=model, dtype=dtype)
    except ValueError as problem:
        raise click.UsageError(str(problem)) from problem
    document = manifest.build(found, fitted.shipped())
    _write({output: shipped.text(document, ESTIMATE_HEADER)})
    click.echo(f"{output}: {manifest.provenance(found)}")


@command.command("predict")
@click.argument("profile_file", type=click.Path(path_type=Path))
@click.option("--batch", type=Finite(min=1), default=1, show_default=True, help="Decoding sequences.")
@click.option("--context", type=Finite(min=0), default=1024, show_default=True, help="Tokens per sequence.")
@click.option("--prompt-tokens", type=Finite(min=1), default=512, show_default=True)
@click.option("--clock-mhz", type=Finite(min=1), help="SM clock cap; default: the maximum.")
@click.option("--closed-loop", is_flag=True, help="The steady state of a saturated engine instead of single steps.")
@click.option("--max-num-seqs", type=Finite(min=1), default=64, show_default=True)
@click.option("--output-tokens", type=Finite(min=1), default=500, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def predict_command(
    profile_file: Path,
    **flags: Unpack[Flags],
) -> None:
    """Print step times, watts and joules of a profile at one operating point."""
    found = _predicted(_profile(profile_file), flags)
    if flags["as_json"]:
        click.echo(json.dumps(asdict(found)))
        return
    for name, value in asdict(found).items():
        click.echo(f"{name:28} {value:.6g}")


def _predicted(p: Profile, flags: Flags) -> predict.Point | predict.ClosedLoop:
    x = _clock_ratio(p, flags["clock_mhz"])
    prompt_tokens, context = flags["prompt_tokens"], flags["context"]
    if not flags["closed_loop"]:
        _warn_of_room(p, flags["batch"] * context)
        return predict.point(p, batch=flags["batch"], context_tokens=context, prompt_tokens=prompt_tokens, x=x)
    output_tokens = flags["output_tokens"]
    return predict.closed_loop(
        p, max_num_seqs=flags["max_num_seqs"], prompt_tokens=prompt_tokens, output_tokens=output_tokens, x=x
    )


def _clock_ratio(p: Profile, clock_mhz: float | None) -> float:
    """Return the clock ratio of a cap, which must lie on the GPU's range."""
    if clock_mhz is not None and not p.clocks.min_mhz <= clock_mhz <= p.clocks.max_mhz:
        raise click.UsageError(
            f"--clock-mhz: {clock_mhz:g} is outside the GPU's clocks; use {p.clocks.min_mhz:g} to {p.clocks.max_mhz:g}"
        )
    return p.clocks.ratio(clock_mhz)


def _warn_of_room(p: Profile, context_tokens: float) -> None:
    if context_tokens > p.kv_tokens:
        held = f"more than the {p.kv_tokens} that this replica's KV cache holds"
        click.echo(f"warning: --batch x --context are {context_tokens:.0f} tokens, {held}", err=True)


def _observations(data: Path | None) -> tuple[measurements.Observation, ...]:
    """Return the rows of shared/data."""
    folder = data or traces.shared_data_at_hand()
    if folder is None or not folder.is_dir():
        where = f"{data} is no folder" if data else "shared/data was not found"
        raise click.UsageError(f"--data: {where}; give the folder that holds ml-energy/, vidur/ and the others")
    try:
        return measurements.read(folder)
    except (OSError, KeyError, ValueError) as problem:
        raise click.UsageError(f"--data: {folder} does not hold the published sets as expected: {problem}") from problem


def _config(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise click.UsageError(f"--config: {path} cannot be read as JSON: {problem}") from problem
    if not isinstance(found, dict):
        raise click.UsageError(f"--config: {path} holds no JSON object; give a Hugging Face config.json")
    return found


def _profile(path: Path) -> Profile:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise click.UsageError(f"PROFILE_FILE: {path} cannot be read as YAML: {problem}") from problem
    if not isinstance(document, dict):
        raise click.UsageError(f"PROFILE_FILE: {path} holds no ServingProfile")
    try:
        return convert.profile(document)
    except Invalid as problem:
        raise click.UsageError(f"PROFILE_FILE: {path}: {problem}") from problem


def _write(files: dict[Path, str]) -> None:
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as problem:
            raise click.UsageError(f"{path} cannot be written: {problem}") from problem


def _check(files: dict[Path, str]) -> None:
    stale = [
        str(path) for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    if stale:
        raise click.ClickException(f"these differ from the fit, run `capstan profile fit`: {', '.join(stale)}")


def _print_errors(found: list[errors.Line]) -> None:
    """Print every group, then the mean over groups of each protocol and quantity."""
    console = Console(width=150)
    table = Table(title="errors by group, percent (TensorRT-LLM rows shape the silicon only)", box=None)
    for name in ("protocol", "figure", "data set (engine)", "LLM", "GPU", "tp", "rows", "MAPE", "bias", "worst"):
        table.add_column(name, justify="right" if name in {"tp", "rows", "MAPE", "bias", "worst"} else "left")
    for line in found:
        e = line.error
        shares = (f"{100 * e.mape_ratio:.1f}", f"{100 * e.bias_ratio:+.1f}", f"{100 * e.worst_ratio:+.1f}")
        llm = line.llm.rsplit("/", 1)[-1]
        table.add_row(line.protocol, line.quantity, line.source, llm, line.gpu, line.tp, str(e.rows), *shares)
    console.print(table)
    for protocol in dict.fromkeys(line.protocol for line in found):
        vllm = [line for line in found if parameters.TRT not in line.source]
        for quantity in measurements.Quantity:
            mean = errors.summary(vllm, protocol, quantity.value)
            if mean is not None:
                console.print(
                    f"{protocol}: {quantity.value} {100 * mean.mape_ratio:.1f} % mean over groups, "
                    f"bias {100 * mean.bias_ratio:+.1f} %, worst group {100 * mean.worst_ratio:.1f} %, {mean.rows} rows"
                )
