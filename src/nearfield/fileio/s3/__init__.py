"""Objects on S3-compatible storage: their paths, their content, and writes that replace nothing unseen."""
