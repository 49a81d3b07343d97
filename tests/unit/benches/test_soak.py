"""The verdict of a soak: growth, descriptors and the data folder, from made samples."""

from collections.abc import Callable

import pytest

from benches.soak.samples import MIB, Process, Sample, growth, verdict


def samples(
    size: Callable[[int], int], descriptors: Callable[[int], int], folder: Callable[[int], int]
) -> list[Sample]:
    """Twenty samples, 50,000 requests apart, of one worker."""
    return [Sample(n * 50_000, {7: Process("worker", size(n), descriptors(n))}, folder(n) * MIB) for n in range(20)]


def test_growth_is_the_slope_for_a_hundred_thousand_requests() -> None:
    found = samples(lambda n: (50 + n) * MIB, lambda _: 9, lambda _: 1)
    assert growth(found, 7) == pytest.approx(2.0)
    assert growth(samples(lambda n: (50 + n % 2) * MIB, lambda _: 9, lambda _: 1), 7) < 0.1


@pytest.mark.parametrize(
    ("size", "descriptors", "folder", "words"),
    [
        (lambda _: 50, lambda _: 9, lambda _: 1, None),
        (lambda n: 50 + min(n, 8), lambda _: 9, lambda _: 1, None),  # caches fill in the first half
        (lambda n: 50 + n, lambda _: 9, lambda _: 1, "grows by 2.00 MiB"),
        (lambda _: 50, lambda n: 9 + 2 * n, lambda _: 1, "has 47 descriptors, and had 27"),
        (lambda _: 50, lambda _: 9, lambda n: 20 * n, "the data folder grows: 180 MiB, then 380 MiB"),
    ],
)
def test_verdict_finds_growth_in_the_second_half(
    size: Callable[[int], int], descriptors: Callable[[int], int], folder: Callable[[int], int], words: str | None
) -> None:
    _, findings = verdict(samples(lambda n: size(n) * MIB, descriptors, folder))
    assert findings == [] if words is None else len(findings) == 1 and words in findings[0], findings


def test_verdict_finds_a_process_that_ended() -> None:
    found = samples(lambda _: MIB, lambda _: 9, lambda _: 1)
    found[-1] = found[-1]._replace(processes={8: Process("worker", MIB, 9)})
    _, findings = verdict(found)
    assert any("a process ended" in one for one in findings)
