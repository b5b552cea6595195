"""Which headers go on; `test_proxy.py` holds it over real sockets."""

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.metered.headers import forwarded, passed_on


def test_what_the_caller_names_in_connection_stays_here() -> None:
    """A header is of this hop when `Connection` says so, in whatever case."""
    given = CIMultiDict(
        {"Connection": "X-One, keep-alive", "x-one": "1", "X-Two": "2", "Content-Type": "application/json"}
    )
    assert forwarded(CIMultiDictProxy(given)) == [("X-Two", "2"), ("Content-Type", "application/json")]


def test_a_body_without_a_type_is_json() -> None:
    """OpenRouter is told so."""
    assert forwarded(CIMultiDictProxy(CIMultiDict())) == [("Content-Type", "application/json")]


def test_headers_of_one_name_all_go_down_but_for_those_of_the_hop() -> None:
    """In their order, spelt as they came."""
    came = [
        ("X-A", "1"),
        ("x-a", "2"),
        ("Set-Cookie", "a=b"),
        ("Transfer-Encoding", "chunked"),
        ("X-Wattfare-Any", "1"),
    ]
    assert passed_on(came) == (["X-A: 1\r\n", "x-a: 2\r\n"], False, False)


def test_what_they_say_of_the_body_is_read_beside() -> None:
    """Its length, and whether it is a stream of events, in whatever case."""
    assert passed_on([("content-LENGTH", "2")])[1:] == (True, False)
    assert passed_on([("Content-Type", "Text/Event-Stream; charset=utf-8")])[1:] == (False, True)
