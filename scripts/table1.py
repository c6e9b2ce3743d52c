"""The paper's Table 1: methods that transfer a GAN without classes.

    python scripts/table1.py        # of the study embedded-unconditional; --study, --seeds and --outdir name others

Trains what is not finished, resuming what was begun; prints the table, and writes it as table1.md beside the report.
"""

from hmgan.study.paper import script

if __name__ == "__main__":
    script(1, "embedded-unconditional")
