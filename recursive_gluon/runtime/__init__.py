"""Plans to NDArrays. Executors share one interface (`executor.Call` in, `Result` out) and must agree.

`reference` interprets frame by frame and differentiates with MXNet's tape: the oracle. `batched` launches a CachedOp
per segment and level and differentiates by the rule tables. `invoke_op` is the operator that both stand behind.
Invariant: an executor never changes its inputs; auxiliary states are returned, not written.
"""
