import random

import pytest

from nas.errors import SpaceError
from nas.search_spaces.exclusion import operators_in, without
from nas.search_spaces.presets import load_space

SPACE = load_space("tiny")


def samples(space, number=60):
    return [space.sample(random.Random(index)) for index in range(number)]


@pytest.mark.parametrize("kind", ["token_mixer", "channel_mixer", "downsample", "norm", "stem"])
def test_no_member_has_what_is_left_out_and_all_members_are_of_the_whole_space(kind):
    counts = {}
    for member in samples(SPACE):
        for label in operators_in(member):
            counts[label] = counts.get(label, 0) + 1
    own = sorted(label for label in counts if label.startswith(f"{kind}:"))
    if len(own) < 2:
        pytest.skip(f"the space has one {kind}")
    smaller = without(SPACE, {own[0]})
    assert smaller.name == SPACE.name
    members = samples(smaller)
    assert all(own[0] not in operators_in(member) for member in members)
    assert all(SPACE.contains(member) for member in members[:10])


def test_nothing_to_leave_out_leaves_the_space_itself():
    assert without(SPACE, set()) is SPACE
    assert without(SPACE, {"token_mixer:not_of_this_space"}) is SPACE


def test_a_space_of_which_nothing_is_left_is_refused_by_name():
    with pytest.raises(SpaceError, match=r"no channel_mixers left without channel_mixer:"):
        without(SPACE, {f"channel_mixer:{name}" for name in SPACE.channel_mixers})
    with pytest.raises(SpaceError, match="no mixers left"):
        without(SPACE, {f"token_mixer:{name}" for stage in SPACE.mixers for name in stage})


def test_without_partners_no_block_is_split():
    smaller = without(SPACE, {f"token_mixer:{name}" for name in SPACE.partners})
    assert smaller.splits == (1.0,)
    assert all(len(block.mixers) <= 1 for member in samples(smaller) for stage in member.stages for block in stage.blocks)
