"""Parts that extractors of office files share: packages of XML parts, charts, equations, numbering and sheets."""
