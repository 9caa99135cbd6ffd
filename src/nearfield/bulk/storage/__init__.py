"""Where folders of shards are: on a disk, or on S3-compatible storage."""
