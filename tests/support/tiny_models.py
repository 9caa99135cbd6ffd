"""Tiny random checkpoints, written as true folders by the reference libraries: the truth to compare with.

Each ``tiny_*`` function writes a complete sentence-transformers folder and returns it. Weights are spread widely,
biases and norms included, so that vectors of different texts differ strongly and no layer can be skipped unnoticed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

VOCABULARY = """
the a of to and in is it that for on was with as are this be at by from an or have not they which one you had
were all their there when who will more no if out so said what up its about into than them can only other new
some could time these two may then do first any my now such like our over man me even most made after also did
many before must river bank water light night house small large fast slow query document passage search red
green blue fox dog cat jumps brown quick lazy sun moon star tree stone road city king queen war peace love day
year work play read write song
"""
WORDS = VOCABULARY.split()
PIECES = ["s", "ed", "ing", "er", "ly", "est", "tion", "ment", "ness", "able", "un", "re"]
POSITIONS = 66
SHIFTED = POSITIONS - 2  # RoBERTa and its kin count positions from the padding id on
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "",
    "  ",
    "a\0b",
    "Stars, moons & SUNS: 42% lighter!",
    "Größe, naïve café — 日本語のテキスト 🦊",
    "river " * 90,
    "read\n\n  write\tsing",
    "what is [MASK] <mask> [SEP] </s> ?",
)


def tiny_bert(folder: Path, **options: Any) -> Path:
    """BERT with WordPiece."""
    return _wordpiece(folder, "BertConfig", "BertTokenizer", options)


def tiny_electra(folder: Path, **options: Any) -> Path:
    """ELECTRA, whose embeddings are smaller than its layers."""
    return _wordpiece(folder, "ElectraConfig", "BertTokenizer", {"embedding_size": 24, **options})


def tiny_distilbert(folder: Path, **options: Any) -> Path:
    """DistilBERT, which names its sizes differently and has no token types."""
    names = {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
    }
    return _wordpiece(folder, "DistilBertConfig", "DistilBertTokenizer", options, names)


def tiny_mpnet(folder: Path, **options: Any) -> Path:
    """MPNet: relative position buckets, and positions that start at 2."""
    from transformers import MPNetTokenizer

    vocab = _wordpiece_vocab(("<s>", "<pad>", "</s>", "[UNK]", "<mask>"))
    return write(folder, "MPNetConfig", MPNetTokenizer(vocab=vocab, model_max_length=SHIFTED), options)


def tiny_roberta(folder: Path, **options: Any) -> Path:
    """RoBERTa with byte-level BPE, and positions that start at 2."""
    from transformers import RobertaTokenizer

    vocab, merges = _bytelevel_vocab()
    return write(
        folder, "RobertaConfig", RobertaTokenizer(vocab=vocab, merges=merges, model_max_length=SHIFTED), options
    )


def tiny_xlm_roberta(folder: Path, **options: Any) -> Path:
    """XLM-RoBERTa with a unigram vocabulary, and positions that start at 2."""
    from transformers import XLMRobertaTokenizer

    vocab = _unigram_vocab(("<s>", "<pad>", "</s>", "<unk>"))
    tokenizer = XLMRobertaTokenizer(vocab=vocab, model_max_length=SHIFTED)
    return write(folder, "XLMRobertaConfig", tokenizer, options)


def tiny_camembert(folder: Path, **options: Any) -> Path:
    """CamemBERT with a unigram vocabulary, and positions that start at 2."""
    from transformers import CamembertTokenizer

    vocab = _unigram_vocab(("<s>", "<pad>", "</s>", "<unk>"))
    tokenizer = CamembertTokenizer(vocab=vocab, model_max_length=SHIFTED)
    return write(folder, "CamembertConfig", tokenizer, options)


def tiny_modernbert(folder: Path, **options: Any) -> Path:
    """ModernBERT over WordPiece: three layers, of which the middle one is bounded to four places on either side."""
    sizes = {
        "num_hidden_layers": 3,
        "local_attention": 8,
        "layer_types": LOCAL,
        "initializer_range": 0.2,
        "pad_token_id": 0,
    }
    return _wordpiece(folder, "ModernBertConfig", "BertTokenizer", {**sizes, **options})


def tiny_nomic(folder: Path, **options: Any) -> Path:
    """NomicBERT over WordPiece."""
    return _wordpiece(folder, "NomicBertConfig", "BertTokenizer", {**ROTARY, **options})


def tiny_gte(folder: Path, **options: Any) -> Path:
    """GTE over WordPiece."""
    return _wordpiece(folder, "GteConfig", "BertTokenizer", {**ROTARY, "type_vocab_size": 2, **options})


def tiny_jina_v3(folder: Path, **options: Any) -> Path:
    """jina-embeddings-v3 over WordPiece."""
    return _wordpiece(folder, "JinaEmbeddingsV3Config", "BertTokenizer", {**ROTARY, **options})


def tiny_deberta(folder: Path, **options: Any) -> Path:
    """DeBERTa v3 over WordPiece: shared projections, buckets, normalised distances."""
    own = {"relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True}
    more = {"pos_att_type": ["c2p", "p2c"], "position_biased_input": False, "type_vocab_size": 0}
    return _wordpiece(folder, "DebertaV2Config", "BertTokenizer", {**ROTARY, **own, **more, **options})


def tiny_albert(folder: Path, **options: Any) -> Path:
    """ALBERT over WordPiece: four layers in two groups."""
    sizes = {"num_hidden_layers": 4, "num_hidden_groups": 2, "embedding_size": 24}
    return _wordpiece(folder, "AlbertConfig", "BertTokenizer", {**ROTARY, **sizes, **options})


ROTARY = {"initializer_range": 0.2, "pad_token_id": 0}
LOCAL = ["full_attention", "sliding_attention", "full_attention"]
TINY: Mapping[str, Callable[..., Path]] = {
    "bert": tiny_bert,
    "electra": tiny_electra,
    "distilbert": tiny_distilbert,
    "mpnet": tiny_mpnet,
    "roberta": tiny_roberta,
    "xlm-roberta": tiny_xlm_roberta,
    "camembert": tiny_camembert,
    "modernbert": tiny_modernbert,
    "nomic_bert": tiny_nomic,
    "gte": tiny_gte,
    "jina_embeddings_v3": tiny_jina_v3,
    "deberta-v2": tiny_deberta,
    "albert": tiny_albert,
}


def _wordpiece(
    folder: Path, config: str, tokenizer: str, options: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> Path:
    import transformers

    vocab = _wordpiece_vocab(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
    own = {"tokenize_chinese_chars", "strip_accents", "tokenizer_lower_case"} & options.keys()
    settings = {"do_lower_case" if key == "tokenizer_lower_case" else key: options[key] for key in own}
    rest = {key: value for key, value in options.items() if key not in own}
    return write(folder, config, getattr(transformers, tokenizer)(vocab=vocab, **settings), rest, names or {})


def write(
    folder: Path, config: str, tokenizer: Any, options: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> Path:
    """Write a model of a config class with a tokenizer; ``options`` are those of ``save`` and config fields."""
    import transformers

    ours = {key: options[key] for key in SAVE_OPTIONS if key in options}
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.5,
    }
    sizes.update({key: value for key, value in options.items() if key not in SAVE_OPTIONS})
    fields = {(names or {}).get(key, key): value for key, value in sizes.items()}
    fields["vocab_size"] = len(tokenizer)
    return save(folder, getattr(transformers, config)(**fields), tokenizer, **ours)


SAVE_OPTIONS = (
    "pooling",
    "include_prompt",
    "dense",
    "layer_norm",
    "normalize",
    "prompts",
    "default_prompt_name",
    "similarity",
    "truncate_dim",
    "max_seq_length",
    "do_lower_case",
    "old",
    "dtype",
    "seed",
    "safe",
    "shard_size",
)


def save(
    folder: Path,
    config: Any,
    tokenizer: Any,
    *,
    pooling: str | Sequence[str] = "mean",
    include_prompt: bool = True,
    dense: Sequence[Mapping[str, Any]] = (),
    layer_norm: bool = False,
    normalize: bool = True,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
    similarity: Any = None,
    truncate_dim: int | None = None,
    max_seq_length: int | None = None,
    do_lower_case: bool = False,
    old: bool = False,
    dtype: str = "float32",
    seed: int = 0,
    safe: bool = True,
    shard_size: str | None = None,
) -> Path:
    """Write a sentence-transformers folder with random weights.

    ``dense`` lists {"out": size, "bias": bool, "activation": torch.nn class name}; ``old`` rewrites the folder in the
    schema of before sentence-transformers 5.4; ``safe=False`` leaves torch's own weight files; ``shard_size`` such as
    "20KB" splits the weights.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize, Pooling, Transformer
    from transformers import AutoModel

    torch.manual_seed(seed)
    model: Any = AutoModel.from_config(config)
    model.eval()
    perturb(model)
    with tempfile.TemporaryDirectory() as place:
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        transformer = Transformer(place, max_seq_length=max_seq_length, do_lower_case=do_lower_case)
    modules: list[Any] = [transformer, Pooling(width(config), pooling, include_prompt=include_prompt)]
    for layer in dense:
        size = modules[-1].get_embedding_dimension()
        activation = getattr(torch.nn, layer.get("activation", "Tanh"))()
        modules.append(Dense(size, layer["out"], bias=layer.get("bias", True), activation_function=activation))
    if layer_norm:
        modules.append(LayerNorm(modules[-1].get_embedding_dimension()))
        perturb(modules[-1])
    if normalize:
        modules.append(Normalize())
    whole = SentenceTransformer(
        modules=modules,
        prompts=dict(prompts) if prompts else None,
        default_prompt_name=default_prompt_name,
        similarity_fn_name=similarity,
        truncate_dim=truncate_dim,
        device="cpu",
    )
    whole.to(getattr(torch, dtype))
    whole.save(str(folder), create_model_card=False, safe_serialization=safe)
    if shard_size:
        reshard(folder, transformer.auto_model, shard_size)
    if old:
        length = transformer.max_seq_length
        tokenizer.save_pretrained(str(folder))  # which in those days knew nothing of the settings beside it
        old_schema(folder, length, do_lower_case)
    return folder


def perturb(model: Any) -> None:
    """Move every bias and norm away from the zeros and ones it starts at, and let words outweigh positions."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * (0.1 if name.endswith("bias") else 0.2))
            elif "word_embeddings" in name:
                parameter.mul_(3)


def width(config: Any) -> int:
    """The size of a token's vector."""
    size = getattr(config, "hidden_size", None) or config.dim
    return int(size)


def reshard(folder: Path, model: Any, size: str) -> None:
    """Replace the weight file by shards of at most ``size``."""
    (folder / "model.safetensors").unlink()
    model.save_pretrained(str(folder), max_shard_size=size)


POOLING_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def old_schema(folder: Path, max_length: int, do_lower_case: bool) -> None:
    """Rewrite a folder's module files as sentence-transformers 2 to 4 wrote them."""
    modules = read(folder / "modules.json")
    for module in modules:
        name = module["type"].rsplit(".", 1)[1]
        module["type"] = f"sentence_transformers.models.{name}"
        if name == "Pooling":
            path = folder / module["path"] / "config.json"
            new = read(path)
            modes = [new["pooling_mode"]] if isinstance(new["pooling_mode"], str) else new["pooling_mode"]
            flags = {flag: mode in modes for mode, flag in POOLING_FLAGS.items()}
            size = {"word_embedding_dimension": new["embedding_dimension"]}
            dump(path, {**size, **flags, "include_prompt": new["include_prompt"]})
    dump(folder / "modules.json", modules)
    dump(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": do_lower_case})


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def dump(path: Path, value: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def edit(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file; None removes one."""
    value = {**(read(path) if path.exists() else {}), **changes}
    dump(path, {key: item for key, item in value.items() if item is not None})


def _wordpiece_vocab(special: Sequence[str]) -> dict[str, int]:
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*special, *letters, *(f"##{letter}" for letter in letters), *WORDS, *(f"##{piece}" for piece in PIECES)]
    tokens += ["ö", "##ö", "ß", "##ß", "é", "##é", "日", "本", "語", "The", "Stars"]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}


def _bytelevel_vocab() -> tuple[dict[str, int], Any]:
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet())])
    merges: dict[tuple[str, str], None] = {}
    for word in [*(f"\u0120{word}" for word in WORDS), *PIECES, "The", "Stars"]:
        for cut in range(1, len(word)):
            merges[word[:cut], word[cut]] = None
            tokens[word[: cut + 1]] = None
    tokens["<mask>"] = None
    return {token: index for index, token in enumerate(tokens)}, list(merges)


def _unigram_vocab(special: Sequence[str]) -> list[tuple[str, float]]:
    letters = [chr(code) for code in range(33, 127)] + ["▁", "ö", "ß", "é", "日", "本", "語"]
    scores = dict.fromkeys(special, 0.0)
    scores.update({f"▁{word}": -4.0 - index / 50 for index, word in enumerate([*WORDS, "The", "Stars"])})
    scores.update({piece: -7.0 - index / 50 for index, piece in enumerate(PIECES)})
    scores.update({letter: -9.0 - index / 50 for index, letter in enumerate(letters)})
    return [*scores.items(), ("<mask>", 0.0)]
