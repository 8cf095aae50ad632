"""Judges requests by libraries that know nothing of zkbridge. Reads JSON, prints one line for each request."""

import base64
import json
import sys

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def standard(secret, headers, body):
    try:
        Webhook(secret).verify(body, headers)
        return "ok"
    except WebhookVerificationError as error:
        return f"refused: {error}"


def ed25519(public, headers, body):
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for version, signature in (one.split(",", 1) for one in headers["webhook-signature"].split(" ")):
        if version != "v1a":
            continue
        try:
            key.verify(base64.b64decode(signature), content)
            return "ok"
        except InvalidSignature:
            pass
    return "refused: no signature of this key"


def cloudevent(headers, body):
    event = from_http_event(HTTPMessage(headers=headers, body=body))
    return json.dumps({"attributes": event.get_attributes(), "data": event.get_data()}, default=str)


for line in sys.stdin:
    request = json.loads(line)
    body = base64.b64decode(request["body"])
    headers, how, key = request["headers"], request["how"], request["key"]
    if how == "standard":
        print(standard(key, headers, body))
    elif how == "ed25519":
        print(ed25519(key, headers, body))
    else:
        print(cloudevent(headers, body))
