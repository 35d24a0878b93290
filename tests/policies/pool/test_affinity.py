"""Children go where their prefix is cached: hits of the embedded engine with four replicas against one."""

from __future__ import annotations

import asyncio

from experiments.benchmarks import pool


def test_routing_by_prompt_keeps_the_hits_of_one_replica_and_random_routing_does_not(monkeypatch):
    monkeypatch.setattr(pool, "PROBLEMS", 6)

    async def main():
        return await pool.hits(1, 0), await pool.hits(4, 0), await pool.hits(4, 0, scattered=True)

    one, four, scattered = asyncio.run(main())
    assert one > 0.5, "there is something to keep"
    assert four >= 0.95 * one
    assert scattered < 0.95 * one
