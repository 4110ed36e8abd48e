"""Parameter-efficient tuning: small adapters beside a base that stands still."""

from kerastl.peft.adapter import Adapter, Method
from kerastl.peft.adding import Added, add
from kerastl.peft.bitfit import BitFit
from kerastl.peft.bottleneck import BottleneckAdapter
from kerastl.peft.files import load, save
from kerastl.peft.life import activate, active, delete, disabled, merge, restore, unload
from kerastl.peft.lora import LoRA
from kerastl.peft.prefix_tuning import PrefixTuning
from kerastl.peft.prompt_tuning import PromptTuning

__all__ = [
    "Adapter",
    "Added",
    "BitFit",
    "BottleneckAdapter",
    "LoRA",
    "Method",
    "PrefixTuning",
    "PromptTuning",
    "activate",
    "active",
    "add",
    "delete",
    "disabled",
    "load",
    "merge",
    "restore",
    "save",
    "unload",
]
