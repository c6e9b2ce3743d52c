from __future__ import annotations

import ranks
import sums


def test_above_so_many_ranks_barlow_twins_has_the_same_gradients_by_sums_and_gathers_no_rows(shards, source, tmp_path):
    ranks.run(2, sums.main, shards, source, tmp_path)
