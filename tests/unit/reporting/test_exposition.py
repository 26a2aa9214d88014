"""The text that Prometheus scrapes, in both of its formats."""

from __future__ import annotations

from pf_agent.reporting.exposition import Family, Histogram, Kind, Sample, text_of

COUNTER = Family("x_drifts_total", Kind.COUNTER, "Drifts.", (Sample(3, {"parameter": "a"}),))
INFO = Family("x_build_info", Kind.INFO, "Build.", (Sample(1, {"version": "1.0"}),))


def test_the_plain_format() -> None:
    gauge = Family("x_up", Kind.GAUGE, "Up.", (Sample(1), Sample(0.25, {"a": "b", "c": "d"})))
    assert text_of([gauge, COUNTER, INFO]).splitlines() == [
        "# HELP x_up Up.",
        "# TYPE x_up gauge",
        "x_up 1",
        'x_up{a="b",c="d"} 0.25',
        "# HELP x_drifts_total Drifts.",
        "# TYPE x_drifts_total counter",
        'x_drifts_total{parameter="a"} 3',
        "# HELP x_build_info Build.",
        "# TYPE x_build_info gauge",
        'x_build_info{version="1.0"} 1',
    ]


def test_open_metrics_names_families_without_their_suffix_and_says_where_it_ends() -> None:
    assert text_of([COUNTER, INFO], open_metrics=True).splitlines() == [
        "# HELP x_drifts Drifts.",
        "# TYPE x_drifts counter",
        'x_drifts_total{parameter="a"} 3',
        "# HELP x_build Build.",
        "# TYPE x_build info",
        'x_build_info{version="1.0"} 1',
        "# EOF",
    ]


def test_a_family_without_samples_is_left_out() -> None:
    assert text_of([Family("x", Kind.GAUGE, "X.", ())]) == ""


def test_a_label_may_hold_anything_that_main_cf_may() -> None:
    sample = Sample(1, {"parameter": 'a"b\\c\nd \udce9'})
    text = text_of([Family("x", Kind.GAUGE, "X.", (sample,))])
    assert text.endswith('x{parameter="a\\"b\\\\c\\nd \\\\udce9"} 1\n')
    assert text.encode()


def test_buckets_count_all_that_is_below_their_bound() -> None:
    histogram = Histogram(0.1, 1.0)
    assert histogram.last is None
    for seconds in (0.05, 0.1, 0.5, 7.0, -3.0):
        histogram.observe(seconds)
    samples = tuple(histogram.samples({"i": "-"}))
    family = Family("x_seconds", Kind.HISTOGRAM, "X.", samples)
    assert text_of([family]).splitlines()[1:] == [
        "# TYPE x_seconds histogram",
        'x_seconds_bucket{i="-",le="0.1"} 3',
        'x_seconds_bucket{i="-",le="1.0"} 4',
        'x_seconds_bucket{i="-",le="+Inf"} 5',
        'x_seconds_sum{i="-"} 7.65',
        'x_seconds_count{i="-"} 5',
    ]
    assert histogram.last == 0.0
