"""The ledger's model test with waiting requests: polls in any order, cancellations, timeouts, killed processes."""

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from gateway.ledger.outcomes import QueuePlace
from tests.gateway.ledger_machine import LedgerMachine, picks


class WaitingMachine(LedgerMachine):
    """The same budget, with a queue over processes that live and die."""

    @precondition(lambda self: self.queue)
    @rule(number=picks, is_first=st.booleans(), is_over=st.sampled_from([False, False, True]))
    def ask_again(self, number: int, is_first: bool, is_over: bool) -> None:
        """Poll for any waiter, woken or not: mostly the first one, and also one whose time is over."""
        request_id = list(self.queue)[0 if is_first else number % len(self.queue)]
        waiter = self.queue[request_id]
        self.decide(request_id, waiter.asks, QueuePlace(waiter.channel, waiter.place, is_over))

    @precondition(lambda self: self.queue)
    @rule(number=picks)
    def give_up(self, number: int) -> None:
        """A caller hangs up; a repeat of that changes nothing."""
        request_id = list(self.queue)[number % len(self.queue)]
        self.renew_leases()
        keys = [self.budget.budget, self.budget.queue, self.budget.alive]
        for _ in range(2):
            self.bench(self.bench.store.run("leave", keys, [self.queue[request_id].channel, request_id]))
        del self.queue[request_id]

    @precondition(lambda self: len(self.queue) > 1)
    @rule(number=picks)
    def kill(self, number: int) -> None:
        """Kill a process: its waiters no longer poll, and its lease ends."""
        channel = list(self.queue.values())[number % len(self.queue)].channel
        self.bench(self.bench.store.call("HSET", self.budget.alive, channel, 1))
        self.deaths += 1
        for request_id in [name for name, waiter in self.queue.items() if waiter.channel == channel]:
            del self.queue[request_id]
        if not self.queue:
            self.bench(self.bench.store.call("HSET", self.budget.budget, "waiting_ms", 1))

    @invariant()
    def the_queue_is_in_order(self) -> None:
        """Waiting requests have a place and no hold; other places belong to killed processes only."""
        if not hasattr(self, "budget"):
            return
        found = self.bench(self.bench.store.call("ZRANGE", self.budget.queue, 0, -1))
        living = {waiter.channel for waiter in self.queue.values()}
        names = [each.decode().split(" ") for each in found]
        assert [name for channel, name in names if channel in living] == list(self.queue)
        assert not self.queue.keys() & {name for name, each in self.requests.items() if each.state == "open"}

    @invariant()
    def one_at_most_is_beyond_its_bound(self) -> None:
        """So that no burst of requests can overrun a cap by more than one of them."""
        if hasattr(self, "requests"):
            assert sum(each.state == "open" and each.is_beyond for each in self.requests.values()) <= 1
