"""Tests of collections on a cluster."""
