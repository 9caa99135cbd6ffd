"""The table of published quality in ``src/nearfield/catalog/quality/figures.toml``, from the raw results of MTEB.

``python -m tools.quality FOLDER`` prints how well estimates agree with figures that were hidden from them; ``--write``
writes the tables, and ``--hidden`` prints how much worse estimates are where less of a model is known. FOLDER holds:

- ``scores_tasks.tsv.gz``: columns model, task, type, language, subset, split, metric, score, revision, source; one row
  for each figure in https://github.com/embeddings-benchmark/results (CC0).
- ``scores.tsv.gz``: columns model, benchmark_or_task, language, metric, score, tasks, source; means over whole
  benchmarks, and figures from other places.
- ``scores_suspicious.tsv``: model, task, and why a figure is left out.

A purpose is the mean of the figures of its tasks. Where a model lacks some, a factor analysis over all models and tasks
estimates them; the error is what hiding known figures shows. ``tasks.json.gz`` has the values of the tasks.

Left out are, besides what ``scores_suspicious.tsv`` names: LongEmbed of runs that cut texts short, tasks that find less
among fewer documents, all runs of a revision with several of these, and means over benchmarks with a run that is left
out.
"""
