"""Declared layer groups of KerasCV's backbones that share no names with the other tables."""

from kerastl.groups._rules import Family

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
