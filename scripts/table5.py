"""The paper's Table 5: all methods, with precision, recall, density and coverage.

    python scripts/table5.py        # of the study embedded; --study, --seeds and --outdir name others

Trains what is not finished, resuming what was begun; prints the table, and writes it as table5.md beside the report.
"""

from hmgan.study.paper import script

if __name__ == "__main__":
    script(5, "embedded")
