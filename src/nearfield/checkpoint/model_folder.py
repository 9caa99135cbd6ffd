"""Read a Hugging Face model folder, and what the catalogue adds to it, into one frozen recipe."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nearfield.checkpoint import json_file, modules, output_kinds, static_embeddings, towers
from nearfield.checkpoint.default_pooling import architecture_of, dense_modules, token_width
from nearfield.checkpoint.folder_facts import CatalogFacts, FolderFacts
from nearfield.checkpoint.json_file import JsonDict
from nearfield.checkpoint.max_length import read_max_length
from nearfield.checkpoint.prompts import instruction_template, read_default_prompt, read_prompts
from nearfield.checkpoint.text_part import OVERFLOWING
from nearfield.checkpoint.towers.page_retrievers import is_page_retriever, processor_folder, read_page_retriever
from nearfield.checkpoint.transformer_config import Transformer, read_transformer
from nearfield.checkpoint.weights import weights
from nearfield.errors import ModelRefused, nearest
from nearfield.recipe import ClassScores, HeadSpec, MergedWeights, Module, Recipe, RerankPrompt, Rows, TextRules

SIMILARITIES = {name: name for name in ("cosine", "dot", "euclidean", "manhattan")} | {"dot_product": "dot"}
#: Where a folder of sentence-transformers states the sizes that its vectors were trained to be truncated to. Only
#: `nearfield train` writes it, in ``config_sentence_transformers.json``; sentence-transformers reads over it.
MATRYOSHKA_KEY = "matryoshka_dimensions"
#: The modules to the dense vector, the other heads, and the size of the main output.
ModulesAndHeads = tuple[tuple[Module, ...], tuple[HeadSpec, ...], int]


def read_model_folder(
    folder: Path,
    *,
    name: str | None = None,
    revision: str | None = None,
    entry: CatalogFacts | None = None,
    kind: str | None = None,
    exported_graph: str | None = None,
    answer: RerankPrompt | None = None,
) -> Recipe:
    """Read a model folder. ``entry``, the catalogue's, supplies what the folder omits; ``origins`` says which.

    Args:
        folder: the model folder.
        name: the model's name; the folder's name when left out.
        revision: the commit that the files are from.
        entry: the catalogue's entry.
        kind: dense, sparse, multivector or scores; overrules what the files say the model is.
        exported_graph: a file in the folder that contains the encoder as a graph; it replaces the weights.
        answer: how a language model is asked to score pairs.

    Raises:
        ModelRefused: the files would not give this model's own vectors; the message says which file and why.
    """
    meta = json_file.read_optional(folder / "config_sentence_transformers.json")
    if (folder / "adapter_config.json").is_file():
        raise ModelRefused(f"{folder} holds a PEFT adapter: load its base model, with this folder as an adapter")
    stages = modules.read_stages(folder)
    queries = None
    if stages is not None and [stage.kind for stage in stages] == ["Router"]:
        stages, queries = output_kinds.routed(folder)
    builder = _RecipeBuilder(FolderFacts(folder, meta, entry), stages)
    if static_embeddings.is_static(folder, stages):
        return builder.build_static(name, revision)
    if is_page_retriever(stages[0].folder if stages else folder):
        if (kind or output_kinds.MULTIVECTOR) != output_kinds.MULTIVECTOR or exported_graph is not None or answer:
            raise ModelRefused(f"{folder} holds a retriever of pages: kind, file and answer do not apply to it")
        return builder.build_page_retriever(name, revision)
    if towers.holds_towers(stages[0].folder if stages else folder):
        if (kind or output_kinds.DENSE) != output_kinds.DENSE or exported_graph is not None or answer is not None:
            raise ModelRefused(f"{folder} holds towers of dense vectors: kind, file and answer do not apply to it")
        return builder.build_towers(name, revision)
    return builder.build(name, revision, kind=kind, exported_graph=exported_graph, answer=answer, queries=queries)


def read_merged_retriever(
    merged: MergedWeights, *, name: str | None = None, revision: str | None = None, entry: CatalogFacts | None = None
) -> Recipe:
    """Read the folder of an adapter that is a retriever of pages, once it is merged into its base model.

    Raises:
        ModelRefused, WeightsError: the two do not fit together, or a file says something that is unknown here.
    """
    meta = json_file.read_optional(merged.adapter / "config_sentence_transformers.json")
    builder = _RecipeBuilder(FolderFacts(merged.adapter, meta, entry), modules.read_stages(merged.adapter))
    return builder.build_page_retriever(name, revision, merged)


def overlay(recipe: Recipe, folder: Path) -> Recipe:
    """Return the recipe with the modules and prompts of an adapter's folder, where that has any."""
    stages = modules.read_stages(folder)
    meta = json_file.read_optional(folder / "config_sentence_transformers.json")
    changes: dict[str, Any] = {}
    if stages is not None and recipe.modules:
        chain, dimensions = modules.read_modules(stages, token_width(folder, recipe.config))
        changes.update(modules=chain, dimensions=dimensions)
    if meta.get("prompts"):
        changes["prompts"] = MappingProxyType({**recipe.prompts, **read_prompts(FolderFacts(folder, meta))})
    return replace(recipe, **changes)


class _RecipeBuilder:
    """Builds the recipe of one folder from its facts and the stages of its modules.json."""

    def __init__(self, facts: FolderFacts, stages: tuple[modules.ModuleStage, ...] | None) -> None:
        self._facts, self._stages = facts, stages
        self._folder, self._entry = facts.folder, facts.entry

    def build(
        self,
        name: str | None,
        revision: str | None,
        *,
        kind: str | None,
        exported_graph: str | None,
        answer: RerankPrompt | None,
        queries: Path | None,
    ) -> Recipe:
        """Return the recipe of a transformer. ``queries`` holds the weights of queries that need no model."""
        home = self._stages[0].folder if self._stages else self._folder
        transformer = read_transformer(home)
        if exported_graph is None:
            weights.files(home)
        self._apply_causality(transformer.config)
        answer = answer or (self._entry.answer if self._entry else None)
        main = self._main_output(kind, transformer, answer, queries)
        chain, heads, dimensions = self._modules_and_heads(main, transformer, answer, queries)
        recipe = Recipe(
            folder=home,
            config=MappingProxyType(transformer.config),
            modules=chain,
            heads=heads,
            exported_graph=None if exported_graph is None else self._folder / exported_graph,
            dimensions=dimensions,
            max_length=read_max_length(transformer, self._facts),
            do_lower_case=transformer.do_lower_case,
            tokenizer_settings=MappingProxyType(transformer.tokenizer_settings),
            text_rules=TextRules(tail=self._entry.tail if self._entry else ""),
            centre=bool(self._entry and self._entry.centre),
            tasks=self._entry.tasks if self._entry else MappingProxyType({}),
            unsupported_precisions=self._unsupported_precisions(transformer.config),
            **self._shared(name, revision, dimensions, instructions=True),
        )
        return recipe if exported_graph is not None else self._fused(recipe, main)

    def _fused(self, recipe: Recipe, main: str) -> Recipe:
        """Return the recipe with the towers whose rows enter its sequence, and the template around each input."""
        template = towers.read_chat_template(recipe.folder) if main == output_kinds.DENSE else None
        recipe = recipe if template is None else template.applied(recipe)
        warnings: list[str] = []
        fused = towers.read_fused_towers(recipe.folder, recipe, warnings)
        return replace(recipe, fused=fused, warnings=(*recipe.warnings, *warnings))

    def build_static(self, name: str | None, revision: str | None) -> Recipe:
        """Return the recipe of a table of static embeddings, which has neither a transformer nor a config of one."""
        home, config, chain = static_embeddings.read_static_embeddings(self._folder, self._stages)
        return Recipe(
            folder=home,
            config=MappingProxyType(config),
            modules=chain,
            dimensions=config["hidden_size"],
            max_length=config["max_position_embeddings"],
            **self._shared(name, revision, config["hidden_size"], instructions=False),
        )

    def build_towers(self, name: str | None, revision: str | None) -> Recipe:
        """Return the recipe of the text tower with those of the others, or that of the only tower."""
        home = self._stages[0].folder if self._stages else self._folder
        transformer = towers.read_tower_transformer(home)
        towers.check_modalities(home, transformer.modalities)
        main, *others = towers.read_towers(home, transformer.config, self._stages)
        shared: dict[str, Any] = {"folder": home, "normalize_by_default": not main.normalized}
        if main.modality == "text":
            rules, lowercase = towers.read_text_rules(home, main.config)
            own = replace(transformer, config=dict(main.config))
            shared |= {"text_rules": rules, "do_lower_case": lowercase or transformer.do_lower_case}
            shared |= {"max_length": read_max_length(own, self._facts), "zero_shot": towers.read_zero_shot(home)}
            shared["tokenizer_settings"] = MappingProxyType(transformer.tokenizer_settings)
        shared |= self._shared(name, revision, main.dimensions, instructions=False)
        recipes = [_tower_recipe(tower, shared) for tower in (main, *others)]
        return replace(recipes[0], towers=MappingProxyType({one.modality: one for one in recipes[1:]}))

    def build_page_retriever(
        self, name: str | None, revision: str | None, merged: MergedWeights | None = None
    ) -> Recipe:
        """Return the recipe of a visual document retriever: multi-vectors of pages and of queries."""
        home = processor_folder(self._stages[0].folder if self._stages else self._folder, merged)
        retriever = read_page_retriever(home, self._stages, merged)
        transformer = read_transformer(home, tower=retriever.text)
        shared = self._shared(name, revision, retriever.head.dimensions, instructions=False)
        own: dict[str, Any] = {"merged": merged, "modules": (), **shared, "similarity": "maxsim"}
        vision = MappingProxyType(retriever.vision)
        tower = Recipe(
            **own,
            folder=retriever.pictures,
            config=vision,
            heads=(Rows(),),
            dimensions=0,
            max_length=0,
            modality="image",
        )
        return Recipe(
            **own,
            folder=home,
            config=MappingProxyType(transformer.config),
            heads=(retriever.head,),
            dimensions=retriever.head.dimensions,
            max_length=read_max_length(transformer, self._facts),
            do_lower_case=transformer.do_lower_case,
            tokenizer_settings=MappingProxyType(transformer.tokenizer_settings),
            text_rules=retriever.format.rules,
            fused=MappingProxyType({"image": tower}),
        )

    def _shared(self, name: str | None, revision: str | None, dimensions: int, *, instructions: bool) -> dict[str, Any]:
        """Return the fields that all recipes have. Called last: it takes the record of origins as it is then."""
        prompts = read_prompts(self._facts)
        fields = {
            "name": name or self._folder.resolve().name,
            "revision": revision,
            "prompts": MappingProxyType(prompts),
            "default_prompt_name": read_default_prompt(prompts, self._facts),
            "instruction": instruction_template(prompts, self._entry) if instructions else "",
            "similarity": self._similarity(),
            "truncate_dim": self._truncate_dim(dimensions),
            "max_active_dims": self._max_active_dims(),
            "matryoshka": self._entry.matryoshka if self._entry else self._trained_sizes(dimensions),
            "licence": self._licence(),
        }
        origins, warnings = MappingProxyType(self._facts.origins), tuple(self._facts.warnings)
        return {**fields, "origins": origins, "warnings": warnings}

    def _apply_causality(self, config: JsonDict) -> None:
        """Apply the catalogue's word on causal attention: for such models it is all that their own code is for."""
        if self._entry is not None and self._entry.is_causal is not None:
            config["is_causal"] = self._entry.is_causal
            config.pop("auto_map", None)

    def _main_output(
        self, kind: str | None, transformer: Transformer, answer: RerankPrompt | None, queries: Path | None
    ) -> str:
        """Return the kind of the main output: by argument, by catalogue (where it is not the usual), by the files."""
        if queries:
            return output_kinds.SPARSE
        if answer:
            return output_kinds.SCORES
        unusual = self._entry.kind if self._entry and self._entry.kind != output_kinds.DENSE else None
        architecture = architecture_of(transformer.config)
        return kind or unusual or output_kinds.kind_of(self._facts.meta, self._stages, architecture)

    def _modules_and_heads(
        self, kind: str, transformer: Transformer, answer: RerankPrompt | None, queries: Path | None
    ) -> ModulesAndHeads:
        folder, meta, stages, config = self._folder, self._facts.meta, self._stages, transformer.config
        if kind != output_kinds.MULTIVECTOR and (transformer.query_length or transformer.query_expansion):
            raise ModelRefused(f"{folder} sets query_length or query_expansion, which only late interaction has")
        if kind in (output_kinds.DENSE, output_kinds.MULTIVECTOR) and transformer.task != "feature-extraction":
            raise ModelRefused(f"{folder} holds a {kind} model, and its transformer_task is {transformer.task!r}")
        if kind == output_kinds.SCORES:
            scores = self._scores(config, answer)
            return (), (scores,), len(scores.labels) if isinstance(scores, ClassScores) else 1
        if kind == output_kinds.SPARSE:
            return (), (output_kinds.splade(folder, stages, queries),), int(config.get("vocab_size") or 0)
        width = token_width(folder, config)
        if kind == output_kinds.MULTIVECTOR:
            multivector = output_kinds.multivector(folder, meta, stages, transformer, width)
            return (), (multivector,), multivector.dimensions
        chain, dimensions = dense_modules(stages, config, self._facts)
        beside = (output_kinds.lexical(folder, config), output_kinds.m3_colbert(folder, width))
        return chain, tuple(head for head in beside if head is not None), dimensions

    def _scores(self, config: JsonDict, answer: RerankPrompt | None) -> ClassScores | RerankPrompt:
        facts, stages = (self._folder, self._facts.meta), self._stages
        if stages is not None and output_kinds.is_pooled_classifier(stages):
            return output_kinds.pooled_scores(*facts, stages, config, token_width(self._folder, config))
        return output_kinds.scores(*facts, stages, config, answer)

    def _unsupported_precisions(self, config: JsonDict) -> tuple[str, ...]:
        stated = self._entry.forbid if self._entry else ()
        return stated or OVERFLOWING.get(str(config.get("model_type")), ())

    def _similarity(self) -> str:
        name = self._facts.meta.get("similarity_fn_name")
        if name is None and self._entry:
            self._facts.origins["similarity"] = "catalogue"
            name = self._entry.similarity
        if name is None:
            return "cosine"
        if str(name).lower() in ("maxsim", "meanmaxsim"):
            return "maxsim"
        if name not in SIMILARITIES:
            known = nearest(str(name), SIMILARITIES)
            raise ModelRefused(f"{self._folder} names the unknown similarity {name!r}. {known}")
        return SIMILARITIES[name]

    def _truncate_dim(self, dimensions: int) -> int | None:
        size = self._facts.meta.get("truncate_dim")
        if size is None:
            return None
        if type(size) is not int or size < 1:
            raise ModelRefused(f"{self._folder} sets truncate_dim to {size!r}, not to a positive whole number")
        return size if size < dimensions else None

    def _trained_sizes(self, dimensions: int) -> tuple[int, ...]:
        """Return the sizes that the vectors were trained to be truncated to, as ``nearfield train`` writes them."""
        sizes = self._facts.meta.get(MATRYOSHKA_KEY)
        if not isinstance(sizes, list):
            return ()
        return tuple(size for size in sizes if type(size) is int and 0 < size < dimensions)

    def _max_active_dims(self) -> int | None:
        size = self._facts.meta.get("max_active_dims")
        if size is not None and (type(size) is not int or size < 1):
            raise ModelRefused(f"{self._folder} sets max_active_dims to {size!r}, not to a positive whole number")
        return size

    def _licence(self) -> str | None:
        if self._entry is not None:
            return self._entry.licence
        card = self._folder / "README.md"
        if not card.is_file():
            return None
        header = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
        match = re.search(r"^license:\s*['\"]?([\w.\-]+)", header, re.MULTILINE) if header.startswith("---") else None
        if match:
            self._facts.origins["licence"] = "README.md"
        return match and match[1]


def _tower_recipe(tower: towers.Tower, shared: dict[str, Any]) -> Recipe:
    """Return the recipe of one tower; ``shared`` are the fields that all towers of a model have."""
    own = {
        "config": MappingProxyType(dict(tower.config)),
        "modules": tower.modules,
        "dimensions": tower.dimensions,
        "modality": tower.modality,
    }
    if tower.modality != "text":
        text = ("text_rules", "do_lower_case", "tokenizer_settings")
        shared = {key: value for key, value in shared.items() if key not in text}
        own["max_length"] = towers.count_patches(tower.config) if tower.modality == "image" else 0
    return Recipe(**{**shared, **own})
