"""The options of every verb, each declared once: what the command line offers, and what the code behind it is handed.

The docstring of a class is the help of its verb. A field without typer's annotation is not on the command line.
Every number has bounds: its own, or those of the setting that it stands for.
Nothing heavier than typer is imported here: `--help` reads these files.
"""
