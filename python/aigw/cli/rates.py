"""Rates and latencies between two samples of a gateway; `aigw top` shows them.

In: two samples, each /metrics and /status with the time of reading. Out: one `Frame`. A counter that fell belongs to a new
data folder: its value counts from 0. A percentile is the upper bound of the histogram bucket that holds it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aigw.cli.prometheus_text import Values, parse
from aigw.types import JsonDict

UPSTREAM_FAULTS: Final = ("upstream_", "client_gone", "draining", "internal")
"""Prefixes of the reasons that are faults, not decisions of a rule."""


@dataclass(frozen=True)
class Sample:
    """One reading of /metrics and /status; `at` in seconds of a monotonic clock."""

    at: float
    metrics: str
    status: JsonDict


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds; None without a request."""

    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True)
class Tokens:
    """Calls and tokens of one tier and model; rates per second, `total` since the data folder was made."""

    tier: str
    model: str
    calls_per_s: float
    input_per_s: float
    output_per_s: float
    total: int
    latency: Percentiles


@dataclass(frozen=True)
class TierLoad:
    """Load of one tier: calls in flight and the amounts that they hold now, rates of tokens and of money.

    `spend_per_h` in USD, from the prices of calls that ended between the samples; `reserved_spend_nanodollars` in nano-dollars.
    """

    tier: str
    in_flight: int
    reserved_tokens: int
    reserved_spend_nanodollars: int
    tokens_per_s: float
    spend_per_h: float


@dataclass(frozen=True)
class Refusals:
    """Denials with one reason; `total` since the data folder was made."""

    reason: str
    per_s: float
    total: int


@dataclass(frozen=True)
class Frame:
    """One screen of `aigw top`. Rates are averages over `seconds`."""

    seconds: float
    requests_per_s: float
    answers_per_s: dict[str, float]
    refused_per_s: float
    refusals: list[Refusals]
    faults: list[Refusals]
    tokens_per_s: float
    tokens: list[Tokens]
    tiers: list[TierLoad]
    latency: Percentiles
    in_flight: int
    requests: int
    workers: list[JsonDict]
    configuration: JsonDict


def frame(before: Sample, now: Sample) -> Frame:
    """The frame of two samples."""
    seconds = max(now.at - before.at, 1e-9)
    then, totals = parse(before.metrics), parse(now.metrics)
    grown = {key: value - then.get(key, 0.0) if value >= then.get(key, 0.0) else value for key, value in totals.items()}
    denials = _refusals(grown, totals, seconds)
    refusals = [r for r in denials if not r.reason.startswith(UPSTREAM_FAULTS)]
    answers = _sum_by(grown, "kong_http_requests_total", ("code",))
    tokens = _tokens(grown, totals, seconds)
    return Frame(
        seconds=round(seconds, 3),
        requests_per_s=_rate(sum(answers.values()), seconds),
        answers_per_s={kind: _rate(count, seconds) for kind, count in _classes(answers).items()},
        refused_per_s=_rate(sum(r.per_s for r in refusals), 1),
        refusals=refusals,
        faults=[r for r in denials if r.reason.startswith(UPSTREAM_FAULTS)],
        tokens_per_s=_rate(sum(t.input_per_s + t.output_per_s for t in tokens), 1),
        tokens=tokens,
        tiers=_tiers(grown, totals, seconds),
        latency=_percentiles(grown, "kong_request_latency_ms", lambda _: True, 1),
        in_flight=int(now.status["server"]["connections_writing"]),
        requests=int(now.status["server"]["total_requests"]),
        workers=now.status["workers"],
        configuration=now.status["configuration"],
    )


def _rate(count: float, seconds: float) -> float:
    return round(count / seconds, 1)


def _sum_by(values: Values, name: str, by: tuple[str, ...]) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = defaultdict(float)
    for (sample, labels), value in values.items():
        if sample == name:
            text = dict(labels)
            found[tuple(text.get(label, "") for label in by)] += value
    return dict(found)


def _classes(answers: Mapping[tuple[str, ...], float]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for (code,), count in answers.items():
        found[f"{code[:1]}xx"] += count
    return dict(sorted(found.items()))


def _refusals(grown: Values, totals: Values, seconds: float) -> list[Refusals]:
    rates, sums = (_sum_by(values, "aigw_denials_total", ("reason",)) for values in (grown, totals))
    rows = [Refusals(key[0], _rate(rates.get(key, 0), seconds), int(total)) for key, total in sums.items() if total]
    return sorted(rows, key=lambda r: (-r.per_s, -r.total, r.reason))


def _tokens(grown: Values, totals: Values, seconds: float) -> list[Tokens]:
    by = ("tier", "model")
    calls, all_calls = (_sum_by(values, "aigw_model_requests_total", by) for values in (grown, totals))
    classes, all_tokens = _sum_by(grown, "aigw_tokens_total", (*by, "class")), _sum_by(totals, "aigw_tokens_total", by)
    rows = []
    for (tier, model), total in all_calls.items():
        if not total:
            continue
        spent = {name: count for (t, m, name), count in classes.items() if (t, m) == (tier, model)}
        out = sum(count for name, count in spent.items() if name in ("output", "reasoning"))
        rows.append(
            Tokens(
                tier,
                model,
                _rate(calls.get((tier, model), 0), seconds),
                _rate(sum(spent.values()) - out, seconds),
                _rate(out, seconds),
                int(all_tokens.get((tier, model), 0)),
                _percentiles(grown, "gen_ai_server_request_duration_seconds", _is(tier, model), 1000),
            )
        )
    return sorted(rows, key=lambda t: (-t.calls_per_s, -t.total, t.tier, t.model))


def _tiers(grown: Values, totals: Values, seconds: float) -> list[TierLoad]:
    """The tiers that have calls in flight, or whose models were ever called."""
    calls, prices = _sum_by(totals, "aigw_calls_in_flight", ("tier",)), "aigw_price_nanodollars_total"
    held = _sum_by(totals, "aigw_reserved_in_flight", ("tier", "meter"))
    tokens, spent = (_sum_by(grown, name, ("tier",)) for name in ("aigw_tokens_total", prices))
    called = {key for key, total in _sum_by(totals, "aigw_model_requests_total", ("tier",)).items() if total}
    rows = [
        TierLoad(
            tier,
            int(calls.get((tier,), 0)),
            int(held.get((tier, "tokens"), 0)),
            int(held.get((tier, "spend"), 0)),
            _rate(tokens.get((tier,), 0), seconds),
            round(spent.get((tier,), 0) / 1e9 * 3600 / seconds, 6),
        )
        for (tier,) in called | {key for key, count in calls.items() if count}
    ]
    return sorted(rows, key=lambda t: (-t.in_flight, -t.tokens_per_s, t.tier))


def _is(tier: str, model: str) -> Callable[[Mapping[str, str]], bool]:
    return lambda labels: (labels.get("aigw_tier"), labels.get("gen_ai_request_model")) == (tier, model)


def _percentiles(grown: Values, name: str, wanted: Callable[[Mapping[str, str]], bool], scale: float) -> Percentiles:
    buckets: dict[float, float] = defaultdict(float)
    for (sample, labels), value in grown.items():
        text = dict(labels)
        if sample == f"{name}_bucket" and wanted(text):
            buckets[float(text["le"].replace("+Inf", "inf"))] += value
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0
    if total <= 0:
        return Percentiles(None, None)

    def at(share: float) -> float:
        found = next(bound for bound in bounds if buckets[bound] >= share * total)
        finite = [bound for bound in bounds if bound != float("inf")]
        return round((found if found != float("inf") else finite[-1] if finite else 0) * scale, 3)

    return Percentiles(at(0.50), at(0.95))
