"""Weights of Hugging Face model folders: safetensors and PyTorch files, digests and LoRA adapters."""
