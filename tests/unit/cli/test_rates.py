"""The frame that `aigw top` computes from two samples of a gateway."""

import pytest

from aigw.cli.rates import Percentiles, Sample, TierLoad, frame

TYPES = """\
# TYPE kong_http_requests_total counter
# TYPE kong_request_latency_ms histogram
# TYPE aigw_denials_total counter
# TYPE aigw_tokens_total counter
# TYPE aigw_model_requests_total counter
# TYPE aigw_calls_in_flight gauge
# TYPE aigw_reserved_in_flight gauge
# TYPE aigw_price_nanodollars_total counter
# TYPE gen_ai_server_request_duration_seconds histogram
"""
STATUS = {
    "server": {"connections_writing": 3, "total_requests": 70},
    "workers": [{"slot": 0, "pid": 1, "state": "ready"}],
    "configuration": {"generation": 4, "error": None},
}
BEFORE = """\
kong_http_requests_total{service="",route="",code="200",source="service"} 10
kong_http_requests_total{service="s",route="r",code="200",source="service"} 10
kong_request_latency_ms_bucket{service="",route="",le="1"} 5
kong_request_latency_ms_bucket{service="",route="",le="5"} 10
kong_request_latency_ms_bucket{service="",route="",le="+Inf"} 10
aigw_denials_total{reason="rate_limited"} 7
aigw_denials_total{reason="no_route"} 0
aigw_tokens_total{tier="free",model="small",class="input"} 100
aigw_tokens_total{tier="free",model="small",class="output"} 50
aigw_model_requests_total{tier="free",model="small",outcome="completed"} 5
aigw_model_requests_total{tier="pro",model="small",outcome="completed"} 0
aigw_price_nanodollars_total{tier="free",model="small"} 1000
"""
AFTER = """\
kong_http_requests_total{service="",route="",code="200",source="service"} 30
kong_http_requests_total{service="s",route="r",code="200",source="service"} 20
kong_http_requests_total{service="",route="",code="429",source="exit"} 10
kong_request_latency_ms_bucket{service="",route="",le="1"} 25
kong_request_latency_ms_bucket{service="",route="",le="5"} 32
kong_request_latency_ms_bucket{service="",route="",le="+Inf"} 50
aigw_denials_total{reason="rate_limited"} 17
aigw_denials_total{reason="upstream_refused"} 2
aigw_denials_total{reason="no_route"} 0
aigw_tokens_total{tier="free",model="small",class="input"} 300
aigw_tokens_total{tier="free",model="small",class="cached_input"} 20
aigw_tokens_total{tier="free",model="small",class="output"} 150
aigw_model_requests_total{tier="free",model="small",outcome="completed"} 25
aigw_model_requests_total{tier="pro",model="small",outcome="completed"} 0
aigw_calls_in_flight{tier="free"} 2
aigw_calls_in_flight{tier="pro"} 1
aigw_calls_in_flight{tier="idle"} 0
aigw_reserved_in_flight{tier="free",meter="tokens"} 525
aigw_reserved_in_flight{tier="free",meter="spend"} 1250000
aigw_price_nanodollars_total{tier="free",model="small"} 2000001000
gen_ai_server_request_duration_seconds_bucket{gen_ai_request_model="small",aigw_tier="free",le="0.25"} 19
gen_ai_server_request_duration_seconds_bucket{gen_ai_request_model="small",aigw_tier="free",le="1"} 20
gen_ai_server_request_duration_seconds_bucket{gen_ai_request_model="small",aigw_tier="free",le="+Inf"} 20
"""


def sample(at: float, text: str) -> Sample:
    return Sample(at, TYPES + text, STATUS)


def test_a_frame_has_the_differences_per_second() -> None:
    now = frame(sample(100.0, BEFORE), sample(102.0, AFTER))
    assert (now.seconds, now.requests_per_s, now.answers_per_s) == (2.0, 20.0, {"2xx": 15.0, "4xx": 5.0})
    assert [(r.reason, r.per_s, r.total) for r in now.refusals] == [("rate_limited", 5.0, 17)]
    assert now.refused_per_s == 5.0
    assert [(r.reason, r.per_s, r.total) for r in now.faults] == [("upstream_refused", 1.0, 2)]
    (free,) = now.tokens
    assert (free.tier, free.model, free.calls_per_s) == ("free", "small", 10.0)
    assert (free.input_per_s, free.output_per_s, free.total, now.tokens_per_s) == (110.0, 50.0, 470, 160.0)
    assert free.latency == Percentiles(250.0, 250.0)
    assert (now.in_flight, now.requests) == (3, 70)


def test_a_frame_shows_load_by_tier() -> None:
    now = frame(sample(100.0, BEFORE), sample(102.0, AFTER))
    assert now.tiers == [TierLoad("free", 2, 525, 1_250_000, 160.0, 3600.0), TierLoad("pro", 1, 0, 0, 0.0, 0.0)]
    assert [row.in_flight for row in frame(sample(0, BEFORE), sample(1, BEFORE)).tiers] == [0]


def test_percentiles_cover_one_frame_and_are_finite() -> None:
    now = frame(sample(0, BEFORE), sample(1, AFTER))
    assert now.latency == Percentiles(
        1.0, 5.0
    )  # 20 of 40 within 1 ms; a value beyond the last bound counts as that bound


def test_a_frame_without_requests_has_zeros() -> None:
    now = frame(sample(0, AFTER), sample(1, AFTER))
    assert now.latency == Percentiles(None, None)
    assert now.requests_per_s == now.refused_per_s == now.tokens_per_s == 0
    assert now.refusals[0].total == 17
    empty = frame(sample(0, ""), sample(1, ""))
    assert (empty.refusals, empty.tokens, empty.answers_per_s) == ([], [], {})


def test_a_counter_that_fell_counts_from_zero() -> None:
    now = frame(sample(0, AFTER), sample(1, BEFORE))
    assert now.requests_per_s == 20.0
    assert now.answers_per_s and min(now.answers_per_s.values()) >= 0


def test_two_samples_of_one_moment_give_a_frame() -> None:
    assert frame(sample(1, BEFORE), sample(1, BEFORE)).requests_per_s == 0


def test_top_shows_a_frame(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from aigw.cli.verbs.top import view

    Console(width=110, no_color=True).print(
        view(frame(sample(0, BEFORE), sample(2, AFTER)), "127.0.0.1:8001", "q ends")
    )
    shown = capsys.readouterr().out
    for words in (
        "workers 1/1",
        "20/s",
        "refused 5/s",
        "in flight 3",
        "rate_limited",
        "upstream_refused",
        "250 ms",
        "q ends",
        "RESERVED TOKENS",
        "0.00125",
        "3,600",
    ):
        assert words in shown, shown
    assert all(len(line) <= 110 for line in shown.splitlines())
