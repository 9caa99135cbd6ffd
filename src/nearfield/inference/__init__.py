"""Model inference: what stands between a Python object and the engine: inputs, options, results and caches."""
