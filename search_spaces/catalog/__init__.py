"""Published backbones as points of the search space: one file a family, found by `nas.search_spaces.catalog.entry`."""
