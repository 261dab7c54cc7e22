"""Measurements: each module here is one command, `python -m benchmarks.NAME`; `python -m benchmarks` runs all in turn.

Ratios count, not milliseconds: whatever is compared runs in one process tree, in one run, in turn. Every result file
says how, on what machine, under what load. Peers (Ray Serve, procrastinate) are optional: they run under the
interpreter that MUSTER_BENCH_PYTHON names, else under this one; what is missing is skipped, and the result says so.

All traffic goes to 127.0.0.1 and is bounded in count and in time.
"""
