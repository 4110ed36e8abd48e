"""A dict that does not change, so that what holds it can be compared, hashed and shared."""


class FrozenDict(dict):
    """A dict that cannot be changed; equal to any dict of the same items, whatever their order.

    Example:
        >>> FrozenDict(head=1.0) == {"head": 1.0}, len({FrozenDict(a=1), FrozenDict(a=1)})
        (True, 1)
    """

    def __hash__(self):
        return hash(frozenset(self.items()))

    def _refuse(self, *args, **kwargs):
        raise TypeError(
            "The multipliers of a phase cannot be changed. Make a new phase: "
            "`dataclasses.replace(phase, multipliers={...})`."
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self):
        return type(self), (dict(self),)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self
