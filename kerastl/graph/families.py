"""Declared layer groups of the networks in `keras.applications`.

The numbers in group names are the network's own: ResNet's `conv2` to `conv5` give `stage_2` to
`stage_5`, EfficientNet's `block1a` to `block7d` give `block_1` to `block_7`. The layers of a
classification top (`avg_pool`, `predictions`) match no rule and become `head`.
"""

from kerastl.graph.group_rules import Family

_ACTIVATION = r"activation(?:_\d+)?"

APPLICATIONS = (
    Family(
        name="efficientnet",  # B0 to B7 and V2, also of KerasHub and KerasCV
        anchors=(r"stem_conv", r"block1a_.*"),
        rules=(
            ("stem", r"stem_.*"),
            ("block_{0}", r"block(\d+)[^\d_]_.*"),
            ("top", r"top_(?:conv|bn|activation)"),
        ),
    ),
    Family(
        name="resnet",  # 50, 101, 152
        anchors=(r"conv1_conv", r"conv2_block1_1_conv", r"conv2_block1_add"),
        rules=(
            ("stem", r"(?:conv1|pool1)_.*"),
            ("stage_{0}", r"conv(\d)_block\d+_.*"),
        ),
    ),
    Family(
        name="resnet_v2",
        anchors=(r"conv1_conv", r"conv2_block1_preact_bn"),
        rules=(
            ("stem", r"(?:conv1|pool1)_.*"),
            ("stage_{0}", r"conv(\d)_block\d+_.*"),
            ("final_norm", r"post_(?:bn|relu)"),
        ),
    ),
    Family(
        name="densenet",  # also of KerasCV; a transition belongs to the stage before it
        anchors=(r"conv1_conv", r"conv2_block_?1_concat"),
        rules=(
            ("stem", r"conv1_(?:conv|bn|relu)|pool1"),
            ("stage_{0}", r"conv(\d)_block_?\d+_.*"),
            ("stage_{0}", r"pool(\d)_.*"),
            ("final_norm", r"bn|relu"),
        ),
    ),
    Family(
        name="mobilenet",
        anchors=(r"conv_dw_1", r"conv_pw_1"),
        rules=(
            ("stem", r"conv1(?:_.*)?"),
            ("block_{0}", r"conv_(?:dw|pw|pad)_(\d+)(?:_.*)?"),
        ),
    ),
    Family(
        name="mobilenet_v2",  # `expanded_conv`, the first block, has no number
        anchors=(r"Conv1", r"expanded_conv_depthwise", r"block_1_expand"),
        rules=(
            ("stem", r"Conv1(?:_relu)?|bn_Conv1"),
            ("block_0", r"expanded_conv_.*"),
            ("block_{0}", r"block_(\d+)_.*"),
            ("top", r"Conv_1(?:_bn)?|out_relu"),
        ),
    ),
    Family(
        name="mobilenet_v3",  # small and large, also of KerasCV
        anchors=(r"[Cc]onv", r"expanded_conv_1_expand"),
        rules=(
            ("stem", r"[Cc]onv(?:_bn|_BatchNorm)?"),
            ("block_{0}", r"expanded_conv_(\d+)_.*"),
            ("block_0", r"expanded_conv_.*"),
            ("top", r"[Cc]onv_1(?:_bn|_BatchNorm)?"),
        ),
        tail=("top", r"(?:activation|re_lu|multiply)(?:_\d+)?"),
    ),
    Family(
        name="vgg",  # 16 and 19, also of KerasHub and KerasCV
        anchors=(r"block1_conv1", r"block1_pool"),
        unless=(r"block2_sepconv1",),
        rules=(("block_{0}", r"block(\d)_(?:conv\d|pool)"),),
    ),
    Family(
        name="xception",  # also of KerasHub; the shortcuts are unnamed and lie within their block
        anchors=(r"block1_conv1", r"block2_sepconv1"),
        rules=(("block_{0}", r"block(\d+)_.*"),),
    ),
    Family(
        name="inception_v3",  # only the concatenations are named
        anchors=(r"mixed0", r"mixed1"),
        rules=(("mixed_{0}", r"mixed(\d+)"),),
        closing=True,
        stem_end="MaxPooling2D",
    ),
    Family(
        name="inception_resnet_v2",
        anchors=(r"mixed_5b", r"block35_1_conv"),
        rules=(
            ("mixed_{0}", r"mixed_(\d[a-z])"),
            ("block{0}", r"block(35|17|8)_.*"),
            ("top", r"conv_7b.*"),
        ),
        closing=True,
        stem_end="MaxPooling2D",
    ),
    Family(
        name="nasnet",  # one group a cell; `reduce_4` lies between `cell_3` and `cell_5`
        anchors=(r"stem_conv1", r"normal_conv_1_0", r"reduction_conv_1_stem_1"),
        rules=(
            ("stem", r"stem_.*|.*_stem_[12]"),
            ("reduce_{0}", r".*_reduce_(\d+)"),
            ("cell_{0}", r"(?:normal|adjust|separable_conv_\d(?:_bn)?_normal)_.*_(\d+)"),
        ),
        tail=("top", _ACTIVATION),
    ),
    Family(
        name="convnext",  # prefixed with the model's name; downsampling opens its stage
        anchors=(r"(?:.*_)?stem_conv", r"(?:.*_)?stage_0_block_0_depthwise_conv"),
        rules=(
            ("stem", r"(?:.*_)?(?:prestem|stem)_.*"),
            ("stage_{0}", r"(?:.*_)?stage_(\d)_block_\d+_.*"),
            ("stage_1", r"(?:.*_)?downsampling_(?:conv|layernorm)_0"),
            ("stage_2", r"(?:.*_)?downsampling_(?:conv|layernorm)_1"),
            ("stage_3", r"(?:.*_)?downsampling_(?:conv|layernorm)_2"),
        ),
        tail=("final_norm", r"(?:global_.*_pooling2d|layer_normalization)(?:_\d+)?"),
    ),
    Family(
        name="glyphnet",  # the embedded default
        anchors=(r"stem_rescale", r"stage_1_conv1"),
        rules=(("stem", r"stem_.*"), ("stage_{0}", r"stage_(\d)_.*")),
    ),
)


_TEXT_EMBEDDINGS = r"(?:token|position|segment|rel)_embedding(?:/.*)?|embeddings_.*|embeddings/.*"
_BLOCK = r"transformer_layer_(\d+)/.*"

HUB_IMAGE = (
    Family(
        name="hub_resnet",  # v1, v1 "vd" with three stem convolutions, v2
        anchors=(r"conv1_conv", r"stack0_block0_1_conv", r"stack0_block0_out"),
        rules=(
            ("stem", r"conv[123]_(?:pad|conv|bn|relu)|pool1_(?:pad|pool)"),
            ("stage_{0}", r"stack(\d+)_block\d+_.*"),
            ("final_norm", r"post_(?:bn|relu)"),
        ),
    ),
    Family(
        name="hub_densenet",  # a transition belongs to the stage before it
        anchors=(r"conv1_conv", r"stack1_block1_concat"),
        rules=(
            ("stem", r"conv1_(?:conv|bn|relu)|pool1"),
            ("stage_{0}", r"stack(\d+)_block\d+_.*"),
            ("stage_{0}", r"transition(\d+)_.*"),
            ("final_norm", r"bn|relu"),
        ),
    ),
    Family(
        name="hub_mobilenet",
        anchors=(r"input_conv", r"block_0_0/.*"),
        rules=(
            ("stem", r"input_(?:pad|conv|batch_norm)"),
            ("block_{0}", r"block_(\d+)_\d+/.*"),
        ),
    ),
    Family(
        name="vit",
        anchors=(r"vit_patching_and_embedding/.*", r"vit_encoder/transformer_block_1/.*"),
        rules=(
            ("embeddings", r"vit_patching_and_embedding(?:/.*)?|vit_encoder/dropout"),
            ("layer_{0}", r"vit_encoder/transformer_block_(\d+)/.*"),
            ("final_norm", r"vit_encoder/ln"),
        ),
    ),
    Family(
        name="deit",
        anchors=(r"deit_patching_and_embedding/.*", r"deit_encoder/transformer_block_1/.*"),
        rules=(
            ("embeddings", r"deit_patching_and_embedding(?:/.*)?"),
            ("layer_{0}", r"deit_encoder/transformer_block_(\d+)/.*"),
            ("final_norm", r"deit_encoder/ln"),
        ),
    ),
    Family(
        name="dinov2",
        anchors=(r"embeddings/patch_embeddings/.*", r"encoder/layers_0/.*"),
        rules=(
            ("embeddings", r"embeddings(?:/.*)?"),
            ("layer_{0}", r"encoder/layers_(\d+)/.*"),
            ("final_norm", r"layernorm"),
        ),
    ),
)

HUB_TEXT = (
    Family(
        name="bert",
        anchors=(r"segment_embedding", r"transformer_layer_0/.*"),
        rules=(
            ("embeddings", _TEXT_EMBEDDINGS),
            ("layer_{0}", _BLOCK),
            ("pooler", r"pooled_dense"),
        ),
    ),
    Family(
        name="roberta",  # also XLM-RoBERTa; the embeddings are one composite layer
        anchors=(r"embeddings/token_embedding", r"transformer_layer_0/self_attention_layer/.*"),
        rules=(("embeddings", _TEXT_EMBEDDINGS), ("layer_{0}", _BLOCK)),
    ),
    Family(
        name="distilbert",
        anchors=(r"token_and_position_embedding/token_embedding", r"transformer_layer_0/.*"),
        rules=(
            ("embeddings", r"token_and_position_embedding/.*|embeddings_.*"),
            ("layer_{0}", _BLOCK),
        ),
    ),
    Family(
        name="deberta_v3",
        anchors=(r"rel_embedding", r"disentangled_attention_encoder_layer_0/.*"),
        rules=(
            ("embeddings", _TEXT_EMBEDDINGS),
            ("layer_{0}", r"disentangled_attention_encoder_layer_(\d+)/.*"),
        ),
    ),
    Family(
        name="albert",  # every layer of a group shares its weights, so there is one group for all
        anchors=(r"embedding_projection", r"group_0_inner_layer_0/.*"),
        rules=(
            ("embeddings", _TEXT_EMBEDDINGS + r"|embedding_projection"),
            ("shared_layers_{0}", r"group_(\d+)_inner_layer_\d+/.*"),
            ("pooler", r"pooled_dense"),
        ),
        note=(
            "ALBERT applies the same layer again and again, so that its last layers cannot train "
            "without its first"
        ),
    ),
    Family(
        name="gpt2",
        anchors=(r"position_embedding", r"transformer_layer_0/self_attention/.*", r"layer_norm"),
        rules=(
            ("embeddings", _TEXT_EMBEDDINGS),
            ("layer_{0}", _BLOCK),
            ("final_norm", r"layer_norm"),
        ),
    ),
    Family(
        name="llama",  # also Mistral and others built alike
        anchors=(r"token_embedding", r"transformer_layer_0/.*", r"sequence_output_layernorm"),
        rules=(
            ("embeddings", r"token_embedding(?:/.*)?"),
            ("layer_{0}", _BLOCK),
            ("final_norm", r"sequence_output_layernorm"),
        ),
    ),
    Family(
        name="gemma",  # also Gemma 2 and 3
        anchors=(r"token_embedding", r"decoder_block_0/.*", r"final_normalization"),
        rules=(
            ("embeddings", r"token_embedding(?:/.*)?"),
            ("layer_{0}", r"decoder_block_(\d+)/.*"),
            ("final_norm", r"final_normalization"),
        ),
    ),
    Family(
        name="encoder_decoder",  # T5 and BART
        anchors=(
            r"token_embedding",
            r"transformer_encoder_layer_0/.*",
            r"transformer_decoder_layer_0/.*",
        ),
        rules=(
            ("embeddings", r"token_embedding|(?:encoder|decoder)_(?:position_)?embedding.*"),
            ("encoder_layer_{0}", r"transformer_encoder_layer_(\d+)/.*"),
            ("encoder_final_norm", r"encoder_output_(?:layer_norm|dropout)"),
            ("decoder_layer_{0}", r"transformer_decoder_layer_(\d+)/.*"),
            ("decoder_final_norm", r"decoder_output_(?:layer_norm|dropout)"),
        ),
    ),
)


CV = (
    Family(
        name="cv_resnet",  # v1 and v2
        anchors=(r"conv1_conv", r"v2_stack_0_block1_.*"),
        rules=(
            ("stem", r"conv1_.*|pool1_.*"),
            ("stage_{0}", r"v2_stack_(\d)_block\d+_.*"),
            ("final_norm", r"post_(?:bn|relu)"),
        ),
    ),
    Family(
        name="cv_csp_darknet",
        anchors=(r"stem_conv_.*", r"dark2_.*"),
        rules=(("stem", r"stem_.*"), ("stage_{0}", r"dark(\d)_.*")),
    ),
)
