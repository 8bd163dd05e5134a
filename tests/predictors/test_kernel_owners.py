from onnx import TensorProto, helper

from nas.predictors.kernel_owners import kernel_owners


def test_a_kernel_belongs_to_the_node_that_it_is_named_after_or_that_asks_for_its_layout():
    kernels = [
        ("stem/conv_nchwc", "Conv", ["image"], ["token_1"]),
        ("ReorderOutput", "ReorderOutput", ["token_1"], ["stem/conv"]),
        ("fused", "SkipLayerNormalization", ["stem/conv"], ["split/norm", "stem/add"]),
        ("ReorderInput", "ReorderInput", ["split/norm"], ["token_2"]),
        ("pooled/pool_nchwc", "AveragePool", ["token_2"], ["token_3"]),
        ("input_reshape", "Reshape", ["split/norm"], ["token_4"]),
        ("branch/MatMul/MatMulAddFusion", "Gemm", ["token_4"], ["token_5"]),
        ("join/concat", "Concat", ["token_3", "token_5", "token_4"], ["logits"]),
        ("ReorderOutput", "ReorderOutput", ["logits"], ["unread"]),
    ]
    made = [helper.make_node(kind, read, put, name=name) for name, kind, read, put in kernels]
    sides = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in ("image", "logits")]
    names = ["stem", "split", "pooled", "branch", "join"]
    owners = kernel_owners(helper.make_graph(made, "g", *sides), names)
    assert [names[place] for place in owners] == [
        "stem", "stem", "split", "pooled", "pooled", "branch", "branch", "join", "join",
    ]  # fmt: skip
