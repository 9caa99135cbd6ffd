"""The card of a trained model: ``README.md`` with the metadata that the Hub reads, and ``training.json``."""

from __future__ import annotations

import json
from pathlib import Path

from nearfield.evaluation.json_types import JsonDict, JsonMapping
from nearfield.training.fine_tuning.figures import Verdict
from nearfield.training.fine_tuning.preparation import PreparedRun
from nearfield.training.fine_tuning.run_folder import library_versions
from nearfield.training.fine_tuning.torch_training.dev_curve import DevCurve

_TAGS = {"dense": "sentence-similarity", "scores": "text-ranking"}
_HEADER = "| set | metric | before | after | difference | 95% interval | p |\n|---|---|---|---|---|---|---|"


def write_card(
    folder: Path, prepared: PreparedRun, comparisons: JsonMapping, curve: DevCurve, share: JsonMapping, verdict: Verdict
) -> None:
    """Write both files into the folder of a trained model."""
    facts: JsonDict = {
        "base": prepared.base.to_dict(),
        "data": {"name": prepared.data.name, **prepared.data.counts(), **prepared.digests},
        "leaked": prepared.leaked,
        "loss": prepared.loss.name,
        "options": prepared.options.to_dict(),
        "average": dict(share),
        "comparisons": dict(comparisons),
        "verdict": verdict.to_dict(),
        "dev": curve.to_dict(),
        "versions": library_versions(),
    }
    (folder / "training.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")
    (folder / "README.md").write_text(_render(prepared, facts), encoding="utf-8")


def _render(prepared: PreparedRun, facts: JsonDict) -> str:
    base = prepared.base
    leaked = " **Leaked: rows of these sets were trained on.**" if facts["leaked"] else ""
    data = facts["data"]
    counts = ", ".join(f"{value} {name}" for name, value in data.items() if isinstance(value, int))
    return "\n".join(
        (
            _front_matter(prepared),
            f"# {base.name}, trained on {prepared.data.name}\n",
            f"Trained with Nearfield from {base.name} (weights {base.digest[:16]}).",
            f"Licence of the base: {base.recipe.licence or 'not stated'}; that of the data may restrict use further.\n",
            f"## Figures\n\nMeasured before and after, in points of 100.{leaked}\n",
            _HEADER,
            *(_row(name, row) for name, row in facts["comparisons"].items()),
            "",
            *facts["verdict"]["reasons"],
            f"\n## Training\n\n- Data: {counts}; SHA-256 {data['data']}.",
            f"- Test: SHA-256 {data['test']}.",
            *(f"- Guard {name}: SHA-256 {digest}." for name, digest in data["guards"].items()),
            f"- Loss {facts['loss']}; weights {facts['average']['share']:g} of the trained ones, the rest of the base.",
            f"- Settings: `{json.dumps(facts['options'])}`",
            f"- Versions: {', '.join(f'{name} {number}' for name, number in facts['versions'].items())}.",
            *(f"- Prompt of a {role}: `{prompt}`" for role, prompt in base.prompts.items() if prompt),
            "",
        )
    )


def _front_matter(prepared: PreparedRun) -> str:
    base = prepared.base
    values = {
        "license": base.recipe.licence,
        "base_model": base.name,
        "library_name": "peft" if prepared.options.adapter else "sentence-transformers",
        "pipeline_tag": _TAGS.get(base.kind, "feature-extraction"),
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value]
    return "\n".join(("---", *lines, "tags:", "- nearfield", "---", ""))


def _row(name: str, row: JsonMapping) -> str:
    low, high = row["interval"]
    figures = f"{row['before']:.2f} | {row['after']:.2f} | {row['difference']:+.2f}"
    return f"| {name} | {row['metric']} | {figures} | {low:+.2f} to {high:+.2f} | {row['p']:.4f} |"
