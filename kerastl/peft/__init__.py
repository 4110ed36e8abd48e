"""Parameter-efficient tuning: small adapters beside a base that stands still."""

from kerastl.peft.adapter import Adapter, Method
from kerastl.peft.adding import Added, add
from kerastl.peft.bitfit import BitFit
from kerastl.peft.combine import Combined, combine
from kerastl.peft.extract import Extracted, extract
from kerastl.peft.life import activate, active, delete, disabled, merge, restore, unload
from kerastl.peft.lora import LoRA

__all__ = [
    "Adapter",
    "Added",
    "BitFit",
    "Combined",
    "Extracted",
    "LoRA",
    "Method",
    "activate",
    "active",
    "add",
    "combine",
    "delete",
    "disabled",
    "extract",
    "merge",
    "restore",
    "unload",
]
