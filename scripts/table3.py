"""The paper's Table 3: path lengths from class to class, without and with the class MLP.

    python scripts/table3.py        # of the study embedded; --study, --seeds and --outdir name others

Trains what is not finished, resuming what was begun; prints the table, and writes it as table3.md beside the report.
"""

from hmgan.study.paper import script

if __name__ == "__main__":
    script(3, "embedded")
