"""Parameter-efficient tuning: small adapters beside a base that stands still."""

from kerastl.peft.adapter import Adapter, Method
from kerastl.peft.adding import Added, add
from kerastl.peft.bitfit import BitFit
from kerastl.peft.bottleneck import BottleneckAdapter
from kerastl.peft.combine import Combined, combine
from kerastl.peft.dora import DoRA
from kerastl.peft.extract import Extracted, extract
from kerastl.peft.files import load, save
from kerastl.peft.hugging_face import import_huggingface
from kerastl.peft.hugging_face_export import export_huggingface
from kerastl.peft.ia3 import IA3
from kerastl.peft.life import activate, active, delete, disabled, merge, restore, unload
from kerastl.peft.lora import LoRA
from kerastl.peft.norms import NormTuning
from kerastl.peft.pissa import PiSSA
from kerastl.peft.prefix_tuning import PrefixTuning
from kerastl.peft.prompt_tuning import PromptTuning
from kerastl.peft.shira import SHiRA
from kerastl.peft.vera import VeRA

__all__ = [
    "IA3",
    "Adapter",
    "Added",
    "BitFit",
    "BottleneckAdapter",
    "Combined",
    "DoRA",
    "Extracted",
    "LoRA",
    "Method",
    "NormTuning",
    "PiSSA",
    "PrefixTuning",
    "PromptTuning",
    "SHiRA",
    "VeRA",
    "activate",
    "active",
    "add",
    "combine",
    "delete",
    "disabled",
    "export_huggingface",
    "extract",
    "import_huggingface",
    "load",
    "merge",
    "restore",
    "save",
    "unload",
]
