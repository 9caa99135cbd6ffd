"""Between Python objects and the engine: options, inputs, compiled models, postprocessing and caches of results."""
