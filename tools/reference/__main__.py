"""Write every generated page of ``docs/reference``."""

from __future__ import annotations

from tools.reference.pages import FOLDER, render_pages

if __name__ == "__main__":
    for name, text in render_pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
