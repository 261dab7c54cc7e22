"""Why a request waits, what it does, or why it ended; the same of a gang and of a pool.

Facts in, findings out: what is true, in a sentence with a stable code and its figures, and what the reader can do.
Pure: no clock, no I/O; ages come as seconds, medians as `Usual`.
"""

from orchestrator.domain.explaining.facts import GangFacts, PoolFacts, RankAt, RequestFacts, Running, Usual
from orchestrator.domain.explaining.gangs import explain_gang
from orchestrator.domain.explaining.pools import explain_pool
from orchestrator.domain.explaining.requests import explain_request
from orchestrator.domain.explaining.words import Cause, Explanation, Finding, Step

__all__ = [
    "Cause",
    "Explanation",
    "Finding",
    "GangFacts",
    "PoolFacts",
    "RankAt",
    "RequestFacts",
    "Running",
    "Step",
    "Usual",
    "explain_gang",
    "explain_pool",
    "explain_request",
]
