"""A compiler for tests: it traces as inductor does and runs torch's own kernels, so no C++ compiler is waited for."""

from __future__ import annotations

from torch._dynamo.backends.registry import lookup_backend, register_backend

TRACED = "traced"
"""Its name, as `model.execution.backend` takes it once this module is imported."""

register_backend(lookup_backend("aot_eager"), name=TRACED)
