"""Scripts here that are run by hand need packages that tests do not: pytest opens none of them."""

collect_ignore = ["make_peft_golden.py"]
