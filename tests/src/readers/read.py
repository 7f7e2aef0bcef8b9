"""Reads Avro with fastavro.

Each line of standard input is a JSON array of the writer's schema, as text, the reader's or null,
and a datum, in hexadecimal digits. Each line of standard output is what the datum holds, in the form that
tests/src/readers.rs describes; an object with the one name "error" where fastavro cannot read it.

Logical types are converted by the library, and the result back: so what is printed went through
its conversion. Where a value is outside of what Python's types hold (years 1 to 9999, no
24:00), the number beneath is printed.
"""

import datetime
import io
import json
import struct
import sys

import fastavro
from fastavro import read

EPOCH = datetime.datetime(1970, 1, 1)
MICROSECOND = datetime.timedelta(microseconds=1)


class Raw:
    """What the library made of a number, as a number."""

    def __init__(self, value):
        self.value = value


def through(name, back):
    """Converts by the library where it can, and back."""
    convert = read.LOGICAL_READERS[name]

    def reader(data, writer_schema=None, reader_schema=None):
        try:
            return Raw(back(convert(data, writer_schema, reader_schema), writer_schema))
        except (OverflowError, ValueError):
            return data

    read.LOGICAL_READERS[name] = reader


def unscaled(decimal, schema):
    sign, digits, exponent = decimal.as_tuple()
    assert exponent == -schema.get("scale", 0), (exponent, schema)
    number = int("".join(map(str, digits)))
    return {"unscaled": str(-number if sign else number)}


def since_midnight(time, _):
    seconds = (time.hour * 60 + time.minute) * 60 + time.second
    return seconds * 1_000_000 + time.microsecond


def since_epoch(timestamp, _):
    return (timestamp.replace(tzinfo=None) - EPOCH) // MICROSECOND


through("int-date", lambda date, _: (date - EPOCH.date()).days)
through("long-time-micros", since_midnight)
through("long-timestamp-micros", since_epoch)
through("long-local-timestamp-micros", since_epoch)
through("bytes-decimal", unscaled)
through("string-uuid", lambda value, _: str(value))


def plain(value):
    if isinstance(value, Raw):
        return value.value
    if isinstance(value, float):
        bits = "nan" if value != value else struct.pack(">d", value).hex()
        return {"double": bits}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {name: plain(field) for name, field in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


schemas = {}


def parsed(text):
    if text not in schemas:
        schemas[text] = fastavro.parse_schema(json.loads(text))
    return schemas[text]


for line in sys.stdin:
    writer, reader, datum = json.loads(line)
    try:
        stream = io.BytesIO(bytes.fromhex(datum))
        reader = reader and parsed(reader)
        found = plain(fastavro.schemaless_reader(stream, parsed(writer), reader))
        rest = stream.read()
        if rest:
            found = {"error": f"{len(rest)} bytes too many"}
    except Exception as error:  # whatever the library says is a finding
        found = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(found, ensure_ascii=True), flush=True)
