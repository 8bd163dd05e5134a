"""Position priors of attention, one file each; `nas.search_spaces.operators.attention_base` lists them."""
