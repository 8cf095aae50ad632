"""Reads Kafka messages with the official CloudEvents SDK and prints the events that it finds.

Standard input: a list of {"headers": {name: text}, "key": text, "value": base64}. Standard output: a list of
{"attributes": {…}, "data": …}, in the same order.
"""

import base64
import json
import sys

from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

events = []
for message in json.load(sys.stdin):
    headers = {name: value.encode() for name, value in message["headers"].items()}
    value = base64.b64decode(message["value"])
    # Without the key, which the SDK would take for the extension `partitionkey`.
    event = from_kafka(KafkaMessage(headers, None, value), JSONFormat(), CloudEvent)
    attributes = {name: str(value) for name, value in event.get_attributes().items()}
    attributes["time"] = event.get_time().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    events.append({"attributes": attributes, "data": event.get_data()})
json.dump(events, sys.stdout)
