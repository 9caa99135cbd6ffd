"""Speed measurements: workloads, load tests and the environment they ran in."""
