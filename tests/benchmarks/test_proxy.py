"""The benchmark's pure parts: wrk's output, invalid runs, the table, the options."""

import pytest

from benchmarks.proxy.limits import BARE, LUA
from benchmarks.proxy.load import LoadResult
from benchmarks.proxy.options import ROWS, Options
from benchmarks.proxy.probe import ProbeAnswer, _whole
from benchmarks.proxy.processes import BenchFailed
from benchmarks.proxy.results import Result, readme_table, report, with_table
from benchmarks.proxy.rows import ROWS as ROWS_BY_NAME

TOLD = """Running 10s test
  1000 requests in 3.00s
BENCH asked=1000 answered=1000 wrong=0 failed=0 example=
"""


def result(contender: str, cpu_us: float) -> Result:
    return Result.of("plain", contender, [{"cpu_us": cpu_us - 1}, {"cpu_us": cpu_us}, {"cpu_us": cpu_us + 9}])


def test_an_outcome_is_read_from_what_wrk_tells() -> None:
    """The script's own line counts; wrk's summary around it does not matter."""
    assert LoadResult.parse(TOLD) == LoadResult(1000, 1000, 0, 0, "")


def test_a_wrk_that_tells_nothing_fails_the_run() -> None:
    """A script that broke leaves no line behind."""
    with pytest.raises(BenchFailed, match="bad argument"):
        LoadResult.parse("load.lua: bad argument")


@pytest.mark.parametrize(
    ("outcome", "served", "fault"),
    [
        (LoadResult(10, 10, 0, 0, ""), 10, ""),
        (LoadResult(10, 10, 1, 0, "503 unavailable"), 10, "1 wrong answers and 0 failures of 10: 503 unavailable"),
        (LoadResult(10, 10, 0, 2, ""), 10, "0 wrong answers and 2 failures of 10: "),
        (LoadResult(10, 9, 0, 0, ""), 10, "sent 10, answered 9, served by upstream 10"),
        (LoadResult(10, 10, 0, 0, ""), 11, "sent 10, answered 10, served by upstream 11"),
    ],
)
def test_an_outcome_with_any_fault_proves_nothing(outcome: LoadResult, served: int, fault: str) -> None:
    """A wrong answer, a broken connection, an answer that is missing, a request sent twice: each is a fault."""
    assert outcome.fault(served) == fault


def test_medians_count() -> None:
    """One stretch that a busy machine spoilt does not move the figure."""
    assert result(LUA, 40).values == {"cpu_us": 40}


def test_the_table_tells_multiples_of_nginx_with_lua() -> None:
    """The row of nginx with Lua has figures, the others multiples; a contender missing in a row has a dash."""
    results = [result(BARE, 10), result(LUA, 40), result("ours", 120), Result.of("plain", "peer", [{"per_second": 1}])]
    assert readme_table(results, "Some machine.").splitlines() == [
        "Some machine.",
        "",
        "| | | nginx | nginx + Lua | ours | peer |",
        "| --- | --- | --- | --- | --- | --- |",
        "| plain | CPU · Redis' CPU, a request | 0.25× | 1 (40.0 µs) | 3.0× | – |",
    ]
    assert "CPU 120.0 µs (3.0×)" in report(results)


def test_the_table_goes_between_the_markers() -> None:
    """What was there is replaced, and nothing else."""
    text = "before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter"
    assert with_table(text, "new") == "before\n<!-- bench:begin -->\nnew\n<!-- bench:end -->\nafter"
    with pytest.raises(ValueError, match="lacks"):
        with_table("no markers", "new")


def test_every_row_that_can_be_asked_for_can_be_measured() -> None:
    """The names of ROWS are those of the rows."""
    assert set(ROWS) == set(ROWS_BY_NAME)
    assert Options.load({}).rows == ROWS


def test_a_run_that_cannot_be_is_refused() -> None:
    """An unknown row, no time at all, a folder that is no checkout."""
    assert Options.load({"ROWS": "stream, plain", "SECONDS": "5"}).rows == ("stream", "plain")
    for given in ({"ROWS": "plane"}, {"SECONDS": "0"}, {"ROUNDS": "many"}, {"GATEWAY_DIR": "nowhere"}):
        with pytest.raises(BenchFailed):
            Options.load(given)


def test_an_answer_is_whole_when_its_framing_says_so() -> None:
    """By its length or its last chunk, not by the boundaries of reads."""
    plain = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab\n\r\nA\r\n0123456789\r\n0\r\n\r\n"
    assert (_whole(plain[:-1]), _whole(plain)) == (None, (200, b"body"))
    assert (_whole(chunked[:-3]), _whole(chunked)) == (None, (200, b"ab\n0123456789"))


def test_answers_are_compared_without_the_id_that_no_two_share() -> None:
    """Everything else of them must be the same."""
    first, second = (ProbeAnswer(200, f'{{"id":"gen-00000000000{n}","a":1}}'.encode(), 0, 0) for n in (1, 2))
    assert first.without_id == second.without_id
