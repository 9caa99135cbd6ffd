"""Nearfield's API of jobs: labels, topics, recommendations, outliers, drift and duplicates of many texts at once."""
