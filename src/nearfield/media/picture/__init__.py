"""Pictures beside their decoding: headers of files, and pages of PDF files."""
