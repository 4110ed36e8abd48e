"""Declared layer groups of KerasHub's backbones.

Their blocks are composite layers, so the patterns reach into them by path. The numbers in group
names are the backbone's own: `layer_0` is BERT's first, `layer_1` is ViT's first.
"""

from kerastl.groups._rules import Family

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
