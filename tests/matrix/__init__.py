"""The matrix: the core alone, with each single plugin distribution, without each single one, and everything together.

    python -m tests.matrix            # `make matrix`; resumable: a cell that is done without a failure is not run again
    python -m tests.matrix --only 'without amc-pruning' --seconds inf
    python -m tests.matrix --part 1/2 & python -m tests.matrix --part 2/2     # once `everything` is done

`places` makes environments in which a distribution is truly absent, for its entry points, its imports and every subprocess.
`recorder` finds out, in one run with everything installed, which distributions each test needs; `select` is the pytest plugin
that skips in a cell what needs something absent, and nothing else. `results.md` is the outcome.
"""
