"""Tests of runs on a cluster with inputs and outputs on S3."""
