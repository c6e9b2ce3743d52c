"""The paper's Table 2: per-class tables, hypernetwork, class MLP and contrastive loss.

    python scripts/table2.py        # of the study embedded; --study, --seeds and --outdir name others

Trains what is not finished, resuming what was begun; prints the table, and writes it as table2.md beside the report.
"""

from hmgan.study.paper import script

if __name__ == "__main__":
    script(2, "embedded")
