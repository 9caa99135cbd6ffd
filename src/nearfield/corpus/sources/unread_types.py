"""Types of files that are not read: what they are, by their suffixes, for reports."""

from __future__ import annotations

#: By kind: the suffixes, and what the user can do.
_KINDS: dict[str, tuple[str, str]] = {
    "pictures": ("heic heif ico psd raw cr2 nef avif", "OCR reads .png, .jpg and .tif: convert them"),
    "vector drawings": ("svg svgz ai eps ps", "OCR does not read them: export them as PDF, which keeps their text"),
    "sound": ("mp3 wav flac ogg m4a aac opus wma aiff", "what is said is read with 'speech = true' (--speech)"),
    "video": (
        "mp4 mkv mov avi webm wmv m4v mpg mpeg flv",
        "what is said is read with 'speech = true' (--speech); or index its subtitles",
    ),
    "archives": ("gz bz2 xz 7z rar zst jar iso dmg", "unpack them"),
    "programs": ("exe dll so dylib msi deb rpm apk bin o a class pyc pyd wasm whl", ""),
    "fonts": ("ttf otf woff woff2 eot", ""),
    "databases": ("db sqlite sqlite3 mdb accdb dbf", "export their tables as .csv or .jsonl"),
    "data of programs": ("npy npz pkl pickle pt pth onnx safetensors h5 hdf5 mat rds rdata arrow feather", ""),
    "old Office documents": ("doc xls ppt dot xlt pps", "save them as .docx, .xlsx or .pptx"),
    "Office templates and macros": ("docm dotx xlsm xltx pptm potx xlsb", "save them as .docx, .xlsx or .pptx"),
    "OpenDocument files": ("odt ods odp odg ott ots otp", "save them as .docx, .xlsx, .pptx or PDF"),
    "Apple documents": ("pages numbers key keynote", "export them as PDF"),
    "Publisher, Visio and Project files": ("pub vsd vsdx mpp one", "export them as PDF"),
    "drawings and models": ("dwg dxf stl obj step stp blend skp", "export them as PDF"),
    "e-books": ("mobi azw azw3 fb2 djvu", "convert them to PDF or HTML"),
    "mail": ("pst ost", "export it as .eml or .mbox"),
    "keys and certificates": ("pem key crt cer der p12 pfx gpg asc", ""),
    "temporary files": ("tmp temp bak swp lock part crdownload", ""),
}
_BY_SUFFIX = {f".{suffix}": kind for kind, (suffixes, _) in _KINDS.items() for suffix in suffixes.split()}
_NO_EXTRACTOR = "no extractor for "


def describe_skipped(reason: str, count: int) -> str:
    """Return a line for files that were skipped for the same reason."""
    files = "1 file" if count == 1 else f"{count:,} files"
    suffix = reason.removeprefix(_NO_EXTRACTOR)
    if suffix == reason or not suffix.startswith("."):
        return f"{files}: {reason}"
    kind = _BY_SUFFIX.get(suffix)
    if kind is None:
        return f"{files} {suffix}: the type is unknown; if they are text, rename them to .txt"
    advice = _KINDS[kind][1]
    return f"{files} {suffix}: {kind}" + (f"; {advice}" if advice else "")
