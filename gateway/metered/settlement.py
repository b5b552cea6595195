"""Turns the outcome of a request into one posting: a settlement, or a hand-over to the sweeper. Pure.

The meter decides the outcome (docs/ledger.md, "What is settled when").
"""

from gateway.ledger.outcomes import HandOver, Settlement
from gateway.metered.inflight import OpenRequest
from gateway.metered.meter import Outcome, Reconcile, Settle, Void
from gateway.metered.pricing import estimate_nano
from gateway.openrouter.pricelist import PriceList


def posting(request: OpenRequest, prices: PriceList | None) -> Settlement | HandOver:
    """Return the posting of a request that has ended."""
    outcome = request.meter.outcome() if request.admission is not None else Void("not_sent")
    if isinstance(outcome, Reconcile) and outcome.generation_id and request.budget.mode == "live":
        return HandOver(
            outcome.generation_id,
            estimate(request, outcome, prices),
            request.ended_by,
            "refused" if request.meter.funding_refused else "",
        )
    return settlement(request, outcome, prices)


def settlement(request: OpenRequest, outcome: Outcome, prices: PriceList | None) -> Settlement:
    """Return the settlement of an outcome; the estimate if the cost must be looked up."""
    model, ended_by, meter = request.chat.model, request.ended_by, request.meter
    funding = "refused" if meter.funding_refused else "works" if meter.is_accepted else ""
    if isinstance(outcome, Settle):
        usage, generation_id = outcome.usage, outcome.generation_id or ""
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        return Settlement("settled", outcome.cost_nano, generation_id, model, prompt, completion, funding, ended_by)
    if isinstance(outcome, Reconcile) and request.budget.mode == "test":
        # Test mode has no /generation to look a cost up.
        stated = outcome.usage
        if stated is not None and stated.cost_nano is not None:
            return settlement(request, Settle(stated.cost_nano, stated, outcome.generation_id), prices)
        outcome = Void("failed")
    if isinstance(outcome, Void):
        return Settlement("void", model=model, funding=funding, ended_by=ended_by)
    # Without an id, or a hold to store it in, no look-up is possible, so the estimate is final.
    nano = estimate(request, outcome, prices)
    return Settlement(
        "estimated" if nano else "void",
        nano,
        model=model,
        prompt_tokens=outcome.usage.prompt_tokens if outcome.usage else None,
        completion_tokens=outcome.usage.completion_tokens if outcome.usage else None,
        funding=funding,
        ended_by=ended_by,
    )


def estimate(request: OpenRequest, reconcile: Reconcile, prices: PriceList | None) -> int:
    """Return the estimate in nano-USD, booked if the cost is never stated."""
    if reconcile.is_free:
        return 0
    stated_nano = reconcile.usage.cost_nano if reconcile.usage else None
    if stated_nano is not None and not reconcile.is_outdone:
        return stated_nano
    guess = estimate_nano(request.chat, prices, completion_bytes=reconcile.completion_bytes, usage=reconcile.usage)
    return max(guess, stated_nano or 0)
