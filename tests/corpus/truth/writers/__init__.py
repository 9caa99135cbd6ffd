"""Writers: one function for each format, which renders a topic as a file of that format."""
