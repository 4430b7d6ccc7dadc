"""Reads a case as JSON from each line of stdin, and writes the token or error for it.

A token is made as AWS's examples make it: a request that botocore presigns, without its scheme.
"""

import datetime
import json
import sys
from urllib.parse import urlencode

import botocore.auth
import botocore.session
from botocore.model import ServiceId
from botocore.signers import RequestSigner

now = None

# The only place where botocore's signer reads the clock.
botocore.auth.get_current_datetime = lambda *_, **__: now


def token(case):
    session = botocore.session.Session()
    session.set_credentials(case["key"], case["secret"], case["session"])
    signer = RequestSigner(
        ServiceId(case["service"]),
        case["region"],
        case["service"],
        "v4",
        session.get_credentials(),
        session.get_component("event_emitter"),
    )
    query = {"Action": "connect", "User": case["user"]}
    if case["serverless"]:
        query["ResourceType"] = "ServerlessCache"
    request = {
        "method": "GET",
        "url": f"{case['scheme']}://{case['name']}/?{urlencode(query)}",
        "body": {},
        "headers": {},
        "context": {},
    }
    url = signer.generate_presigned_url(
        request, operation_name="connect", expires_in=900, region_name=case["region"]
    )
    return url.removeprefix(f"{case['scheme']}://")


for line in sys.stdin:
    case = json.loads(line)
    now = datetime.datetime.fromtimestamp(case["at"], datetime.timezone.utc)
    try:
        response = {"token": token(case)}
    except Exception as error:
        response = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(response), flush=True)
