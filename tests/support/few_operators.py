"""A space of small networks of few operators, for tests that export some of them: one of `tiny` takes seconds."""

from nas.search_spaces.presets import load_space
from nas.search_spaces.space import SearchSpace

FEW = SearchSpace.from_mapping(
    {"name": "few", "depths": [[1, 2], [1, 2]], "widths": [[16], [32]], "mixers": ["pooling", "mbconv", "global_attention"],
     "splits": [1.0], "partners": ["pooling"], "channel_mixers": ["mlp", "conv_mlp"], "downsamples": ["conv"], "strides": []},
    load_space("tiny"),
)  # fmt: skip
