"""Flatbuffer tables written and read by field number, for a schema that has no Python package."""

import numpy as np


class Byte(int):
    """A number in a field of one byte."""


class Whole(int):
    """A number in a field of an unsigned 32-bit integer."""


class Writer:
    """Writes nested tables given as `{field number: value}`.

    Values are `Byte`, `Whole`, strings, arrays, tables, and lists of tables.
    """

    def __init__(self):
        import flatbuffers

        self._builder = flatbuffers.Builder(1024)

    def finished(self, table, identifier):
        """The bytes of a flatbuffer whose root is `table`."""
        self._builder.Finish(self._table(table), identifier)
        return bytes(self._builder.Output())

    def _table(self, fields):
        # What a table points to must be written before the table is begun.
        written = {k: v if isinstance(v, int) else self._away(v) for k, v in fields.items()}
        self._builder.StartObject(max(fields, default=-1) + 1)
        for slot, value in written.items():
            if isinstance(value, Byte):
                self._builder.PrependInt8Slot(slot, value, 0)
            elif isinstance(value, Whole):
                self._builder.PrependUint32Slot(slot, value, 0)
            else:
                self._builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return self._builder.EndObject()

    def _away(self, value):
        """The offset of what does not lie in the table itself."""
        if isinstance(value, str):
            return self._builder.CreateString(value)
        if isinstance(value, dict):
            return self._table(value)
        if isinstance(value, np.ndarray):
            return self._builder.CreateNumpyVector(value)
        offsets = [self._table(entry) for entry in value]
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return self._builder.EndVector()


class Reader:
    """Reads a table by field number."""

    def __init__(self, data, position):
        from flatbuffers.table import Table

        self._table = Table(data, position)

    @classmethod
    def root(cls, data):
        return cls(data, int.from_bytes(data[:4], "little"))

    def tables(self, slot):
        offset = self._offset(slot)
        if not offset:
            return []
        start = self._table.Vector(offset)
        places = [start + 4 * k for k in range(self._table.VectorLen(offset))]
        return [Reader(self._table.Bytes, self._table.Indirect(place)) for place in places]

    def table(self, slot):
        place = self._table.Pos + self._offset(slot)
        return Reader(self._table.Bytes, self._table.Indirect(place))

    def text(self, slot):
        return self._table.String(self._offset(slot) + self._table.Pos).decode("utf-8")

    def byte(self, slot):
        offset = self._offset(slot)
        return self._table.Bytes[self._table.Pos + offset] if offset else 0

    def _offset(self, slot):
        return self._table.Offset(4 + 2 * slot)
