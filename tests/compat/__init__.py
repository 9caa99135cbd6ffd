"""Tests of classes with the names and signatures of other libraries."""
