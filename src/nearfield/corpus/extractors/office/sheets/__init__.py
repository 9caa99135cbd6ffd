"""Sheets of workbooks: cells, number formats, merged cells, heads and tables."""
