"""The reader of Prometheus text, on good and malformed pages."""

import pytest

from aigw.cli.prometheus_text import parse


@pytest.mark.parametrize("text", ["aigw_x 1", "# TYPE a counter\na{b=c} 1", "# TYPE a counter\na one two"])
def test_text_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_parse_reads_labels_with_escapes() -> None:
    text = '# TYPE a counter\na{b="c\\"d\\\\e",f="g"} 3\n# TYPE h histogram\nh_bucket{le="+Inf"} 1\nh_sum 0.5\n'
    assert parse(text) == {
        ("a", (("b", 'c"d\\e'), ("f", "g"))): 3,
        ("h_bucket", (("le", "+Inf"),)): 1,
        ("h_sum", ()): 0.5,
    }
