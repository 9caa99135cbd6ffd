"""A LoRA adapter on a live model (Hu et al., arXiv 2106.09685), by PEFT."""

from __future__ import annotations

from nearfield.training.fine_tuning.torch_training.models import TorchModel, train_library

#: The scale of an adapter is alpha / rank; alpha is this many times the rank.
_ALPHA = 2
_DROPOUT = 0.05
#: Layers that no vector is computed from: an adapter of them would be weight without effect.
_UNUSED = ["pooler", "lm_head", "cls", "vocab_transform", "vocab_projector", "classifier", "score", "head"]


def add_adapter(model: TorchModel, rank: int, seed: int) -> None:
    """Freeze the model, and add an adapter to all linear layers of its transformer; the seed decides its values."""
    torch, peft = train_library("torch"), train_library("peft")
    unused = "|".join(_UNUSED)
    config = peft.LoraConfig(
        task_type=peft.TaskType.FEATURE_EXTRACTION,
        r=rank,
        lora_alpha=_ALPHA * rank,
        lora_dropout=_DROPOUT,
        target_modules="all-linear",
        exclude_modules=rf"(.*\.)?({unused})(\..*)?",
    )
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.add_adapter(config)
