from __future__ import annotations

import gathered
import pytest
import ranks


@pytest.mark.parametrize("world", [2, 3])
def test_gathered_rows_take_the_sum_of_all_ranks_gradients(world):
    ranks.run(world, gathered.main, world)
