"""Adapters between artifacts and the domain: a step reads, calls one function, logs and returns."""

from stacks.same_code import require_same_code

# Here and not in a hook, whose errors ZenML writes to the log and passes over.
require_same_code()
