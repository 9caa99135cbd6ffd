"""Amazon Bedrock's API of embedding models."""
