"""The paper's Table 4: methods by targets.

    python scripts/table4.py        # of the study embedded; --study, --seeds and --outdir name others

Trains what is not finished, resuming what was begun; prints the table, and writes it as table4.md beside the report.
"""

from hmgan.study.paper import script

if __name__ == "__main__":
    script(4, "embedded")
