"""Jobs: decisions from vectors. Classes, topics, recommendations, outliers.

Each job is one public function in ``nearfield`` and one command. The libraries are those of the extra ``jobs``.
"""
