"""Reports: curves and documents, as Markdown and as HTML."""
